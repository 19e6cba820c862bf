"""One comparison and its store, which the tests of this folder share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

import lossbench as door

TINY = {
    **{"train.steps": 12, "train.batch_size": 16, "model.hidden": [8]},
    **{"dataset.train": 60, "dataset.validation": 40, "dataset.test": 40},
}


def halved(prediction, target, *, k=1.0):
    """Half the squared error, times k."""
    return k * (prediction - target).square().mean(-1) / 2


halved.__module__ = "__main__"  # as in a notebook


@pytest.fixture
def tiny() -> dict[str, object]:
    """Settings with which a run takes a tenth of a second."""
    return dict(TINY)


@pytest.fixture
def own_loss():
    """A loss that no other process can import."""
    return halved


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, cache: Path, migrated: Path) -> Path:
    """The working directory of the shared comparison, with its store."""
    path = tmp_path_factory.mktemp("door")
    shutil.copy(migrated, path / "mlflow.db")
    return path


@pytest.fixture(scope="session")
def found(folder: Path) -> Iterator[door.Comparison]:
    """A comparison of three losses on three seeds."""
    before = os.environ.pop("MLFLOW_TRACKING_URI", None)
    with chdir(folder):
        yield door.compare(
            dataset="regression", losses=["mse", ("huber", {"delta": 0.5}), halved], seeds=3, settings=TINY, quiet=True
        )
    if before:
        os.environ["MLFLOW_TRACKING_URI"] = before
