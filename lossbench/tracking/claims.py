"""Claims: who trains which run of a comparison, where several processes or machines work on it.

A claim is a parameter of one MLflow run, the ledger: MLflow refuses to change a parameter, so that of two claims the
database accepts one. `KEY.1` is the first claimant of a run, `KEY.2` the one that took over from it, once `gone.TOKEN`
says that the first is gone: it has left, its process has ended, or it was silent for too long.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
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
    if found := store.find({OF: comparison}):
        return str(found[-1].info.run_id)  # the oldest
    experiment = store.experiment(EXPERIMENT)
    store.client.set_experiment_tag(experiment, "mlflow.note.content", NOTE)
    tags = {OF: comparison, "lossbench.kind": "claims", "mlflow.source.name": "lossbench"}
    return str(store.client.create_run(experiment, tags=tags, run_name=f"claims {comparison}").info.run_id)


def close_ledger(store: Store, comparison: str) -> None:
    """Delete the ledger of a comparison that is finished."""
    for found in store.find({OF: comparison}):
        store.client.set_terminated(found.info.run_id)
        store.client.delete_run(found.info.run_id)


class Ledger:
    """What a ledger said when it was read."""

    def __init__(self, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
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
        self._seen: dict[str, tuple[str, float]] = {}  # the last heartbeat of others, and when it was first seen
        self._others = False  # whether anybody else was at work when the ledger was last read
        self._left = False
        store.client.set_tag(ledger, IDENTITY + self.token, lease.mine())
        self._beat()
        self._heart = lease.Heart(self._beat)

    def take(self, keys: Sequence[str]) -> set[str]:
        """Claim runs by their keys: those that are now this claimant's, and nobody else's.

        During an outage of the store, a claimant that was alone takes what it asks for, and claims it afterwards; with
        others at work it waits.
        """
        while True:
            claiming = self._store.later(self._take, keys)
            try:
                return self._result(claiming, keys)
            except Exception as error:
                if not away(error):
                    raise
                if not self._others:
                    return set(keys)
                time.sleep(lease.CLAIM_S)

    def _result(self, claiming: Future[set[str]], keys: Sequence[str]) -> set[str]:
        while True:
            try:
                return claiming.result(timeout=0.2)
            except TimeoutError:
                if claiming.done():
                    raise
                self._store.watch()
                if self._store.away and not self._others:
                    return set(keys)

    def _take(self, keys: Sequence[str]) -> set[str]:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        while True:
            ledger = self.read()
            mine = {key for key in keys if ledger.owner(key) == self.token}
            free = [key for key in keys if key not in mine and self.is_free(ledger, key)]
            if not free:
                return mine
            for start in range(0, len(free), CHUNK):
                some = free[start : start + CHUNK]
                claims = [Param(f"run.{key}.{len(ledger.claims.get(key, ())) + 1}", self.token) for key in some]
                try:
                    self._store.client.log_batch(self.ledger, params=claims)
                except MlflowException as error:
                    if not _refused(error):
                        raise
                    break  # another was faster with one of them: look again
                self.taken_over |= {key for key in some if key in ledger.claims}

    def is_free(self, ledger: Ledger, key: str) -> bool:
        """Whether a run has no claimant, or one that is gone."""
        owner = ledger.owner(key)
        return not owner or owner in ledger.gone or (owner != self.token and self._dead(ledger, owner))

    def _dead(self, ledger: Ledger, token: str) -> bool:
        """Whether a claimant is dead: the system knows it for a process here, else its heartbeat is watched.

        One that is dead is written off first, so that it ends itself if it was only slow.
        """
        identity = json.loads(ledger.identities.get(token, "{}"))
        if identity.get("at") == where():
            dead = started(int(identity["pid"])) != identity["started"]
        else:
            beat, since = ledger.beats.get(token, ""), time.monotonic()
            if self._seen.get(token, ("", 0.0))[0] != beat or token not in self._seen:
                self._seen[token] = (beat, since)
            dead = time.monotonic() - self._seen[token][1] > lease.WATCH_S
        if dead:
            self.write_off(token)
        return dead

    def write_off(self, token: str) -> None:
        """Note that a claimant is gone, so that others take over its runs."""
        from mlflow.exceptions import MlflowException

        try:
            self._store.client.log_param(self.ledger, GONE + token, self.token)
        except MlflowException as error:
            if not _refused(error):
                raise  # else another wrote it off first

    def read(self) -> Ledger:
        """The ledger as it is now."""
        data = self._store.client.get_run(self.ledger).data
        ledger = Ledger(data.params, data.tags)
        self._others = bool(set(ledger.identities) - ledger.gone - {self.token})
        return ledger

    def _beat(self) -> None:
        """Show that this claimant is alive; where others have written it off, end this process at once."""
        if self.token in self.read().gone and not self._left:
            print("lossbench: this process was silent for too long; others train its runs, so it ends", file=sys.stderr)
            os._exit(1)
        self._store.client.set_tag(self.ledger, BEAT + self.token, f"{time.time():.0f}")

    def leave(self) -> None:
        """Give up all claims; everything that was trained is recorded."""
        self._left = True
        self._heart.stop()
        if not self._store.away:
            self.write_off(self.token)


def _refused(error: BaseException) -> bool:
    """Whether the ledger has another value already, rather than that it cannot be written."""
    return "Changing param values" in str(error) or "IntegrityError" in str(error) or "UNIQUE" in str(error).upper()
