"""A comparison from several processes, whose store goes away and comes back: each run is trained once, none is lost."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from recorded import numbers
from small import SMALL
from tracking.test_outages import serving
from tracking.test_postgresql import made

from lossbench import tracking

pytestmark = pytest.mark.slow

# stacks of one batch size each, so that there is something to share out
GRID = ["loss=mse,huber", "seed=range(3)", f"train.batch_size={','.join(str(16 + n) for n in range(10))}"]
WORDS = ["-m", *GRID, "dataset=regression", *SMALL["regression"], "train.steps=400", "train.eval_every=100"]
RUNS = 60
AWAY_S = 4.0


class Restarted:
    """A store that can be stopped and started again; `watched` reads what it holds while it runs."""

    def __init__(self, uri: str, run: Callable[[], contextlib.AbstractContextManager], watched: str) -> None:
        self.uri, self._run, self._watched = uri, run, watched
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        self._running.enter_context(self._run())

    def stop(self) -> None:
        self._running.close()

    @contextmanager
    def looked_at(self) -> Iterator[tracking.Store]:
        store = tracking.Store(self._watched)
        yield store
        store.client._tracking_client.store.engine.dispose()


@pytest.fixture
def postgresql(migrated) -> Iterator[Restarted]:
    with made() as cluster:
        with cluster.serving():
            uri = cluster.new("shared")
        place = Restarted(uri, cluster.serving, uri)
        yield place
        place.stop()


@pytest.fixture
def server(migrated, tmp_path) -> Iterator[Restarted]:
    database = tmp_path / "served" / "mlflow.db"
    database.parent.mkdir()
    database.write_bytes(migrated.read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = Restarted(f"http://127.0.0.1:{port}", lambda: serving(port, database), f"sqlite:///{database}")
    yield place
    place.stop()


@pytest.fixture(params=["postgresql", "server"])
def place(request) -> Restarted:
    """Both kinds of store."""
    return request.getfixturevalue(request.param)


def until(true: Callable[[], object], seconds: float = 90) -> object:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def name_of(store) -> str:
    (found,) = until(lambda: store.find({"lossbench.kind": "comparison"}))
    return found.data.tags["lossbench.comparison"]


def finished(store) -> int:
    return sum(run.info.status == "FINISHED" for run in store.find({"lossbench.kind": "run"}))


def ended(one, seconds: float = 240) -> str:
    out, err = one.communicate(seconds)
    assert one.returncode == 0, out + err
    return out + err


@pytest.fixture(scope="module")
def alone(cache, migrated, tmp_path_factory) -> dict[str, dict]:
    """The numbers of each run, by key, where one process trains them undisturbed."""
    from faults import server as forks

    folder = tmp_path_factory.mktemp("alone")
    (folder / "mlflow.db").write_bytes(migrated.read_bytes())
    ended(forks.Told(forks.forked(WORDS, folder, {}, folder / "said"), folder / "said"))
    store = tracking.Store(f"sqlite:///{folder}/mlflow.db")
    return {run.data.tags["lossbench.key"]: numbers(store, run) for run in store.find({"lossbench.kind": "run"})}


def check(store, alone) -> None:
    """Each run has finished once, with the numbers of one process, and the comparison has."""
    (comparison,) = store.find({"lossbench.kind": "comparison"})
    assert comparison.info.status == "FINISHED"
    shared: dict[str, list] = {}
    for run in store.find({"lossbench.kind": "run"}):
        shared.setdefault(run.data.tags["lossbench.key"], []).append(run)
    assert shared.keys() == alone.keys()
    for key, runs in shared.items():
        assert [run.info.status for run in runs] == ["FINISHED"], key
    for key, (run,) in shared.items():
        one, other = numbers(store, run), alone[key]
        assert one.keys() == other.keys(), key
        for metric in one:
            for (step, a), (again, b) in zip(one[metric], other[metric], strict=True):
                assert step == again
                assert math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5), metric


def spooled(cache, one) -> bytes:
    """What a process has written down for a store that is away."""
    return b"".join(file.read_bytes() for file in (cache / "spool").glob(f"*/*-{one.command.process.pid}-*.jsonl"))


def begun(place, process, count=12):
    """A comparison with a leader and two members that have all trained something."""
    words = [*WORDS, f"tracking.uri={place.uri}"]
    lead = process(*words)
    with place.looked_at() as store:
        members = [process(*words, "--comparison", name_of(store)) for _ in range(2)]
        until(lambda: finished(store) >= count)
        (ledger,) = store.find({"lossbench.kind": "claims"})
        until(lambda: len(set(store.client.get_run(ledger.info.run_id).data.params.values())) == 3)
    return lead, members


def test_what_is_trained_while_the_store_is_away_is_recorded_once(place, process, alone):
    lead, members = begun(place, process)
    place.stop()
    time.sleep(AWAY_S)
    place.start()
    for one in (lead, *members):
        ended(one)
    with place.looked_at() as store:
        check(store, alone)


@pytest.mark.parametrize("leads", [False, True], ids=["a member", "the leader"])
def test_what_one_trained_that_was_killed_while_the_store_was_away_counts_once(leads, place, process, cache, alone):
    lead, members = begun(place, process)
    killed = lead if leads else members[0]
    place.stop()
    until(lambda: b'"status": "FINISHED"' in spooled(cache, killed))
    killed.kill()
    place.start()
    for one in {lead, *members} - {killed}:
        ended(one)
    assert not spooled(cache, killed)
    with place.looked_at() as store:
        check(store, alone)


def test_one_process_goes_on_while_the_store_is_away_and_its_claims_follow(place, process, cache, alone):
    lead = process(*WORDS, f"tracking.uri={place.uri}")
    with place.looked_at() as store:
        until(lambda: finished(store) >= 6)
    place.stop()
    until(lambda: spooled(cache, lead).count(b'"status": "FINISHED"') > 6)
    place.start()
    ended(lead)
    with place.looked_at() as store:
        check(store, alone)
        experiment = store.client.get_experiment_by_name("lossbench claims").experiment_id
        (ledger,) = store.client.search_runs([experiment], run_view_type=3)
        print(len(ledger.data.params))
        assert sum(name.startswith("run.") for name in ledger.data.params) == RUNS
