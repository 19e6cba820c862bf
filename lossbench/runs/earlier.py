"""Records that earlier calls left of a run: one that has ended is read back, one may go on, the others are given up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossbench import tracking
from lossbench.core import Metric, Result
from lossbench.runs.evaluation import LAST
from lossbench.runs.identity import Identity
from lossbench.tracking import lease

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

PAUSED = "paused"  # the outcome of a run that is to go on


class Earlier:
    """The records that earlier calls left of a run.

    `unfinished` are those that did not end; but for the one that goes on they are given up.
    """

    def __init__(self, identity: Identity, unfinished: Sequence[str] = ()) -> None:
        self.identity = identity
        self.unfinished = list(unfinished)

    def finished(self, store: tracking.Store, siblings: Sequence[MlflowRun] | None = None) -> Result | None:
        """The run of this configuration that an interrupted call of the same comparison has already finished.

        What it left unfinished is this run's to go on with, or to give up. `siblings` are all records among which it
        would be, where they are at hand.
        """
        identity = self.identity
        if siblings is None:
            siblings = store.find(identity.siblings | {"lossbench.key": identity.key})
        for found in siblings:
            tags = found.data.tags
            if tags.get("lossbench.key") != identity.key:
                continue
            until = identity.cfg.tuning.until  # no run pauses at its last step
            far = int(tags.get("lossbench.steps", 0))
            paused = until is not None and tags.get("lossbench.outcome") == PAUSED and far >= until
            if found.info.status == "FINISHED" or paused:
                return read_back(found)
            self.unfinished.append(found.info.run_id)
        return None

    def late(self, store: tracking.Store, data: str) -> Result | None:
        """The run of this configuration and data fingerprint that an earlier call trained and this one recorded."""
        late = store.late
        for found in store.find(self.identity.siblings | {"lossbench.data": data}) if late else []:
            alone = not found.data.tags.get("lossbench.comparison")
            if found.info.run_id in late and found.info.status == "FINISHED" and alone:
                late.discard(found.info.run_id)  # given once more, the command trains
                return read_back(found)
        return None

    def claim(self, store: tracking.Store, goes_on: str) -> str:
        """Records of a run alone are anybody's who asks for the same: claim those that nobody is at any more.

        The lease on the one that is to go on, by its id, if it does; the others are left.
        """
        claimed = ""
        for found in store.find(self.identity.siblings):
            same = found.info.run_id == goes_on
            mine = not found.data.tags.get("lossbench.comparison")
            if not mine or not (same or found.info.status == "RUNNING"):
                continue
            took = lease.take(store.client, found.info.run_id, print)
            if same:
                claimed = took or ""
            elif took:
                self.unfinished.append(found.info.run_id)
        return claimed

    def give_up(self, store: tracking.Store, opened: str) -> None:
        """What earlier calls left of this run and this one does not go on with counts no longer."""
        for run_id in self.unfinished:
            if run_id != opened:
                store.client.set_tag(run_id, "lossbench.kind", "superseded")
                store.client.set_terminated(run_id, "KILLED")
        self.unfinished = []


def read_back(found: MlflowRun) -> Result:
    """How a run ended, from its record."""
    tags = found.data.tags
    name, arrow, unit = json.loads(tags["lossbench.metrics"])[0]
    values = {"val": {name: float(tags.get("lossbench.objective", "nan"))}}
    for key in sorted(found.data.metrics, key=lambda key: (key.startswith(LAST), key)):
        split, _, metric = key.rpartition("/")
        if split.startswith("test") and split != "test_loss":
            values.setdefault(split, {})[metric] = found.data.metrics[key]
    return Result(
        tags.get("lossbench.outcome", "finished"),
        found.info.run_id,
        int(tags.get("lossbench.steps", 0)),
        int(tags["lossbench.best_step"]) if "lossbench.best_step" in tags else None,
        Metric(name, "", arrow == "↑", unit),
        values,
        0.0,
    )
