"""A run: what was asked for, what trains, its record, and how it ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench import terminal, tracking
from lossbench.config import redaction, run_key
from lossbench.config.schema import Names
from lossbench.core import Metric, Result, Splits, cache_folder, failures, finite
from lossbench.runs import provenance, signals
from lossbench.runs.experiment import LAST, Experiment
from lossbench.tracking import lease

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lossbench.engine import FitResult

TRIAL = "trial"  # the arm, and the kind, of a search's own runs, which never see the test split
SIZES = ("train", "validation", "test", "candidates")  # of splits, in what is drawn as one
PAUSED = "paused"  # the outcome of a run that is to go on


@cache
def check_connection(uri: str) -> None:
    """As `tracking.reach`, asked once a process. Raises: ConfigError."""
    tracking.check_connection(uri)


@cache
def store(uri: str, artifacts: str | None) -> tracking.Store:
    """The store at a URI, opened once a process."""
    return tracking.Store(uri, artifacts)


def _read_back(found: MlflowRun) -> Result:
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


class Run:
    """One run, from its configuration to its record; it has ended with a `result` or an `error`.

    In a comparison its record opens before anything of it is built, so that whatever fails from there on is a run
    that counts: see `faults.outcome`. Alone it opens once the run is built: what is wrong with the data, the model or
    the loss is then refused as ConfigError and leaves no record; anything else that fails still does.
    """

    def __init__(
        self, cfg: DictConfig, names: Names, comparison: str = "", swept: str = "", left: Sequence[str] = ()
    ) -> None:
        """`swept` is what the run is told apart by, beside its loss and its seed.

        `left` are records of it that earlier calls did not end; but for the one that goes on they are given up.
        """
        self.cfg, self.names, self.comparison, self.swept = cfg, names, comparison, swept
        self.label = " ".join(filter(None, (names.loss, swept, f"seed={cfg.seed}")))
        self.uri = tracking.resolve(cfg.tracking.uri)
        check_connection(self.uri)
        self.key = run_key.key(cfg, names.loss)
        self.kind = TRIAL if cfg.tuning.arm == TRIAL else "run"
        self.left = list(left)
        self.kept = self._checkpoint()
        self.state: Mapping[str, Any] | None = None
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._experiment: Experiment | None = None
        self._recorder: tracking.Recorder | None = None
        self._heart: lease.Heart | None = None

    def store(self) -> tracking.Store:
        return store(self.uri, self.cfg.tracking.artifacts)

    @property
    def siblings(self) -> dict[str, str]:
        """Tags of the runs among which an earlier call's of this one would be: of its comparison, or of its study."""
        if self.kind == TRIAL:
            return {"lossbench.study": self.cfg.tuning.study, "lossbench.kind": TRIAL}
        if not self.comparison:
            return {"lossbench.key": self.key, "lossbench.kind": "run", "lossbench.code": provenance.code()}
        return {"lossbench.comparison": self.comparison, "lossbench.kind": "run"}

    def earlier(self, siblings: Sequence[MlflowRun] | None = None) -> Result | None:
        """The run of this configuration that an interrupted call of the same comparison has already finished.

        What it left unfinished is this run's to go on with, or to give up.
        """
        for found in self.store().find(self.siblings | {"lossbench.key": self.key}) if siblings is None else siblings:
            tags = found.data.tags
            if tags.get("lossbench.key") != self.key:
                continue
            until = self.cfg.tuning.until  # no run pauses at its last step
            far = int(tags.get("lossbench.steps", 0))
            paused = until is not None and tags.get("lossbench.outcome") == PAUSED and far >= until
            if found.info.status == "FINISHED" or paused:
                return _read_back(found)
            self.left.append(found.info.run_id)
        return None

    def late(self) -> Result | None:
        """The run of this configuration and data that an earlier call trained whole, and this one recorded."""
        late, data = self.store().late, self.experiment.splits.info.fingerprint
        for found in self.store().find(self.siblings | {"lossbench.data": data}) if late else []:
            alone = not found.data.tags.get("lossbench.comparison")
            if found.info.run_id in late and found.info.status == "FINISHED" and alone:
                late.discard(found.info.run_id)  # given once more, the command trains
                return _read_back(found)
        return None

    def open(self) -> None:
        """Open the record, or the one that goes on, unless it is open: with what the configuration says."""
        if self._recorder is not None:
            return
        opened = self.store()
        self.state = self._last_state()
        claimed = "" if self.comparison else self._claimed(opened)
        self._recorder = opened.resume(self.state["run_id"]) if self.state else None
        if self._recorder is None:
            self.state = None
            self._begin()
        elif claimed:
            self._heart = lease.keep(self.recorder, claimed)
        self._give_up(self.recorder.run_id)

    def _last_state(self) -> Mapping[str, Any] | None:
        """Where an earlier call of this run came to, if it can be trusted."""
        from lossbench.engine import checkpoints

        try:
            return checkpoints.read(self.kept)
        except checkpoints.Broken as error:
            terminal.out().print(f"{self.label}: starts again from step 0: its checkpoint is broken ({error})")
            return None

    def _claimed(self, opened: tracking.Store) -> str:
        """Records of a run alone are anybody's who asks for the same: claim those that nobody is at any more.

        The lease on the one that goes on, if it does; the others are left.
        """
        claimed = ""
        for found in opened.find(self.siblings):
            goes_on = self.state is not None and self.state["run_id"] == found.info.run_id
            mine = not found.data.tags.get("lossbench.comparison")
            if not mine or not (goes_on or found.info.status == "RUNNING"):
                continue
            took = lease.take(opened.client, found.info.run_id, terminal.out().print)
            if goes_on:
                claimed = took or ""
            elif took:
                self.left.append(found.info.run_id)
        if not claimed:
            self.state = None
        return claimed

    def _give_up(self, opened: str) -> None:
        """What earlier calls left of this run and this one does not go on with counts no longer."""
        client = self.store().client
        for run_id in self.left:
            if run_id != opened:
                client.set_tag(run_id, "lossbench.kind", "superseded")
                client.set_terminated(run_id, "KILLED")
        self.left = []

    def _begin(self) -> None:
        signals.recording()
        tags = self._tags()
        if not self.comparison:
            tags |= {lease.PROCESS: lease.mine(), lease.BEAT: lease.now()}
        recorder = self._recorder = self.store().start(self.cfg.experiment_name, self.label, tags)
        if not self.comparison:
            self._heart = lease.keep(recorder, tags[lease.PROCESS])
        unknown = (
            () if self._experiment or self.cfg.train.epochs is None else ("train.steps",)
        )  # of epochs, until built
        recorder.params({name: value for name, value in self._params().items() if name not in unknown})
        self._keep_configuration()

    def _keep_configuration(self) -> None:
        if self.kind == "run":  # a trial's parameters tell as much
            with self.recorder.files() as folder:
                OmegaConf.save(OmegaConf.create(_recorded(self.cfg)), folder / "config.yaml")

    def build(self, splits: Splits | None = None) -> Experiment:
        """What trains, with the seed's initial weights; epochs become steps."""
        from lossbench.runs import builders

        splits = splits or builders.splits(self.cfg.dataset)
        builders.count_steps(self.cfg.train, len(splits.train))
        self._experiment = Experiment(self.cfg, splits, same_data=self.names.same_data)
        return self._experiment

    def rebuilt(self) -> bool:
        """Weights and optimizer as they were before they were trained; False where that fails, which ends the run."""
        try:
            self.build(self.experiment.splits)
        except Exception as error:
            self.end_early(error)
        return self.error is None

    @property
    def experiment(self) -> Experiment:
        assert self._experiment is not None, "not built"
        return self._experiment

    @property
    def recorder(self) -> tracking.Recorder:
        assert self._recorder is not None, "not started"
        return self._recorder

    @property
    def outcome(self) -> str:
        """How it ended; empty while it has not."""
        if self.result is not None:
            return self.result.outcome
        return failures.outcome(self.error) if self.error is not None else ""

    def resume(self) -> int:
        """The step that a built run goes on from; 0 where nobody stopped it, or its data are others now."""
        self.open()
        if self.state is not None and self.state["data"] != self.experiment.splits.info.fingerprint:
            self.state = None
            self.left.append(self.recorder.run_id)
            self._begin()
            self._give_up(self.recorder.run_id)
        return int(self.state["steps"]) if self.state else 0

    def start(self, stack: int) -> None:
        """Record what is known of a run once it is built; `stack` is how many train together.

        Its memory is its own where it trains alone: on a GPU that is what torch allocates, on a CPU what the whole
        process holds, among it whatever earlier runs of a comparison left. There it is left out.
        """
        if stack == 1 and (self.experiment.device.type == "cuda" or not self.comparison):
            self.experiment.watch_memory()
        if self.resume():
            return
        self.recorder.tags(self._built(stack))
        self.recorder.data(self.experiment.splits.info)
        if self.cfg.train.epochs is not None:  # and only now it is known how many steps they take
            self.recorder.params({"train.steps": self.cfg.train.steps})
            self._keep_configuration()

    def finish(self, fitted: FitResult) -> Result:
        """Measure and end the record as FINISHED; it has ended once the recorder does not wait any more."""
        folders = None if self.kind == TRIAL else self.names.folders
        result = self.experiment.finish(self.recorder, fitted, folders)
        self._tell(result)
        self.recorder.close("FINISHED")
        return result

    def pause(self, fitted: FitResult, state: Mapping[str, Any]) -> Result:
        """Keep what trains, so that the same configuration, asked for more steps, goes on; the record waits as KILLED.

        With nothing yet that validation could choose, the objective is missing.
        """
        primary = self.experiment.task.metrics[0]
        self.recorder.metrics(fitted.steps, {"time/train_s": fitted.train_s})
        values = {"val": {primary.name: fitted.best_value}}
        result = Result(PAUSED, self.recorder.run_id, fitted.steps, None, primary, values, fitted.train_s)
        self._tell(result)
        self.recorder.close("KILLED")
        self.state = state
        return result

    def keep(self, state: Mapping[str, Any]) -> None:
        """Keep what trains in place of what was kept before; the points that it has recorded have to be written."""
        from lossbench.engine import checkpoints

        data = self._experiment.splits.info.fingerprint if self._experiment else state["data"]
        checkpoints.save(self.kept, {**state, "run_id": self.recorder.key, "data": data})

    def ended(self, result: Result) -> None:
        """All of its record is written, so that nothing needs to be kept but of a pause."""
        from lossbench.engine import checkpoints

        self.result = result
        self._rest()
        if result.outcome == PAUSED and self.state is not None:
            self.keep(self.state)
        else:
            checkpoints.drop(self.kept)

    def _rest(self) -> None:
        if self._heart is not None:
            self._heart.stop()

    def _tell(self, result: Result) -> None:
        told = {"outcome": result.outcome, "objective": result.objective, "steps": result.steps}
        self.recorder.tags({f"lossbench.{name}": value for name, value in told.items()})

    def end_early(self, error: BaseException, state: Mapping[str, Any] | None = None) -> None:
        """End the record as KILLED after Ctrl-C, else as FAILED, unless it has ended; open it first, if need be.

        With a state, the same command goes on from there; without, from where it was last kept, but for what the loss
        is to blame for. A store that takes no end leaves the record RUNNING, which counts as missing.
        """
        from lossbench.engine import checkpoints

        if self.result is not None or self.error is not None:
            return
        self.error = error
        if self._recorder is None and self.outcome == "killed":  # before it began
            return
        with contextlib.suppress(Exception):
            self.open()
            self._rest()
            self._close(self.recorder, error)
            if state:
                self.keep(state)
            elif self.outcome == "failed":
                checkpoints.drop(self.kept)

    def abandon(self, error: BaseException) -> None:
        """End the record that another process began for this run and cannot end any more; open one if it did not."""
        with contextlib.suppress(Exception):
            opened = self.store()
            begun = opened.find(self.siblings | {"lossbench.key": self.key})
            for found in begun:
                if found.info.status == "RUNNING":
                    self._close(tracking.Recorder(opened, found.info.run_id), error)
            if not begun:
                self.end_early(error)
        self.error = error

    def release(self) -> None:
        """Let go of data and nets."""
        self._experiment = None

    def _close(self, recorder: tracking.Recorder, error: BaseException) -> None:
        outcome = failures.outcome(error)
        said = redaction.clean(f"{type(error).__name__}: {error}", self.uri)[:500]
        told = {"lossbench.outcome": outcome, "lossbench.error": said, "lossbench.steps": recorder.last_step}
        recorder.end_early("KILLED" if outcome == "killed" else "FAILED", told)

    def _checkpoint(self) -> Path:
        """Where this run is kept when it is stopped: under all that decides its numbers and its record."""
        among = self.cfg.tuning.study if self.kind == TRIAL else self.comparison
        identity = json.dumps([self.key, self.cfg.experiment_name, provenance.code(), self.uri, among])
        return cache_folder() / "checkpoints" / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.pt"

    def _tags(self) -> dict[str, str]:
        """What the configuration says of the run."""
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

    def _built(self, stack: int) -> dict[str, str]:
        """What is known of the run once it is built."""
        import torch

        experiment = self.experiment
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
            **({"lossbench.probe": experiment.probe()} if self.kind == "run" else {}),
        }

    def _searched(self) -> dict[str, str]:
        """Which part the run has in a search."""
        told = self.cfg.tuning
        if self.kind == TRIAL:
            return {"lossbench.study": told.study, "lossbench.trial": str(told.trial)}
        tags = {"lossbench.arm": told.arm, "lossbench.study": told.study}
        return {name: value for name, value in tags.items() if value}

    def _params(self) -> dict[str, Any]:
        names = self.names
        named = {"loss": names.loss, "dataset": names.dataset, "model": names.model, "optimizer": names.optimizer}
        told = run_key.leaves(_recorded(self.cfg))
        return named | {name: value for name, value in told.items() if not name.startswith(("search", "tuning."))}


def _recorded(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as it may be kept: without passwords and tokens."""
    recorded: dict[str, Any] = redaction.hidden(OmegaConf.to_container(cfg, resolve=True))
    return recorded
