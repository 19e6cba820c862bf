"""From a configuration to the dataset."""

from __future__ import annotations

from collections.abc import Mapping

from omegaconf import DictConfig

from lossbench import datasets
from lossbench.config.catalogue import describe
from lossbench.config.task_types import TASKS
from lossbench.core import ConfigError, Splits
from lossbench.engine.randomness import seeded
from lossbench.runs.builders.targets import call
from lossbench.runs.builders.training import check_for_task


def splits(cfg: DictConfig) -> Splits:
    """The dataset, checked. Raises: ConfigError for data that cannot be trained on."""
    described = describe(str(cfg._target_))
    takes = described is not None and "task_type" in described.parameters
    with seeded(int(cfg.get("seed") or 0), "data"):  # a function of somebody's own may draw from the global streams
        made: Splits = call("dataset", cfg, drop=() if takes else ("task_type",))
    if not isinstance(made, Splits):
        raise ConfigError(
            f"dataset._target_={cfg._target_}: gave {type(made).__name__}; a dataset gives lossbench.core.Splits"
        )
    datasets.check(made)
    if cfg.get("task_type") and made.info.task_type != cfg.task_type:
        raise ConfigError(f"dataset.task_type={cfg.task_type}: the dataset says it is {made.info.task_type}")
    if made.info.task_type in TASKS:
        check_for_task(made)
    return made


def check_batch(size: int, per_class: int | None, splits: Splits) -> None:
    """Raises: ConfigError for batches larger than the training split, or of more classes than it has."""
    if size > len(splits.train):
        raise ConfigError(f"train.batch_size={size}: larger than the training split of {len(splits.train)} examples")
    if per_class is not None:
        targets = splits.train.targets
        if isinstance(targets, Mapping) or targets.dim() != 1 or targets.is_floating_point():
            raise ConfigError(f"train.per_class={per_class}: the targets of this dataset are no classes; leave it null")
        there = len(targets.unique())
        if size // per_class > there:
            raise ConfigError(
                f"train.batch_size={size}: {size // per_class} classes of {per_class} examples each, "
                f"and the training split has {there}; at most {there * per_class}"
            )
