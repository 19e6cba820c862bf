"""A run: what was asked for, what trains, its record, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench import tracking
from lossbench.config import redaction
from lossbench.config.schema import Names
from lossbench.core import Result, Splits, failures
from lossbench.runs import memory, signals
from lossbench.runs.earlier import PAUSED, Earlier
from lossbench.runs.evaluation import Evaluation
from lossbench.runs.experiment import Experiment
from lossbench.runs.identity import TRIAL, Identity, built
from lossbench.tracking import lease

if TYPE_CHECKING:
    from lossbench.engine import FitResult


@cache
def check_connection(uri: str) -> None:
    """As `tracking.check_connection`, asked once a process. Raises: ConfigError."""
    tracking.check_connection(uri)


@cache
def store(uri: str, artifacts: str | None) -> tracking.Store:
    """The store at a URI, opened once a process."""
    return tracking.Store(uri, artifacts)


class Run:
    """One run, from its configuration to its record; it has ended with a `result` or an `error`.

    In a comparison its record opens before anything of it is built, so that whatever fails from there on is a run
    that counts: see `failures.outcome`. Alone it opens once the run is built: what is wrong with the data, the model or
    the loss is then refused as ConfigError and leaves no record; anything else that fails still does.
    """

    def __init__(
        self, cfg: DictConfig, names: Names, comparison: str = "", swept: str = "", unfinished: Sequence[str] = ()
    ) -> None:
        """`swept` is what the run is told apart by, beside its loss and its seed.

        `unfinished` are records of it that earlier calls did not end; but for the one that goes on they are given up.
        """
        self.cfg, self.names, self.comparison, self.swept = cfg, names, comparison, swept
        self.label = " ".join(filter(None, (names.loss, swept, f"seed={cfg.seed}")))
        self.uri = tracking.resolve(cfg.tracking.uri)
        check_connection(self.uri)
        self.identity = Identity(cfg, names, comparison, self.uri)
        self.earlier = Earlier(self.identity, unfinished)
        self.state: Mapping[str, Any] | None = None
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._experiment: Experiment | None = None
        self._recorder: tracking.Recorder | None = None
        self._heart: lease.Heart | None = None
        self._peak = False

    def store(self) -> tracking.Store:
        """Where it is recorded. Raises: ConfigError where MLflow cannot use it."""
        return store(self.uri, self.cfg.tracking.artifacts)

    def open(self) -> None:
        """Open the record, or the one that goes on, unless it is open: with what the configuration says."""
        if self._recorder is not None:
            return
        opened = self.store()
        self.state = self._last_state()
        claimed = ""
        if not self.comparison:
            claimed = self.earlier.claim(opened, self.state["run_id"] if self.state else "")
            self.state = self.state if claimed else None
        self._recorder = opened.resume(self.state["run_id"]) if self.state else None
        if self._recorder is None:
            self.state = None
            self._begin()
        elif claimed:
            self._heart = lease.keep(opened.client, self.recorder, claimed)
        self.earlier.give_up(opened, self.recorder.run_id)

    def _last_state(self) -> Mapping[str, Any] | None:
        """Where an earlier call of this run came to, if it can be trusted."""
        from lossbench.engine import checkpoints

        try:
            return checkpoints.read(self.identity.checkpoint_path)
        except checkpoints.Broken as error:
            print(f"{self.label}: starts again from step 0: its checkpoint is broken ({error})")
            return None

    def _begin(self) -> None:
        signals.recording()
        tags = self.identity.tags()
        if not self.comparison:
            tags |= {lease.PROCESS: lease.mine(), lease.BEAT: lease.now()}
        recorder = self._recorder = self.store().start(self.cfg.experiment_name, self.label, tags)
        if not self.comparison:
            self._heart = lease.keep(self.store().client, recorder, tags[lease.PROCESS])
        unknown = (
            () if self._experiment or self.cfg.train.epochs is None else ("train.steps",)
        )  # of epochs, until built
        recorder.params({name: value for name, value in self.identity.params().items() if name not in unknown})
        self._keep_configuration()

    def _keep_configuration(self) -> None:
        if self.identity.kind == "run":  # a trial's parameters tell as much
            with self.recorder.files() as folder:
                OmegaConf.save(OmegaConf.create(self.identity.configuration()), folder / "config.yaml")

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
        """What trains, once it is built."""
        assert self._experiment is not None, "not built"
        return self._experiment

    @property
    def recorder(self) -> tracking.Recorder:
        """Its record, once it is open."""
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
            self.earlier.unfinished.append(self.recorder.run_id)
            self._begin()
            self.earlier.give_up(self.store(), self.recorder.run_id)
        return int(self.state["steps"]) if self.state else 0

    def start(self, stack: int) -> None:
        """Record what is known of a run once it is built; `stack` is how many train together.

        Its memory is its own where it trains alone: on a GPU that is what torch allocates, on a CPU what the whole
        process holds, among it whatever earlier runs of a comparison left. There it is left out.
        """
        if stack == 1 and (self.experiment.device.type == "cuda" or not self.comparison):
            self._peak = memory.reset_peak(self.experiment.device.type)
        if self.resume():
            return
        self.recorder.tags(built(self.experiment, stack, probe=self.identity.kind == "run"))
        self.recorder.data(self.experiment.splits.info)
        if self.cfg.train.epochs is not None:  # and only now it is known how many steps they take
            self.recorder.params({"train.steps": self.cfg.train.steps})
            self._keep_configuration()

    def finish(self, fitted: FitResult) -> Result:
        """Measure and end the record as FINISHED; it has ended once the recorder does not wait any more."""
        folders = None if self.identity.kind == TRIAL else self.names.folders
        result = Evaluation(self.experiment, self.recorder, peak=self._peak).finish(fitted, folders)
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
        checkpoints.save(self.identity.checkpoint_path, {**state, "run_id": self.recorder.key, "data": data})

    def ended(self, result: Result) -> None:
        """All of its record is written, so that nothing needs to be kept but of a pause."""
        from lossbench.engine import checkpoints

        self.result = result
        self._rest()
        if result.outcome == PAUSED and self.state is not None:
            self.keep(self.state)
        else:
            checkpoints.drop(self.identity.checkpoint_path)

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
                checkpoints.drop(self.identity.checkpoint_path)

    def abandon(self, error: BaseException) -> None:
        """End the record that another process began for this run and cannot end any more; open one if it did not."""
        with contextlib.suppress(Exception):
            opened = self.store()
            begun = opened.find(self.identity.siblings | {"lossbench.key": self.identity.key})
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
