"""Splits from rows: targets and weights on the scale that the training split sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.core import ConfigError, Split, Splits
from lossbench.datasets.splits import assemble
from lossbench.datasets.tables import targets
from lossbench.datasets.tables.splitting import Rows
from lossbench.datasets.tables.targets import Target


def assembled(
    name: str,
    target: Target,
    rows: Mapping[str, Rows],
    inputs: Callable[[Rows], Tensor],
    *,
    weights: NDArray[np.float64] | None,
    groups: Rows | None,
    **info: Any,
) -> Splits:
    """Splits of these rows: numbers standardised, and weights divided by their mean, both by the training split.

    `inputs` gives the inputs of rows; `weights` and `groups` are [n], `info` is what else there is to know of the data.

    Raises: ConfigError for a split in which nothing can be told apart, and for weights that are all 0.
    """
    _check_classes(name, target, rows)
    center, scale = (np.zeros(0), np.ones(0)) if target.classes else targets.scales(target.values[rows["train"]])
    mean_weight = 1.0 if weights is None else weights[rows["train"]].mean()
    if mean_weight == 0:
        raise ConfigError(f"dataset={name}: all weights of the training split are 0")

    def split(part: str) -> Split:
        places = rows[part]
        values = target.values[places]
        answers = values.astype(np.int64) if target.classes else ((values - center) / scale).astype(np.float32)
        metadata = {"row": torch.from_numpy(target.rows[places])}
        if groups is not None:
            metadata["group"] = torch.from_numpy(groups[places])
        counts = None if weights is None else torch.from_numpy(weights[places] / mean_weight).float()
        return Split(inputs(places), torch.from_numpy(answers), metadata, counts)

    several = len(target.names) > 1
    return assemble(
        split("train"),
        split("validation"),
        split("test"),
        name=name,
        task_type=target.task_type,
        licence="yours",
        classes=target.classes,
        center=float(center[0]) if len(center) == 1 else 0.0,
        scale=float(scale[0]) if len(scale) == 1 else 1.0,
        target_scales=tuple(zip(target.names, center.tolist(), scale.tolist(), strict=True)) if several else (),
        **info,
    )


def _check_classes(name: str, target: Target, rows: Mapping[str, Rows]) -> None:
    """Raises: ConfigError for a split in which nothing can be told apart."""
    if not target.classes:
        return
    for part, places in rows.items():
        codes = np.unique(target.values[places])
        if len(codes) < 2:
            only = target.classes[int(codes[0])]
            raise ConfigError(
                f"dataset={name}: all rows of the {part} split are of class {only}, so that nothing can be measured; "
                f"larger splits work, or dataset.stratify_on={target.names[0]}"
            )
