"""From tensors to Splits: what is counted, fingerprinted and checked the same way for every dataset."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from lossbench.core import KINDS, BadInput, Facts, Split, Splits


def assemble(
    train: Split, validation: Split, test: Split, *, more: dict[str, Split] | None = None, **facts: Any
) -> Splits:
    """Splits with the facts that follow from the tensors: shapes, class counts of the training split, fingerprint."""
    classes = facts.get("classes", ())
    counts = tuple(torch.bincount(train.targets.long(), minlength=len(classes)).tolist()) if classes else ()
    splits = (train, validation, test, *(more or {}).values())
    return Splits(
        Facts(
            inputs=tuple(train.inputs.shape[1:]),
            targets=tuple(train.targets.shape[1:]),
            class_counts=counts,
            fingerprint=fingerprint(*(tensor for split in splits for tensor in (split.inputs, split.targets))),
            **facts,
        ),
        train,
        validation,
        test,
        more or {},
    )


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
        and labels outside the classes.
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
        if facts.classes:
            outside = (split.targets < 0) | (split.targets >= len(facts.classes))
            if outside.any():
                found = sorted(set(split.targets[outside].tolist()))[:5]
                raise BadInput(
                    f"dataset={facts.name}: labels {found} of {name} lie outside 0 … {len(facts.classes) - 1}, "
                    f"in rows {_rows(outside)}"
                )


def _rows(bad: Tensor) -> str:
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist()
    return ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
