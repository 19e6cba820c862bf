"""Claims: who trains which run of a comparison, where several processes or machines work on it.

A claim is a parameter of one MLflow run, the ledger: MLflow refuses to change a parameter, so that of two claims the
database accepts one. `KEY.1` is the first claimant of a run, `KEY.2` the one that took over from it, once `gone.TOKEN`
says that the first is gone: it has left, its process has ended, or it was silent for too long while the store answered.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from lossbench.core.machine import started, where
from lossbench.tracking import lease
from lossbench.tracking.outage import away

if TYPE_CHECKING:
    from lossbench.tracking.store import Store

EXPERIMENT = "lossbench claims"
NOTE = "Who trains which run of a comparison. May be deleted when none is at work."
OF = "lossbench.claims_of"  # tag of a ledger: the comparison that it belongs to
GONE, IDENTITY, BEAT = "gone.", "claimant.", "beat."
CHUNK = 100  # parameters that MLflow accepts in one call


def open_ledger(store: Store, comparison: str) -> str:
    """The id of a comparison's ledger, made if there is none; only the process that leads the comparison calls this."""
    if found := find_ledger(store, comparison):
        return found
    store.patiently(lambda: _create_ledger(store, comparison))
    return find_ledger(store, comparison)  # where an answer was lost, there are two


def find_ledger(store: Store, comparison: str) -> str:
    """The id of a comparison's ledger, the oldest one; empty where there is none."""
    found = store.find({OF: comparison})
    return str(found[-1].info.run_id) if found else ""


def _create_ledger(store: Store, comparison: str) -> None:
    experiment = store.experiment(EXPERIMENT)
    store.client.set_experiment_tag(experiment, "mlflow.note.content", NOTE)
    tags = {OF: comparison, "lossbench.kind": "claims", "mlflow.source.name": "lossbench"}
    store.client.create_run(experiment, tags=tags, run_name=f"claims {comparison}")


def close_ledger(store: Store, comparison: str) -> None:
    """Delete the ledger of a comparison that is finished."""
    for found in store.find({OF: comparison}):
        store.client.set_terminated(found.info.run_id)
        store.client.delete_run(found.info.run_id)


class Ledger:
    """What a ledger said when it was read; a closed one, of a comparison that is finished, accepts no claims."""

    def __init__(self, params: Mapping[str, str], tags: Mapping[str, str], *, closed: bool = False) -> None:
        self.closed = closed
        self.gone = {name.removeprefix(GONE) for name in params if name.startswith(GONE)}
        self.identities = {k.removeprefix(IDENTITY): v for k, v in tags.items() if k.startswith(IDENTITY)}
        self.beats = {k.removeprefix(BEAT): v for k, v in tags.items() if k.startswith(BEAT)}
        self.claims: dict[str, list[str]] = {}
        numbered = ((*name.rpartition(".")[::2], token) for name, token in params.items() if name.startswith("run."))
        for key, _, token in sorted(numbered, key=lambda one: int(one[1])):
            self.claims.setdefault(key.removeprefix("run."), []).append(token)

    def owner(self, key: str) -> str:
        """The latest claimant of a run, gone or not; empty where there is none."""
        return self.claims[key][-1] if key in self.claims else ""


