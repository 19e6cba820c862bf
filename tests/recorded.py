"""What a store holds of the runs that a test made."""

from __future__ import annotations

import json
import math
from pathlib import Path


def runs(store, kind="run"):
    return store.find({"lossbench.kind": kind})


def numbers(store, run):
    """Every recorded point of a run that time does not decide."""
    names = [name for name in run.data.metrics if not name.startswith(("time/", "memory/"))]
    return {n: [(p.step, p.value) for p in store.client.get_metric_history(run.info.run_id, n)] for n in names}


def artifacts(store, run, folder=""):
    return {Path(file.path).name for file in store.client.list_artifacts(run.info.run_id, folder)}


def tagged(run):
    """The range of each metric, as the record has it."""
    found = json.loads(run.data.tags["lossbench.ranges"]).items()
    return {n: (-math.inf if low is None else low, math.inf if high is None else high) for n, (low, high) in found}


def measured(run, split):
    """The metrics on a split, and what was tuned on it."""
    return {n.partition("/")[2]: value for n, value in run.data.metrics.items() if n.startswith(f"{split}/")}


def outside(values, ranges):
    """What lies outside the range of its metric, by more than rounding."""
    ends = {name: (low - 1e-9, high + 1e-9) for name, (low, high) in ranges.items() if name in values}
    return {name: values[name] for name, (low, high) in ends.items() if not low <= values[name] <= high}
