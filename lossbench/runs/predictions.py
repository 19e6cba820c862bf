"""The test predictions of a run, and how its metrics vary with the examples: for seeds that share a test split."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.config.task_types import load
from lossbench.core import Outputs, Split, Targets, each_tensor, weight_argument

FILE = "predictions.npz"
LARGEST = 5_000_000  # bytes of the file
PARTS = 20  # into which the examples are divided, each left out in turn
FEWEST = 5
TAG = 4_900  # characters that every store accepts in a tag


def parts(split: Split, task_type: str) -> Tensor:
    """The part of each example, [n]: at random, but the same for every run; examples of a group stay together.

    Groups are what the task takes for one unit: see `TaskType.units`.
    """
    units: Tensor | None = load(task_type).units(split)
    groups = torch.arange(len(split)) if units is None else units
    names, group = groups.cpu().unique(return_inverse=True)
    part = np.random.default_rng(0).permutation(len(names)) % min(PARTS, len(names))
    return torch.from_numpy(part)[group]


def left_out(task: Any, outputs: Outputs, split: Split, part: Tensor, calibration: Mapping[str, float]) -> str:
    """The metrics of `measure_tuned` with each part of the examples left out in turn, as JSON {metric: [values]}.

    They give the variance of a metric over the choice of test examples by the delete-a-group jackknife, also of metrics
    that are not means. Empty where there are too few parts; metrics that are undefined for some part are omitted.
    Source: Kott, The delete-a-group jackknife, Journal of Official Statistics 17, 2001.
    """
    numbers = range(int(part.max()) + 1)
    if len(numbers) < FEWEST:
        return ""
    measured = [
        task.measure_tuned(
            _at(outputs, rows), _at(split.targets, rows), calibration, **_at(weight_argument(split.weights), rows)
        )
        for rows in (part != number for number in numbers)
    ]
    values_of: dict[str, list[float]] = {}
    for name in [task.metrics[0].name, *measured[0]]:  # the primary one first, so that it fits in any case
        values = [float(f"{one.get(name, math.nan):.9g}") for one in measured]
        if all(map(math.isfinite, values)) and len(json.dumps(values_of | {name: values})) <= TAG:
            values_of[name] = values
    return json.dumps(values_of) if values_of else ""


def packed(outputs: Outputs, split: Split) -> bytes:
    """The content of the file: outputs, targets, groups and weights, a row per example; empty if it were too large.

    Numbers are in half precision where single precision would be too large.
    """
    by_name = dict(outputs) if isinstance(outputs, Mapping) else {"outputs": outputs}
    arrays = _targets(split.targets)
    if "group" in split.metadata:
        arrays["group"] = _array(split.metadata["group"])
    arrays |= {name: _array(values) for name, values in weight_argument(split.weights).items()}
    arrays |= {f"outputs.{name}" if name in arrays else name: _array(values) for name, values in by_name.items()}
    for dtype in (np.float32, np.float16):
        reduced = {name: a.astype(dtype) if a.dtype.kind == "f" else a for name, a in arrays.items()}
        file = io.BytesIO()
        np.savez_compressed(file, **reduced)  # type: ignore[arg-type]
        if file.tell() <= LARGEST:
            return file.getvalue()
    return b""


def _targets(targets: Targets) -> dict[str, NDArray[Any]]:
    if isinstance(targets, Mapping):
        return {f"targets.{name}": _array(values) for name, values in targets.items()}
    return {"targets": _array(targets)}


def _at(outputs: Outputs, rows: Tensor) -> Any:
    return each_tensor(outputs, lambda values: values[rows])


def _array(values: Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy()
