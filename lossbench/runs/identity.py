"""The identity of a run, from its configuration: its key, its tags and parameters, and its checkpoint's path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lossbench.config import redaction, run_key
from lossbench.config.schema import Names
from lossbench.config.settings import Settings
from lossbench.core import cache_folder, finite
from lossbench.runs import provenance
from lossbench.runs.experiment import Experiment

TRIAL = "trial"  # the arm, and the kind, of the runs of a search, which never see the test split
SIZES = ("train", "validation", "test", "candidates")  # of splits, in units of sampling


class Identity:
    """The identity of a run, known before anything of it is built.

    `kind` is `run`, or `trial` in a search. Runs with the same `key` give the same numbers.
    """

    def __init__(self, settings: Settings, names: Names, comparison: str, uri: str) -> None:
        self.settings, self.names, self.comparison, self.uri = settings, names, comparison, uri
        self.key = settings.key(names.loss)
        self.kind = TRIAL if settings["tuning.arm"] == TRIAL else "run"

    @property
    def siblings(self) -> dict[str, str]:
        """Tags that select the records among which earlier ones of this run are: its comparison, or its study."""
        if self.kind == TRIAL:
            return {"lossbench.study": self.settings["tuning.study"], "lossbench.kind": TRIAL}
        if not self.comparison:
            return {"lossbench.key": self.key, "lossbench.kind": "run", "lossbench.code": provenance.code()}
        return {"lossbench.comparison": self.comparison, "lossbench.kind": "run"}

    def tags(self) -> dict[str, str]:
        """The tags of the record that follow from the configuration."""
        names = self.names
        return {
            "lossbench.kind": self.kind,
            **({"lossbench.comparison": self.comparison} if self.comparison else {}),
            **self._search_tags(),
            "lossbench.key": self.key,
            "lossbench.code": provenance.code(),
            "lossbench.command": provenance.command(),
            "mlflow.runColor": provenance.colour(names.loss),
            "mlflow.source.name": "lossbench",
            "loss": names.loss,
            "dataset": names.dataset,
            "model": names.model,
            "seed": str(self.settings["seed"]),
        }

    def _search_tags(self) -> dict[str, str]:
        """The tags of the run's part in a search."""
        arm, study = self.settings["tuning.arm"], self.settings["tuning.study"]
        if self.kind == TRIAL:
            return {"lossbench.study": study, "lossbench.trial": str(self.settings["tuning.trial"])}
        tags = {"lossbench.arm": arm, "lossbench.study": study}
        return {name: value for name, value in tags.items() if value}

    def params(self) -> dict[str, Any]:
        """The configuration as parameters of the record."""
        names = self.names
        choices = {"loss": names.loss, "dataset": names.dataset, "model": names.model, "optimizer": names.optimizer}
        settings = run_key.leaves(self.configuration())
        return choices | {name: value for name, value in settings.items() if not name.startswith(("search", "tuning."))}

    def configuration(self) -> dict[str, Any]:
        """The configuration without passwords and tokens."""
        return redaction.hidden(self.settings.tree())

    @property
    def checkpoint_path(self) -> Path:
        """The path of this run's checkpoint, a hash of all that decides its numbers and its record."""
        group = self.settings["tuning.study"] if self.kind == TRIAL else self.comparison
        identity = json.dumps([self.key, self.settings["experiment_name"], provenance.code(), self.uri, group])
        return cache_folder() / "checkpoints" / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.pt"


def built_tags(experiment: Experiment, stack: int, *, probe: bool) -> dict[str, str]:
    """The tags that are known once a run is built; `stack` is how many train together."""
    import torch

    return {
        "lossbench.data": experiment.splits.info.fingerprint,
        "lossbench.pool": experiment.sampling.pool,
        "lossbench.variation": experiment.sampling.variation,
        "lossbench.sizes": json.dumps({name: getattr(experiment.sampling, name) for name in SIZES}),
        "lossbench.metrics": json.dumps([[y.name, y.arrow, y.unit] for y in experiment.task.metrics]),
        "lossbench.ranges": json.dumps({y.name: finite(y.range) for y in experiment.task.metrics}),
        "lossbench.stack": str(stack),
        "lossbench.threads": str(torch.get_num_threads()),
        "lossbench.weights": experiment.nets.initial,
        "lossbench.loss_parameters": str(experiment.loss_parameters),
        **({"lossbench.adapted": experiment.adapted} if experiment.adapted else {}),
        **({"lossbench.probe": experiment.probe()} if probe else {}),
    }
