"""A comparison from several processes, whose store goes away and comes back: each run is trained once, none is lost."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from recorded import numbers
from small import SMALL
from tracking.test_outages import serving
from tracking.test_postgresql import made

from lossbench import tracking
from lossbench.tracking.claims import Ledger

pytestmark = pytest.mark.slow

# stacks of one batch size each, so that there is something to share out
GRID = ["loss=mse,huber", "seed=range(2)", f"train.batch_size={','.join(str(16 + n) for n in range(8))}"]
WORDS = ["-m", *GRID, "dataset=regression", *SMALL["regression"], "train.steps=400", "train.eval_every=100"]
RUNS = 32
AWAY_S = 4.0


class Restarted:
    """A store that can be stopped and started again, at `uri`; `watched` is the one to read what it holds."""

    uri = watched = ""

    def __init__(self, run: Callable[[], contextlib.AbstractContextManager]) -> None:
        self._run = run
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        self._running.enter_context(self._run())

    def stop(self) -> None:
        self._running.close()

    @contextmanager
    def looked_at(self) -> Iterator[tracking.Store]:
        store = tracking.Store(self.watched)
        yield store
        store.client._tracking_client.store.engine.dispose()


@pytest.fixture(scope="module")
def cluster(cache) -> Iterator[Callable[[str], Restarted]]:
    """Makes databases, with an empty store in each, in a PostgreSQL that can be stopped and started again."""
    with made() as one:
        place = Restarted(one.serving)
        tracking.Store(migrated := one.new("migrated")).client._tracking_client.store.engine.dispose()
        database = migrated.rpartition("/")[2]

        def new(name: str) -> Restarted:
            place.uri = place.watched = one.new(name, template=database)
            return place

        yield new
        place.stop()


@pytest.fixture
def postgresql(cluster, request) -> Restarted:
    return cluster(f"test{abs(hash(request.node.name))}")


@pytest.fixture
def server(here) -> Iterator[Restarted]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = Restarted(lambda: serving(port, here / "mlflow.db"))
    place.uri, place.watched = f"http://127.0.0.1:{port}", f"sqlite:///{here}/mlflow.db"
    yield place
    place.stop()


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


def said(one) -> str:
    file = Path(f"{one.out}.out")
    return file.read_text(encoding="utf-8") if file.exists() else ""


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


def spooled(cache, one) -> int:
    """How many runs a process has written down as finished, for a store that is away."""
    files = (cache / "spool").glob(f"*/*-{one.command.process.pid}-*.jsonl")
    return sum(file.read_bytes().count(b'"status": "FINISHED"') for file in files)


def begun(place, process, **options):
    """A comparison with a leader and two members that have all claimed something."""
    words = [*WORDS, f"tracking.uri={place.uri}"]
    lead = process(*words, **options)
    with place.looked_at() as store:
        members = [process(*words, "--comparison", name_of(store), **options) for _ in range(2)]
        (ledger,) = until(lambda: store.find({"lossbench.kind": "claims"}))
        until(lambda: len(set(store.client.get_run(ledger.info.run_id).data.params.values())) == 3)
    return lead, members


def test_what_is_trained_while_a_server_is_away_is_recorded_once(server, process, alone):
    lead, members = begun(server, process)
    server.stop()
    time.sleep(AWAY_S)
    server.start()
    for one in (lead, *members):
        ended(one)
    with server.looked_at() as store:
        check(store, alone)


def test_what_a_member_trained_that_was_killed_while_the_store_was_away_counts_once(postgresql, process, cache, alone):
    lead, members = begun(postgresql, process)
    postgresql.stop()
    until(lambda: spooled(cache, members[0]))
    members[0].kill()
    postgresql.start()
    ended(lead)
    ended(members[1])
    assert not spooled(cache, members[0])
    with postgresql.looked_at() as store:
        check(store, alone)


def test_one_that_waits_for_others_takes_over_what_they_could_not_record(postgresql, process, cache):
    """It has nothing to record itself, so that only its questions find that the store is away."""
    words = ["-m", "loss=mse", "seed=range(3)", "dataset=regression", *SMALL["regression"], "train.steps=8_000"]
    words = [*words, "train.eval_every=4_000", "train.record_every=100", f"tracking.uri={postgresql.uri}"]
    lead = process(*words)
    with postgresql.looked_at() as store:
        until(lambda: store.find({"lossbench.kind": "run"}))
        member = process(*words, "--comparison", name_of(store))
        until(lambda: "others train 3 runs" in said(member))
    postgresql.stop()
    until(lambda: spooled(cache, lead) == 3)
    lead.kill()
    time.sleep(1)
    postgresql.start()
    ended(member)
    with postgresql.looked_at() as store:
        runs = [run for kind in ("run", "superseded") for run in store.find({"lossbench.kind": kind})]
        assert [run.info.status for run in runs] == ["FINISHED"] * 3
        (comparison,) = store.find({"lossbench.kind": "comparison"})
        assert comparison.info.status == "FINISHED"


def test_one_process_goes_on_while_the_store_is_away_and_its_claims_follow(postgresql, process, cache, alone):
    lead = process(*WORDS, f"tracking.uri={postgresql.uri}")
    with postgresql.looked_at() as store:
        until(lambda: finished(store) >= 4)
    postgresql.stop()
    until(lambda: spooled(cache, lead) > 4)
    postgresql.start()
    ended(lead)
    with postgresql.looked_at() as store:
        check(store, alone)
        experiment = store.client.get_experiment_by_name("lossbench claims").experiment_id
        (ledger,) = store.client.search_runs([experiment], run_view_type=ViewType.ALL)
        assert sum(name.startswith("run.") for name in ledger.data.params) == RUNS


def test_what_one_trained_alone_and_another_again_counts_once(postgresql, process, cache, alone):
    """The other joins after an outage, before the first can claim what it has trained meanwhile."""
    words = [*WORDS, f"tracking.uri={postgresql.uri}"]
    lead = process(*words, watch_s=120)
    with postgresql.looked_at() as store:
        until(lambda: finished(store) >= 4)
        name = name_of(store)
    postgresql.stop()
    until(lambda: spooled(cache, lead) > 4)
    lead.send_signal(signal.SIGSTOP)
    postgresql.start()
    member = process(*words, "--comparison", name, watch_s=120)
    until(lambda: "others train" in said(member) or member.returncode is not None)
    lead.send_signal(signal.SIGCONT)
    ended(lead)
    ended(member)
    with postgresql.looked_at() as store:
        assert store.find({"lossbench.kind": "superseded"})
        check(store, alone)


def stopped_in_a_run(store, one) -> bool:
    """Stop a process, and let it go on unless it has claimed runs that have not ended."""
    one.send_signal(signal.SIGSTOP)
    (ledger,) = store.find({"lossbench.kind": "claims"})
    data = store.client.get_run(ledger.info.run_id).data
    ended = {run.data.tags["lossbench.key"] for run in store.find({"lossbench.kind": "run"}) if run.info.end_time}
    read = Ledger(data.params, data.tags)
    pid = one.command.process.pid
    own = {token for token, identity in read.identities.items() if json.loads(identity)["pid"] == pid}
    if any(key not in ended and claims[-1] in own for key, claims in read.claims.items()):
        return True
    one.send_signal(signal.SIGCONT)
    return False


def test_a_member_that_was_stopped_for_long_ends_and_counts_for_nothing(postgresql, process, alone):
    lead, members = begun(postgresql, process, watch_s=8)
    with postgresql.looked_at() as store:
        until(lambda: stopped_in_a_run(store, members[0]))
    ended(lead)
    ended(members[1])
    with postgresql.looked_at() as store:
        check(store, alone)
    members[0].send_signal(signal.SIGCONT)
    _, err = members[0].communicate(60)
    assert members[0].returncode == 1
    assert "silent for too long" in err
    with postgresql.looked_at() as store:
        check(store, alone)
