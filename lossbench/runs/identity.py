"""What a run is by its configuration: its key, what its record says of it, and where it is kept when it is stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lossbench.config import redaction, run_key
from lossbench.config.schema import Names
from lossbench.core import cache_folder, finite
from lossbench.runs import provenance
from lossbench.runs.experiment import Experiment

TRIAL = "trial"  # the arm, and the kind, of a search's own runs, which never see the test split
SIZES = ("train", "validation", "test", "candidates")  # of splits, in what is drawn as one


class Identity:
    """A run by its configuration, before anything of it is built.

    `kind` is `run`, or `trial` for one of a search. Runs of equal `key` give the same numbers.
    """

    def __init__(self, cfg: DictConfig, names: Names, comparison: str, uri: str) -> None:
        self.cfg, self.names, self.comparison = cfg, names, comparison
        self.key = run_key.key(cfg, names.loss)
        self.kind = TRIAL if cfg.tuning.arm == TRIAL else "run"
        self.checkpoint_path = self._checkpoint_path(uri)

    @property
    def siblings(self) -> dict[str, str]:
        """Tags of the runs among which an earlier call's of this one would be: of its comparison, or of its study."""
        if self.kind == TRIAL:
            return {"lossbench.study": self.cfg.tuning.study, "lossbench.kind": TRIAL}
        if not self.comparison:
            return {"lossbench.key": self.key, "lossbench.kind": "run", "lossbench.code": provenance.code()}
        return {"lossbench.comparison": self.comparison, "lossbench.kind": "run"}

    def tags(self) -> dict[str, str]:
        """What the configuration says of the run, as tags of its record."""
        names = self.names
        return {
            "lossbench.kind": self.kind,
            **({"lossbench.comparison": self.comparison} if self.comparison else {}),
            **self._searched(),
            "lossbench.key": self.key,
            "lossbench.code": provenance.code(),
            "lossbench.command": provenance.command(),
            "mlflow.runColor": provenance.colour(names.loss),
            "mlflow.source.name": "lossbench",
            "loss": names.loss,
            "dataset": names.dataset,
            "model": names.model,
            "seed": str(self.cfg.seed),
        }

    def _searched(self) -> dict[str, str]:
        """Which part the run has in a search."""
        tuning = self.cfg.tuning
        if self.kind == TRIAL:
            return {"lossbench.study": tuning.study, "lossbench.trial": str(tuning.trial)}
        tags = {"lossbench.arm": tuning.arm, "lossbench.study": tuning.study}
        return {name: value for name, value in tags.items() if value}

    def params(self) -> dict[str, Any]:
        """The configuration, as parameters of its record."""
        names = self.names
        named = {"loss": names.loss, "dataset": names.dataset, "model": names.model, "optimizer": names.optimizer}
        settings = run_key.leaves(self.configuration())
        return named | {name: value for name, value in settings.items() if not name.startswith(("search", "tuning."))}

    def configuration(self) -> dict[str, Any]:
        """The configuration as it may be kept: without passwords and tokens."""
        return redaction.hidden(OmegaConf.to_container(self.cfg, resolve=True))

    def _checkpoint_path(self, uri: str) -> Path:
        """Where this run is kept when it is stopped: under all that decides its numbers and its record."""
        among = self.cfg.tuning.study if self.kind == TRIAL else self.comparison
        identity = json.dumps([self.key, self.cfg.experiment_name, provenance.code(), uri, among])
        return cache_folder() / "checkpoints" / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.pt"


def built(experiment: Experiment, stack: int, *, probe: bool) -> dict[str, str]:
    """What is known of a run once it is built, as tags; `stack` is how many train together."""
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
