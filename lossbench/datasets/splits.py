"""From tensors to Splits: what is counted, fingerprinted and checked the same way for every dataset."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossbench.core import KINDS, BadInput, Facts, Sampling, Split, Splits


def assemble(
    train: Split, validation: Split, test: Split, *, more: dict[str, Split] | None = None, **facts: Any
) -> Splits:
    """Splits with the facts that follow from the tensors: shapes, sizes, class counts for training, fingerprint."""
    classes = facts.get("classes", ())
    labels = train.marks["label"] if train.targets is train.inputs and classes else train.targets
    counts = tuple(torch.bincount(labels.flatten().long(), minlength=len(classes)).tolist()) if classes else ()
    splits = (train, validation, test, *(more or {}).values())
    sampling = facts.pop("sampling", Sampling())
    if not sampling.train:
        sampling = replace(sampling, train=len(train), validation=len(validation), test=len(test))
    return Splits(
        Facts(
            inputs=tuple(train.inputs.shape[1:]),
            targets=tuple(train.targets.shape[1:]),
            class_counts=counts,
            sampling=sampling,
            fingerprint=fingerprint(*(tensor for split in splits for tensor in _distinct(split))),
            **facts,
        ),
        train,
        validation,
        test,
        more or {},
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

    Raises: BadInput for an unknown kind of problem, an empty split, numbers that are not finite (which rows),
        labels outside the classes, pictures whose grey values are no probabilities.
    """
    facts = splits.facts
    if facts.kind not in KINDS:
        raise BadInput(f"dataset.kind={facts.kind}: unknown; lossbench trains {', '.join(KINDS)}")
    for name, split in splits:
        if not len(split):
            raise BadInput(f"dataset={facts.name}: the {name} split is empty")
        for what, values in (("inputs", split.inputs), ("targets", split.targets)):
            finite = values.isfinite()
            if not finite.all():
                raise BadInput(f"dataset={facts.name}: {what} of {name} are not finite in rows {_rows(~finite)}")
        if facts.kind in ("autoencoder", "gan") and not facts.modes:
            _check_pictures(facts, name, split)
        elif facts.classes and (facts.kind != "embedding" or name == "train"):
            _check_labels(facts, name, split)


def _check_labels(facts: Facts, name: str, split: Split) -> None:
    outside = (split.targets < 0) | (split.targets >= len(facts.classes))
    if outside.any():
        found = sorted(set(split.targets[outside].tolist()))[:5]
        raise BadInput(
            f"dataset={facts.name}: labels {found} of {name} lie outside 0 … {len(facts.classes) - 1}, "
            f"in rows {_rows(outside)}"
        )


def _check_pictures(facts: Facts, name: str, split: Split) -> None:
    outside = (split.inputs < 0) | (split.inputs > 1)
    if outside.any():
        low, high = split.inputs.min().item(), split.inputs.max().item()
        raise BadInput(
            f"dataset={facts.name}: grey values of {name} reach from {low:.4g} to {high:.4g}, and pixels are read as "
            f"probabilities, 0 … 1, in rows {_rows(outside)}"
        )
    if not facts.classes or "label" not in split.marks:
        raise BadInput(
            f"dataset={facts.name}: {name} has no labels (marks['label'], classes) to tell pictures apart by"
        )


def _rows(bad: Tensor) -> str:
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist()
    return ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
