"""Clusters to send runs to, each started once for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import rays as _rays
from cluster import slurm as _slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[_slurm.Slurm]:
    """A Slurm of one node with two CPUs."""
    if why := _slurm.missing():
        pytest.skip(why)
    with _slurm.running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def rays() -> Iterator[_rays.Rays]:
    """A Ray of three nodes: a head that runs nothing and two workers with one CPU each."""
    if why := _rays.missing():
        pytest.skip(why)
    with _rays.running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray_jobs() -> Iterator[_rays.Rays]:
    """A Ray that takes Ray Jobs: a head with one CPU and a worker with another."""
    if why := _rays.missing():
        pytest.skip(why)
    with _rays.running(1, jobs=True) as cluster:
        yield cluster
