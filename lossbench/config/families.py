"""The families of the catalogue, one for each module of `losses/`, in reading order. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossbench.config import catalogue
from lossbench.config.catalogue import Entry
from lossbench.config.task_types import TASK_TYPES

TITLES = {
    "regression": "Regression",
    "classification": "Classification",
    "imbalance": "Imbalance",
    "noise": "Label noise",
    "boxes": "Object detection",
    "autoencoder": "Autoencoders",
    "gan": "GAN",
    "embedding": "Embedding",
    "segmentation": "Segmentation",
    "sequence": "Sequence",
}


@dataclass(frozen=True)
class Family:
    """Losses of one module, and `guests`: those of other families that fit its task type too."""

    name: str
    title: str
    about: str
    members: tuple[Entry, ...]
    guests: tuple[Entry, ...]


def families(entries: Sequence[Entry], *, guests: bool = True) -> list[Family]:
    """The families that have a member or a guest, in order; foreign modules come last, by name."""
    names = [*TITLES, *sorted({entry.family for entry in entries} - set(TITLES))]
    found = [_family(name, entries, guests) for name in names]
    return [one for one in found if one.members or one.guests]


def _family(name: str, entries: Sequence[Entry], welcome: bool) -> Family:
    members = sorted((entry for entry in entries if entry.family == name), key=lambda entry: entry.name)
    fits = name if welcome and name in TASK_TYPES else ""  # a family that is a task type has its name
    guests = [entry for entry in entries if fits in entry.task_types and entry.family != name]
    about = catalogue.about(members[0].target.rpartition(".")[0]) if members else ""
    return Family(name, TITLES.get(name, name), about, tuple(members), tuple(guests))
