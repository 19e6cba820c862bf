"""What a run records, of every kind: points, params, data, tags and a file."""

from __future__ import annotations

import time

from lossbench.core import DatasetInfo

FACTS = DatasetInfo("toy", "regression", (1,), (1,), "nowhere", "none", "ab" * 32)
POINTS = [(step, 1 / step) for step in range(1, 301)]


def record(recorder, points=POINTS, *, status="FINISHED"):
    """All kinds of entries; how long the longest call took."""
    longest = 0.0

    def timed(call, *words):
        nonlocal longest
        since = time.monotonic()
        call(*words)
        longest = max(longest, time.monotonic() - since)

    timed(recorder.params, {"lr": 0.1})
    timed(recorder.data, FACTS)
    timed(recorder.tags, {"lossbench.outcome": "finished"})
    with recorder.files() as folder:
        (folder / "note.txt").write_text("hello")
    for step, value in points:
        recorder.metrics(step, {"a": value})
        if step % 50 == 0:
            timed(recorder.store.flush, [recorder])
    timed(recorder.end, status)
    return longest
