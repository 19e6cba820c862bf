"""What a store holds of the runs that a test made."""

from __future__ import annotations

from pathlib import Path


def runs(store, kind="run"):
    return store.find({"lossbench.kind": kind})


def numbers(store, run):
    """Every recorded point of a run that time does not decide."""
    names = [name for name in run.data.metrics if not name.startswith(("time/", "memory/"))]
    return {n: [(p.step, p.value) for p in store.client.get_metric_history(run.info.run_id, n)] for n in names}


def artifacts(store, run, folder=""):
    return {Path(file.path).name for file in store.client.list_artifacts(run.info.run_id, folder)}
