"""What a run keeps of its test predictions, where all seeds share a test split: there it is examples that vary."""

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
from lossbench.core import Outputs, Split, Targets, each_tensor

FILE = "predictions.npz"
LARGEST = 5_000_000  # bytes of it
PARTS = 20  # that the examples are dealt into, each left out in turn
FEWEST = 5
TAG = 4_900  # characters that every store takes


def parts(split: Split, task_type: str) -> Tensor:
    """In which part each example is, [n]: dealt at random, the same for every run; those of a group stay together.

    Groups are what the task takes for one unit: see `TaskType.units`.
    """
    units: Tensor | None = load(task_type).units(split)
    groups = torch.arange(len(split)) if units is None else units
    found, group = groups.cpu().unique(return_inverse=True)
    dealt = np.random.default_rng(0).permutation(len(found)) % min(PARTS, len(found))
    return torch.from_numpy(dealt)[group]


def left_out(task: Any, outputs: Outputs, targets: Targets, part: Tensor, tuned: Mapping[str, float]) -> str:
    """The watched metrics with each part of the examples left out in turn, as JSON {metric: [values]}.

    They say how a metric varies with the examples that it happens to be measured on, also one that is no mean, by the
    delete-a-group jackknife. Empty where there are too few parts; a metric that some parts leave undefined is left out.
    Source: Kott, The delete-a-group jackknife, Journal of Official Statistics 17, 2001.
    """
    numbers = range(int(part.max()) + 1)
    if len(numbers) < FEWEST:
        return ""
    measured = [
        task.measure_tuned(_at(outputs, part != number), _at(targets, part != number), tuned) for number in numbers
    ]
    told: dict[str, list[float]] = {}
    for name in [task.metrics[0].name, *measured[0]]:  # the primary one has its place whatever else does not fit
        values = [float(f"{one.get(name, math.nan):.9g}") for one in measured]
        if all(map(math.isfinite, values)) and len(json.dumps(told | {name: values})) <= TAG:
            told[name] = values
    return json.dumps(told) if told else ""


def packed(outputs: Outputs, split: Split) -> bytes:
    """The file: outputs and targets, an example a row, and its group; empty where it would be too large.

    Outputs that are too large as they are stand there in half precision.
    """
    named = dict(outputs) if isinstance(outputs, Mapping) else {"outputs": outputs}
    arrays = {name: _array(values) for name, values in named.items()} | _targets(split.targets)
    if "group" in split.metadata:
        arrays["group"] = _array(split.metadata["group"])
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


def _at(given: Outputs, rows: Tensor) -> Any:
    return each_tensor(given, lambda values: values[rows])


def _array(values: Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy()
