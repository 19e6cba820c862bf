"""What a store holds, read from its tables, and whether that is what an undisturbed command would have left."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy

BESIDE = ("time/", "memory/")  # metrics that say how long it took
GIVEN_UP = ("killed", "error")  # outcomes that blame no loss
TRAINED = ("run", "trial")


@dataclass(frozen=True)
class Record:
    """One run of a store: its points by metric, in the order of their steps, and its files by name."""

    status: str
    tags: dict[str, str]
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self.tags.get("lossbench.kind", "")

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells the runs of one command apart."""
        names = ("lossbench.kind", "loss", "seed", "lossbench.arm", "lossbench.trial", "lossbench.key")
        return tuple(self.tags.get(name, "") for name in names)

    def __str__(self) -> str:
        names = ("lossbench.kind", "loss", "lossbench.arm", "lossbench.trial", "seed")
        return " ".join(self.tags[name] for name in names if name in self.tags)


def records(uri: str, experiment: str, artifacts: Path | None = None) -> list[Record]:
    """All runs of an experiment; none where the store is not there, or not yet made.

    `artifacts` is where a server keeps what it is sent. An SQLite file is read from a copy, so that looking changes
    nothing that the next command finds.
    """
    with _looked_at(uri) as copy:
        engine = sqlalchemy.create_engine(copy, poolclass=sqlalchemy.NullPool)
        try:
            with engine.connect() as connection:
                return list(_records(connection, experiment, artifacts))
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.ProgrammingError):  # no such table
            return []


@contextmanager
def _looked_at(uri: str) -> Iterator[str]:
    if not uri.startswith("sqlite:///"):
        yield uri
        return
    path = Path(uri.removeprefix("sqlite:///"))
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("", "-wal", "-shm"):
            if (file := path.with_name(path.name + ending)).exists():
                shutil.copy(file, Path(folder, f"copy.db{ending}"))
        yield f"sqlite:///{folder}/copy.db"


def _records(connection: sqlalchemy.Connection, experiment: str, artifacts: Path | None) -> Iterator[Record]:
    def asked(query: str, **values: str) -> Sequence[Any]:
        return connection.execute(sqlalchemy.text(query), values).all()

    runs = asked(
        "SELECT r.run_uuid, r.status, r.artifact_uri FROM runs r JOIN experiments e USING (experiment_id) "
        "WHERE e.name = :name AND r.lifecycle_stage = 'active'",
        name=experiment,
    )
    for run, status, place in runs:
        tags = {
            str(key): str(value) for key, value in asked("SELECT key, value FROM tags WHERE run_uuid = :run", run=run)
        }
        points: dict[str, list[tuple[int, float]]] = {}
        for key, step, value in asked(
            "SELECT key, step, value FROM metrics WHERE run_uuid = :run ORDER BY step, timestamp", run=run
        ):
            if not key.startswith(BESIDE):
                points.setdefault(key, []).append((step, value))
        yield Record(status, tags, points, _files(place, artifacts))


def _files(place: str, artifacts: Path | None) -> list[str]:
    if place.startswith("mlflow-artifacts:"):
        assert artifacts is not None
        root = artifacts / place.removeprefix("mlflow-artifacts:").lstrip("/")
    else:
        root = Path(place.removeprefix("file://"))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def wrong(wanted: Sequence[Record], found: Sequence[Record], *, exact: bool, again: bool = False) -> list[str]:
    """Everything in which a store differs from what was wanted; `exact` is to the last bit.

    With `again`, a run may be there twice: its command was given again though its record was whole.
    """
    reasons = [f"{record} is left RUNNING" for record in found if record.status == "RUNNING"]
    finished = [record for record in found if record.status == "FINISHED" and record.kind in TRAINED]
    counted = Counter(record.identity for record in finished)
    by_identity = {record.identity: record for record in wanted if record.kind in TRAINED}
    for identity, record in by_identity.items():
        if not counted[identity]:
            reasons.append(f"{record} is missing")
        elif counted[identity] > 1 + again:
            reasons.append(f"{record} is there {counted[identity]} times")
    for record in finished:
        if record.identity not in by_identity:
            reasons.append(f"nobody asked for {record}")
        else:
            reasons += _differences(by_identity[record.identity], record, exact)
    for record in found:
        given_up = record.tags.get("lossbench.outcome") in GIVEN_UP or record.kind == "superseded"
        if record.kind != "comparison" and record.status not in ("FINISHED", "RUNNING") and not given_up:
            reasons.append(f"{record} is {record.status}, outcome {record.tags.get('lossbench.outcome')}")
    return reasons + _comparisons(wanted, found)


def _comparisons(wanted: Sequence[Record], found: Sequence[Record]) -> list[str]:
    theirs, ours = ([one for one in records if one.kind == "comparison"] for records in (wanted, found))
    if len(ours) != len(theirs):
        return [f"{len(ours)} comparisons, {len(theirs)} wanted"]
    names = {record.tags.get("lossbench.comparison") for record in ours}
    finished = [record for record in found if record.kind == "run" and record.status == "FINISHED"]
    reasons = [f"the comparison is {one.status}" for one in ours if one.status not in ("FINISHED", "RUNNING")]
    reasons += [
        f"{one} is in no comparison" for one in finished if names and one.tags["lossbench.comparison"] not in names
    ]
    return reasons + [
        f"the comparison lacks {set(a.files) - set(b.files)}"
        for a, b in zip(theirs, ours, strict=True)
        if a.files != b.files
    ]


def _differences(wanted: Record, found: Record, exact: bool) -> Iterator[str]:
    for tag in ("lossbench.outcome", "lossbench.best_step", "lossbench.steps", "lossbench.data", "lossbench.weights"):
        if wanted.tags.get(tag) != found.tags.get(tag):
            yield f"{found}: {tag} is {found.tags.get(tag)}, not {wanted.tags.get(tag)}"
    if wanted.files != found.files:
        yield f"{found}: its files are {found.files}, not {wanted.files}"
    for name in sorted(wanted.points.keys() ^ found.points.keys()):
        yield f"{found}: {name} is {'missing' if name in wanted.points else 'not wanted'}"
    for name in sorted(wanted.points.keys() & found.points.keys()):
        yield from _history(f"{found}: {name}", wanted.points[name], found.points[name], exact, whole=True)


def torn(wanted: Sequence[Record], found: Sequence[Record], *, exact: bool) -> list[str]:
    """What is wrong with unfinished records: each has the first points of its history, without holes."""
    by_identity = {record.identity: record for record in wanted}
    return [
        reason
        for record in found
        if record.status != "FINISHED" and record.identity in by_identity
        for name, points in record.points.items()
        for reason in _history(f"{record}: {name}", by_identity[record.identity].points[name], points, exact, False)
    ]


def _history(
    what: str, wanted: list[tuple[int, float]], found: list[tuple[int, float]], exact: bool, whole: bool
) -> Iterator[str]:
    steps, theirs = [step for step, _ in found], [step for step, _ in wanted]
    if len(set(steps)) < len(steps):
        yield f"{what} has {len(steps) - len(set(steps))} steps twice"
    elif steps != (theirs if whole else theirs[: len(steps)]):
        yield f"{what} has {len(steps)} of {len(theirs)} steps, or others"
    else:
        for (step, value), (_, other) in zip(found, wanted, strict=False):
            if value != other if exact else not math.isclose(value, other, rel_tol=1e-4, abs_tol=1e-6):
                yield f"{what} is {value!r} at step {step}, not {other!r}"
                return


def dumped(found: Sequence[Record]) -> list[dict[str, Any]]:
    """Records as JSON takes them."""
    return [asdict(record) for record in found]