class Claimant:
    """A process that claims runs before it trains them, and shows that it is alive until it leaves."""

    def __init__(self, store: Store, ledger: str) -> None:
        self.token = secrets.token_hex(6)
        self.taken_over: set[str] = set()  # runs that another claimant had, which may have recorded something of them
        self._store, self.ledger = store, ledger
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[str, float]] = {}  # the last heartbeat of others, and when it was first seen
        self._looked = time.monotonic()  # when the ledger was last read
        self._met, self._gone = {self.token}, set[str]()  # all claimants, and those of them that are gone
        self._owed: set[str] = set()  # runs that were taken during an outage, and are to be claimed after it
        self._left = False
        store.patiently(self._begin)
        self._heart = lease.Heart(self._beat)
        store.on_return(self._beat)
        store.before_start.append(self._still_here)

    def _begin(self) -> None:
        self._store.client.set_tag(self.ledger, IDENTITY + self.token, lease.mine())
        self._beat()

    @property
    def others(self) -> bool:
        """Whether anybody else was at work when the ledger was last read."""
        return bool(self._met - self._gone - {self.token})

    @property
    def shared(self) -> bool:
        """Whether anybody else has ever worked on these runs."""
        return self._met != {self.token}

    def take(self, keys: Sequence[str]) -> set[str]:
        """Claim runs by their keys: those that are now this claimant's, and nobody else's.

        During an outage of the store, a claimant that was alone takes what it asks for, and claims it afterwards; with
        others at work it waits.
        """
        while True:
            claiming = self._store.later(self._take, keys)
            try:
                return self._result(claiming, keys) & set(keys)
            except Exception as error:
                if not away(error):
                    raise
                if not self.others:
                    return self._unclaimed(keys)
                time.sleep(lease.CLAIM_S)

    def _unclaimed(self, keys: Sequence[str]) -> set[str]:
        """Take runs without a claim, which follows after the outage."""
        self._owed |= set(keys)
        return set(keys)

    def _result(self, claiming: Future[set[str]], keys: Sequence[str]) -> set[str]:
        while True:
            try:
                return claiming.result(timeout=0.2)
            except TimeoutError:
                if claiming.done():
                    raise
                self._store.watch()
                if self._store.away and not self.others:
                    return self._unclaimed(keys)

    def _take(self, keys: Sequence[str]) -> set[str]:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        owed = list(self._owed)
        keys = [*dict.fromkeys((*keys, *owed))]
        while True:
            ledger = self._look()
            mine = {key for key in keys if ledger.owner(key) == self.token}
            self.taken_over |= {key for key in mine if len(ledger.claims[key]) > 1}
            if ledger.closed:
                return mine
            free = [key for key in keys if key not in mine and self.is_free(ledger, key)]
            if not free:
                self._owed -= set(owed)
                return mine
            for start in range(0, len(free), CHUNK):
                some = free[start : start + CHUNK]
                claims = [Param(f"run.{key}.{len(ledger.claims.get(key, ())) + 1}", self.token) for key in some]
                try:
                    self._store.client.log_batch(self.ledger, params=claims)
                except MlflowException as error:
                    if not _refused(error) and not self._look().closed:
                        raise
                    break  # another was faster with one of them: look again

    def free(self, ledger: Ledger, keys: Sequence[str]) -> set[str]:
        """Those of these runs that have no claimant, or one that is gone. Raises: Away."""
        return self._store.patiently(lambda: {key for key in keys if self.is_free(ledger, key)})

    def is_free(self, ledger: Ledger, key: str) -> bool:
        """Whether a run has no claimant, or one that is gone."""
        owner = ledger.owner(key)
        return not owner or owner in ledger.gone or (owner != self.token and self._dead(ledger, owner))

    def _dead(self, ledger: Ledger, token: str) -> bool:
        """Whether a claimant is dead: the system knows no such process here, or its heartbeat has stopped.

        One that is dead is written off first, so that it ends itself if it was only slow.
        """
        identity = json.loads(ledger.identities.get(token, "{}"))
        here = identity.get("at") == where()
        dead = here and started(int(identity["pid"])) != identity["started"]
        if dead or self._silent_s(token) > lease.WATCH_S:
            dead = True
            self.write_off(token)
        return dead

    def _silent_s(self, token: str) -> float:
        """For how long a claimant has shown no new heartbeat while this one looked."""
        with self._lock:
            now = time.monotonic()
            return now - self._seen.get(token, ("", now))[1]

    def write_off(self, token: str) -> None:
        """Note that a claimant is gone, so that others take over its runs."""
        from mlflow.exceptions import MlflowException

        try:
            self._store.client.log_param(self.ledger, GONE + token, self.token)
        except MlflowException as error:
            if not _refused(error) and not self._look().closed:
                raise  # else another wrote it off first, or the comparison is finished

    def read(self) -> Ledger:
        """The ledger as it is now. Raises: Away where the store does not answer for long."""
        return self._store.patiently(self._look)

    def _look(self) -> Ledger:
        """The ledger as it is now; where others have written this claimant off, its process ends at once."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._store.client.get_run(self.ledger)
        except Exception as error:
            with self._lock:
                self._seen.clear()  # nobody's silence can be heard
            if not away(error) and isinstance(error, MlflowException) and error.get_http_status_code() == 404:
                return Ledger({}, {}, closed=True)
            raise
        ledger = Ledger(run.data.params, run.data.tags, closed=run.info.lifecycle_stage != "active")
        if self.token in ledger.gone and not self._left:
            print("lossbench: this process was silent for too long; others train its runs, so it ends", file=sys.stderr)
            os._exit(1)
        self._note(ledger)
        return ledger

    def _note(self, ledger: Ledger) -> None:
        """Note who is at work, and since when their heartbeats are the same."""
        with self._lock:
            now = time.monotonic()
            if now > self._looked + 2 * lease.BEAT_S:  # this process was stopped, or the store did not answer
                self._seen.clear()
            self._looked = now
            self._met |= set(ledger.identities)
            self._gone |= ledger.gone
            for token in self._met - self._gone - {self.token}:
                beat = ledger.beats.get(token, "")
                if token not in self._seen or self._seen[token][0] != beat:
                    self._seen[token] = (beat, now)

    def _beat(self) -> None:
        """Show that this claimant is alive, and claim what it took during an outage."""
        ledger = self._look()
        if self._left or ledger.closed:
            return
        if self._owed:
            self._take(())
        self._store.client.set_tag(self.ledger, BEAT + self.token, f"{time.time():.0f}")

    def _still_here(self) -> None:
        """Before a run is recorded: whether others have written this claimant off, where it was stopped for long."""
        if time.monotonic() - self._looked > lease.WATCH_S and not self._store.away:
            self._look()

    def leave(self) -> None:
        """Give up all claims; everything that was trained is recorded."""
        self._left = True
        if self._still_here in self._store.before_start:
            self._store.before_start.remove(self._still_here)
        self._heart.stop()
        if not self._store.away:
            if self._owed:
                self._take(())
            self.write_off(self.token)


def _refused(error: BaseException) -> bool:
    """Whether the ledger has another value already, rather than that it cannot be written."""
    return "Changing param values" in str(error) or "IntegrityError" in str(error) or "UNIQUE" in str(error).upper()
