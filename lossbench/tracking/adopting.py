"""Recording of what processes that are gone had written down for a store that was away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from lossbench.config.redaction import redacted
from lossbench.tracking.entries import MlflowSink, supersede
from lossbench.tracking.outage import away, reason
from lossbench.tracking.spool import Spool
from lossbench.tracking.writer import say

if TYPE_CHECKING:
    from mlflow.entities import Run

Find = Callable[[Mapping[str, str]], Iterable["Run"]]


def record(spool: Spool, sink: MlflowSink, uri: str, find: Find) -> set[str]:
    """Record the entries of a spool: the ids of their runs. Raises: the error of a store that is away again."""
    found, damaged = spool.entries()
    refused: list[Exception] = []
    for entry in found:
        try:
            sink.write(entry, again=True)
        except Exception as error:
            if away(error):
                raise
            refused.append(error)
    late = {str(sink.runs.get(entry["run"]) or entry["run"]) for entry in found}
    for run_id in late:
        _yield(sink, run_id, find)
    refused_path = spool.end(keep=bool(refused or damaged))
    message = f"recorded what waited for {redacted(uri)} since an outage: entries of {len(late)} run"
    message += "s"[: len(late) != 1]
    if refused:
        message += f"; {len(refused)} were refused ({reason(refused[0])}) and are kept in {refused_path}"
    if damaged:
        message += f"; {damaged} lines cannot be read, see {refused_path}"
    say(message)
    return late


def _yield(sink: MlflowSink, run_id: str, find: Find) -> None:
    """Mark a late record of a comparison as superseded where another process has finished that run since."""
    from mlflow.exceptions import MlflowException

    try:
        tags = sink.client.get_run(run_id).data.tags
    except MlflowException as error:
        if away(error):
            raise
        return  # refused, or deleted
    same = {name: tags.get(name, "") for name in ("lossbench.comparison", "lossbench.key", "lossbench.kind")}
    if all(same.values()) and same["lossbench.kind"] == "run":
        others = (found for found in find(same) if found.info.run_id != run_id)
        if any(found.info.status == "FINISHED" for found in others):
            supersede(sink.client, run_id)
