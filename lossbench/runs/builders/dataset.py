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
    """Load and check the dataset. Raises: ConfigError for data that cannot be trained on."""
    described = describe(str(cfg._target_))
    takes_task_type = described is not None and "task_type" in described.parameters
    with seeded(int(cfg.get("seed") or 0), "data"):  # a foreign function may draw from the global generators
        splits: Splits = call("dataset", cfg, drop=() if takes_task_type else ("task_type",))
    if not isinstance(splits, Splits):
        raise ConfigError(
            f"dataset._target_={cfg._target_}: returned {type(splits).__name__}; lossbench.core.Splits works"
        )
    datasets.check(splits)
    if cfg.get("task_type") and splits.info.task_type != cfg.task_type:
        raise ConfigError(f"dataset.task_type={cfg.task_type}: the dataset says it is {splits.info.task_type}")
    if splits.info.task_type in TASKS:
        check_for_task(splits)
    return splits


def check_batch(size: int, per_class: int | None, splits: Splits) -> None:
    """Check that the training split has enough examples and classes for a batch. Raises: ConfigError otherwise."""
    if size > len(splits.train):
        raise ConfigError(f"train.batch_size={size}: larger than the training split of {len(splits.train)} examples")
    if per_class is not None:
        targets = splits.train.targets
        if isinstance(targets, Mapping) or targets.dim() != 1 or targets.is_floating_point():
            raise ConfigError(
                f"train.per_class={per_class}: the targets of this dataset are not classes; leave it null"
            )
        classes = len(targets.unique())
        if size // per_class > classes:
            raise ConfigError(
                f"train.batch_size={size}: needs {size // per_class} classes of {per_class} examples each, "
                f"and the training split has {classes}; at most {classes * per_class} works"
            )
