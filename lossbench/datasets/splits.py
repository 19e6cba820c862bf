"""From tensors to Splits: what is counted, fingerprinted and checked the same way for every dataset."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossbench.core import TASK_TYPES, ConfigError, DatasetInfo, Sampling, Split, Splits


def assemble(
    train: Split, validation: Split, test: Split, *, extra_tests: dict[str, Split] | None = None, **info: Any
) -> Splits:
    """Splits with the facts that follow from the tensors: shapes, sizes, class counts for training, fingerprint."""
    classes = info.get("classes", ())
    labels = train.metadata["label"] if train.targets is train.inputs and classes else train.targets
    counts = tuple(torch.bincount(labels.flatten().long(), minlength=len(classes)).tolist()) if classes else ()
    splits = (train, validation, test, *(extra_tests or {}).values())
    sampling = info.pop("sampling", Sampling())
    if not sampling.train:
        sampling = replace(sampling, train=len(train), validation=len(validation), test=len(test))
    return Splits(
        DatasetInfo(
            inputs=tuple(train.inputs.shape[1:]),
            targets=tuple(train.targets.shape[1:]),
            class_counts=counts,
            sampling=sampling,
            fingerprint=fingerprint(*(tensor for split in splits for tensor in _distinct(split))),
            **info,
        ),
        train,
        validation,
        test,
        extra_tests or {},
    )


def _distinct(split: Split) -> tuple[Tensor, ...]:
    return (split.inputs,) if split.targets is split.inputs else (split.inputs, split.targets)


def moments(pixels: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of bytes, by counting each value: exact, whereas a float sum depends on threads."""
    counts = torch.bincount(pixels.flatten(), minlength=256).double()
    values = torch.arange(256, dtype=torch.float64)
    mean = (counts @ values) / counts.sum()
    return float(mean), float(((counts @ (values - mean).square()) / (counts.sum() - 1)).sqrt())


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256 over the bytes of tensors, their shapes and types."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def check(splits: Splits) -> None:
    """Refuse data that cannot be trained on.

    Raises: ConfigError for an unknown task type, an empty split, numbers that are not finite (which rows),
        labels outside the classes, pictures whose grey values are no probabilities.
    """
    info = splits.info
    if info.task_type not in TASK_TYPES:
        raise ConfigError(f"dataset.task_type={info.task_type}: unknown; lossbench trains {', '.join(TASK_TYPES)}")
    for name, split in splits:
        if not len(split):
            raise ConfigError(f"dataset={info.name}: the {name} split is empty")
        for what, values in (("inputs", split.inputs), ("targets", split.targets)):
            finite = values.isfinite()
            if not finite.all():
                raise ConfigError(f"dataset={info.name}: {what} of {name} are not finite in rows {_rows(~finite)}")
        if info.task_type in ("autoencoder", "gan") and not info.mixture_means:
            _check_pictures(info, name, split)
        elif info.classes and (info.task_type != "embedding" or name == "train"):
            _check_labels(info, name, split)


def _check_labels(info: DatasetInfo, name: str, split: Split) -> None:
    outside = (split.targets < 0) | (split.targets >= len(info.classes))
    if outside.any():
        found = sorted(set(split.targets[outside].tolist()))[:5]
        raise ConfigError(
            f"dataset={info.name}: labels {found} of {name} lie outside 0 … {len(info.classes) - 1}, "
            f"in rows {_rows(outside)}"
        )


def _check_pictures(info: DatasetInfo, name: str, split: Split) -> None:
    outside = (split.inputs < 0) | (split.inputs > 1)
    if outside.any():
        low, high = split.inputs.min().item(), split.inputs.max().item()
        raise ConfigError(
            f"dataset={info.name}: grey values of {name} reach from {low:.4g} to {high:.4g}, and pixels are read as "
            f"probabilities, 0 … 1, in rows {_rows(outside)}"
        )
    if not info.classes or "label" not in split.metadata:
        raise ConfigError(
            f"dataset={info.name}: {name} has no labels (marks['label'], classes) to tell pictures apart by"
        )


def _rows(bad: Tensor) -> str:
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist()
    return ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
