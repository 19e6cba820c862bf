"""Records of a run from earlier calls: a finished one is read back, one may be resumed, the others are given up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossbench import tracking
from lossbench.core import Metric, Result
from lossbench.runs.evaluation import LAST
from lossbench.runs.identity import Identity
from lossbench.tracking import lease
from lossbench.tracking.entries import supersede

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

PAUSED = "paused"  # the outcome of a run that can be resumed


class Earlier:
    """The records that earlier calls left of a run.

    `unfinished` are the ids of those that did not end; all but the resumed one are given up.
    """

    def __init__(self, identity: Identity, unfinished: Sequence[str] = ()) -> None:
        self.identity = identity
        self.unfinished = list(unfinished)

    def finished(self, store: tracking.Store, siblings: Sequence[MlflowRun] | None = None) -> Result | None:
        """The result of this configuration, if an interrupted call of the same comparison has finished it.

        Unfinished records are noted for this run to resume or to give up. `siblings` are the records to search, by
        default read from the store.
        """
        identity = self.identity
        if siblings is None:
            siblings = store.find(identity.siblings | {"lossbench.key": identity.key})
        for found in siblings:
            tags = found.data.tags
            if tags.get("lossbench.key") != identity.key:
                continue
            until = identity.settings["tuning.until"]  # no run pauses at its last step
            steps = int(tags.get("lossbench.steps", 0))
            paused = until is not None and tags.get("lossbench.outcome") == PAUSED and steps >= until
            if found.info.status == "FINISHED" or paused:
                return result_of(found)
            if found.info.run_id not in self.unfinished:
                self.unfinished.append(found.info.run_id)
        return None

    def late(self, store: tracking.Store, data: str) -> Result | None:
        """The result of this configuration and data fingerprint that an earlier call trained and this one recorded."""
        late = store.late
        for found in store.find(self.identity.siblings | {"lossbench.data": data}) if late else []:
            alone = not found.data.tags.get("lossbench.comparison")
            if found.info.run_id in late and found.info.status == "FINISHED" and alone:
                late.discard(found.info.run_id)  # the same command, called again, trains
                return result_of(found)
        return None

    def claim(self, store: tracking.Store, resumed: str) -> str:
        """Claim the records of this run outside a comparison whose processes are gone.

        Returns the lease on the record to resume, given by its id, or an empty string; the others become unfinished.
        """
        claimed = ""
        for found in store.find(self.identity.siblings):
            same = found.info.run_id == resumed
            alone = not found.data.tags.get("lossbench.comparison")
            if not alone or not (same or found.info.status == "RUNNING"):
                continue
            own = lease.take(store.client, found.info.run_id, print)
            if same:
                claimed = own or ""
            elif own:
                self.unfinished.append(found.info.run_id)
        return claimed

    def give_up(self, store: tracking.Store, opened: str) -> None:
        """Mark unfinished records, but for the open one, as superseded, so that they no longer count."""
        for run_id in self.unfinished:
            if run_id != opened:
                supersede(store.client, run_id)
        self.unfinished = []


def result_of(found: MlflowRun) -> Result:
    """The result of a run, from its record."""
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
