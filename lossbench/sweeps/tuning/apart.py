"""Keeps what a search sees apart from what the final runs test on, where each seed splits one pool of examples anew."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from omegaconf import DictConfig

from lossbench.config import catalogue
from lossbench.core import ConfigError, Split, Splits, tensors_of
from lossbench.sweeps.stacks import Datasets


def wanted(trial: DictConfig, final: DictConfig, datasets: Datasets) -> bool:
    """Whether search and final runs need separate stages: their data differ, and the dataset has a `stage` setting.

    Raises: ConfigError for a dataset without one, where a final run would test on examples that a trial has seen.
    """
    if trial.dataset == final.dataset:  # one split for all seeds; no trial sees its test part
        return False
    target = str(trial.dataset._target_)
    described = catalogue.describe(target)
    if described and "stage" in described.parameters:
        return True
    if not target.startswith("lossbench."):  # lossbench's own datasets without stages generate new examples
        _refuse(target, datasets(trial), datasets(final), int(final.seed))
    return False


def staged(words: Sequence[str], stage: str) -> list[str]:
    """The overrides of a run, with its stage."""
    return [f"++dataset.stage={stage}", *words]


def examples(split: Split) -> list[bytes]:
    """A hash of each example's input and target."""
    tensors = [tensor.cpu().numpy() for tensor in (split.inputs, *tensors_of(split.targets))]
    return [hashlib.sha256(b"".join(row.tobytes() for row in rows)).digest() for rows in zip(*tensors, strict=True)]


def _refuse(target: str, searched: Splits, final: Splits, seed: int) -> None:
    seen = {example for split in (searched.train, searched.validation) for example in examples(split)}
    both = sum(example in seen for example in examples(final.test))
    if both:
        raise ConfigError(
            f"dataset={final.info.name}: its search would see {both} of the {len(final.test)} examples that seed "
            f"{seed} tests on\ndataset.seed=0 keeps one split for all seeds; or let {target} take `stage`, search or "
            "final, and keep them apart"
        )
