"""From tensors to Splits: counts, fingerprints and checks that are the same for every dataset."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossbench.core import ConfigError, DatasetInfo, Encoding, Sampling, Split, Splits, tensors_of


def assemble(
    train: Split,
    validation: Split,
    test: Split,
    *,
    extra_tests: dict[str, Split] | None = None,
    encoding: Encoding | None = None,
    **info: Any,
) -> Splits:
    """Splits with what follows from the tensors: shapes, sizes, class counts for training, fingerprint.

    Raises: ConfigError for splits of something else.
    """
    splits = (train, validation, test, *(extra_tests or {}).values())
    for tensor in (tensor for split in splits for tensor in _distinct(split)):
        if not isinstance(tensor, Tensor):
            raise ConfigError(f"dataset={info.get('name')}: a split holds a {type(tensor).__name__}; tensors work")
    classes = info.get("classes", ())
    several = isinstance(train.targets, Mapping)
    labels = train.metadata["label"] if classes and (train.targets is train.inputs or several) else train.targets
    counts = tuple(torch.bincount(labels.flatten().long(), minlength=len(classes)).tolist()) if classes else ()
    sampling = info.pop("sampling", Sampling())
    if not sampling.train:
        sampling = replace(sampling, train=len(train), validation=len(validation), test=len(test))
    return Splits(
        DatasetInfo(
            inputs=tuple(train.inputs.shape[1:]),
            targets=() if several else tuple(train.targets.shape[1:]),
            class_counts=counts,
            sampling=sampling,
            fingerprint=fingerprint(*(tensor for split in splits for tensor in _distinct(split))),
            **info,
        ),
        train,
        validation,
        test,
        extra_tests or {},
        encoding,
    )


def _distinct(split: Split) -> tuple[Tensor, ...]:
    tensors = (split.inputs,) if split.targets is split.inputs else (split.inputs, *tensors_of(split.targets))
    return tensors if split.weights is None else (*tensors, split.weights)


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
    """Reject data that cannot be trained on; what a task needs beside that it checks itself: see `TaskType.check`.

    Raises: ConfigError for an empty split, for values that are not finite, with their rows, and for weights that are
    not in all splits, or do not say how much each example counts.
    """
    info = splits.info
    for name, split in splits:
        if not len(split):
            raise ConfigError(f"dataset={info.name}: the {name} split is empty")
        _check_columns(info, name, split)
        for tensor in tensors_of(split.targets):
            if len(tensor) != len(split):
                raise ConfigError(f"dataset={info.name}: {name} has {len(split)} inputs and {len(tensor)} targets")
        for what, values in (("inputs", split.inputs), *(("targets", one) for one in tensors_of(split.targets))):
            finite = values.isfinite()
            if not finite.all():
                raise ConfigError(f"dataset={info.name}: {what} of {name} are not finite in rows {_rows(~finite)}")
        _check_weights(info, name, split, given=splits.train.weights is not None)
    _check_mean(info, splits.train)


def _check_weights(info: DatasetInfo, name: str, split: Split, *, given: bool) -> None:
    """`given`: the training split has weights. Raises: ConfigError."""
    weights = split.weights
    if (weights is not None) != given:
        has, lacks = ("train", name) if given else (name, "train")
        raise ConfigError(
            f"dataset={info.name}: {has} has weights of examples and {lacks} has none; all splits or none"
        )
    if weights is None:
        return
    if weights.shape != (len(split),) or not weights.is_floating_point():
        raise ConfigError(
            f"dataset={info.name}: weights of {name} are {list(weights.shape)} of {weights.dtype}; "
            f"[{len(split)}] of floats works"
        )
    bad = ~(weights.isfinite() & (weights >= 0))
    if bad.any():
        raise ConfigError(f"dataset={info.name}: weights of {name} are not finite, or below 0, in rows {_rows(bad)}")
    if not weights.any():
        raise ConfigError(f"dataset={info.name}: weights of {name} are all 0, so that no example counts")


def _check_mean(info: DatasetInfo, train: Split) -> None:
    """Raises: ConfigError for weights that would change the size of every step."""
    if train.weights is not None and not math.isclose(mean := train.weights.double().mean().item(), 1, rel_tol=1e-3):
        raise ConfigError(
            f"dataset={info.name}: weights of train have the mean {mean:.4g}, by which steps would grow; "
            "divide those of all splits by it"
        )


def check_labels(info: DatasetInfo, name: str, split: Split) -> None:
    """Raises: ConfigError for labels outside the classes, where there are classes."""
    if not info.classes:
        return
    outside = (split.targets < 0) | (split.targets >= len(info.classes))
    if outside.any():
        found = sorted(set(split.targets[outside].tolist()))[:5]
        raise ConfigError(
            f"dataset={info.name}: labels {found} of {name} lie outside 0 … {len(info.classes) - 1}, "
            f"in rows {_rows(outside)}"
        )


def check_pictures(info: DatasetInfo, name: str, split: Split) -> None:
    """Raises: ConfigError for grey values outside 0 … 1, and for pictures without labels."""
    outside = (split.inputs < 0) | (split.inputs > 1)
    if outside.any():
        low, high = split.inputs.min().item(), split.inputs.max().item()
        raise ConfigError(
            f"dataset={info.name}: grey values of {name} reach from {low:.4g} to {high:.4g}, and pixels are read as "
            f"probabilities, 0 … 1, in rows {_rows(outside)}"
        )
    if not info.classes or "label" not in split.metadata:
        raise ConfigError(
            f"dataset={info.name}: {name} has no labels to tell pictures apart by; set metadata['label'] and classes"
        )


def _rows(bad: Tensor) -> str:
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist()
    return ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")


def _check_columns(info: DatasetInfo, name: str, split: Split) -> None:
    """Raises: ConfigError for inputs that are not these columns, and for codes of categories that have no level."""
    if not info.columns:
        return
    if split.inputs.shape[1:] != (len(info.columns),):
        shape = list(split.inputs.shape)
        raise ConfigError(f"dataset={info.name}: {name} has inputs {shape}, and {len(info.columns)} columns are named")
    for place, column in enumerate(info.columns):
        codes = split.inputs[:, place]
        wrong = ((codes - codes.round()).abs() > 0) | (codes < 0) | (codes >= column.levels)  # not NaN: see `check`
        if column.levels and wrong.any():
            raise ConfigError(
                f"dataset={info.name}: codes of {column.name} in {name} are not 0 … {column.levels - 1}, "
                f"in rows {_rows(wrong)}"
            )
