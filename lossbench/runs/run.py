"""A run: its configuration, its experiment, its record and its result."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench import tracking
from lossbench.config import redaction
from lossbench.config.schema import Names
from lossbench.config.settings import Settings
from lossbench.core import Result, Splits, failures, without_digest
from lossbench.runs import memory, signals
from lossbench.runs.earlier import PAUSED, Earlier
from lossbench.runs.evaluation import Evaluation
from lossbench.runs.experiment import Experiment
from lossbench.runs.identity import TRIAL, Identity, built_tags
from lossbench.tracking import lease

if TYPE_CHECKING:
    from lossbench.engine import FitResult


@cache
def check_connection(uri: str) -> None:
    """As `tracking.check_connection`, once per process. Raises: ConfigError."""
    tracking.check_connection(uri)


@cache
def store(uri: str, location: str | None) -> tracking.Store:
    """The store at a URI, opened once per process."""
    return tracking.Store(uri, location)


class Run:
    """One run, from its configuration to its record; it ends with a `result` or an `error`.

    In a comparison the record opens before anything is built, so that every failure is recorded and counts: see
    `failures.outcome`. Outside a comparison it opens once the run is built: an error in the data, the model or the loss
    is then raised as ConfigError and leaves no record; any other failure is recorded.
    """

    def __init__(
        self,
        cfg: DictConfig | Settings,
        names: Names,
        comparison: str = "",
        swept: str = "",
        unfinished: Sequence[str] = (),
        place: int | None = None,
    ) -> None:
        """`swept` names the swept settings in which the run differs from others, beside loss and seed.

        `place` is the run's among those of its command, whichever process trains it first.
        `unfinished` are the ids of records of it that earlier calls did not end; all but the resumed one are given up.
        """
        self.settings = settings = cfg if isinstance(cfg, Settings) else Settings.of(cfg)
        self.names, self.comparison, self.swept = names, comparison, swept
        self.label = " ".join(filter(None, (without_digest(names.loss), swept, f"seed={settings['seed']}")))
        self.uri = tracking.resolve(settings["tracking.uri"])
        check_connection(self.uri)
        self.identity = Identity(settings, names, comparison, self.uri)
        self.earlier = Earlier(self.identity, unfinished)
        self.place = place
        self.state: Mapping[str, Any] | None = None
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._experiment: Experiment | None = None
        self._recorder: tracking.Recorder | None = None
        self._heart: lease.Heart | None = None
        self._peak = False

    @property
    def cfg(self) -> DictConfig:
        """The configuration, made when it is first needed, until `release`."""
        return self.settings.cfg

    def store(self) -> tracking.Store:
        """The store that records the run. Raises: ConfigError where MLflow cannot use it."""
        return store(self.uri, self.settings["tracking.location"])

    def open(self) -> None:
        """Open the record, a new one with the configuration or the one to resume, unless it is open already."""
        if self._recorder is not None:
            return
        store = self.store()
        self.state = self._last_state()
        claimed = ""
        if not self.comparison:
            claimed = self.earlier.claim(store, self.state["run_id"] if self.state else "")
            self.state = self.state if claimed else None
        self._recorder = store.resume(self.state["run_id"]) if self.state else None
        if self._recorder is None:
            self.state = None
            self._begin()
        elif claimed:
            self._heart = lease.keep(store.client, self.recorder, claimed)
        self.earlier.give_up(store, self.recorder.run_id)

    def _last_state(self) -> Mapping[str, Any] | None:
        """The training state that an earlier call of this run saved, if it is readable."""
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
        if self.place is not None:
            tags |= {"lossbench.place": str(self.place)}
        recorder = self._recorder = self.store().start(self.cfg.experiment_name, self.label, tags)
        if not self.comparison:
            self._heart = lease.keep(self.store().client, recorder, tags[lease.PROCESS])
        # the number of steps in so many epochs is unknown until the data are loaded
        unknown = () if self._experiment or self.cfg.train.epochs is None else ("train.steps",)
        recorder.params({name: value for name, value in self.identity.params().items() if name not in unknown})
        self._save_configuration()

    def _save_configuration(self) -> None:
        if self.identity.kind == "run" and self.settings["tracking.artifacts"] != "none":  # parameters are enough
            with self.recorder.files() as folder:
                OmegaConf.save(OmegaConf.create(self.identity.configuration()), folder / "config.yaml")

    def build(self, splits: Splits | None = None) -> Experiment:
        """Build the experiment, with the seed's initial weights, and convert epochs to steps."""
        from lossbench.runs import builders

        splits = splits or builders.splits(self.cfg.dataset)
        builders.count_steps(self.cfg.train, len(splits.train))
        self.settings.update("train.steps", self.cfg.train.steps)
        self._experiment = Experiment(self.cfg, splits, same_data=self.names.same_data)
        return self._experiment

    def rebuilt(self) -> bool:
        """Build the experiment again, untrained; False where that fails, which ends the run."""
        try:
            self.build(self.experiment.splits)
        except Exception as error:
            self.end_early(error)
        return self.error is None

    @property
    def experiment(self) -> Experiment:
        """The experiment, once it is built."""
        assert self._experiment is not None, "not built"
        return self._experiment

    @property
    def recorder(self) -> tracking.Recorder:
        """The recorder, once the record is open."""
        assert self._recorder is not None, "not started"
        return self._recorder

    @property
    def outcome(self) -> str:
        """The outcome of the run; empty until it has ended."""
        if self.result is not None:
            return self.result.outcome
        return failures.outcome(self.error) if self.error is not None else ""

    def resume(self) -> int:
        """The step from which a built run continues; 0 for a new run, or where the data have changed."""
        self.open()
        if self.state is not None and self.state["data"] != self.experiment.splits.info.fingerprint:
            self.state = None
            self.earlier.unfinished.append(self.recorder.run_id)
            self._begin()
            self.earlier.give_up(self.store(), self.recorder.run_id)
        return int(self.state["steps"]) if self.state else 0

    def start(self, stack: int) -> None:
        """Record what is known of a built run; `stack` is how many train together.

        Peak memory is measured where the run trains alone: on a GPU what torch allocates, on a CPU what the whole
        process holds. In a comparison on a CPU it is omitted, since earlier runs of the process would be included.
        """
        if stack == 1 and (self.experiment.device.type == "cuda" or not self.comparison):
            self._peak = memory.reset_peak(self.experiment.device.type)
        if self.resume():
            return
        self.recorder.tags(built_tags(self.experiment, stack, probe=self.identity.kind == "run"))
        self.recorder.data(self.experiment.splits.info)
        if self.cfg.train.epochs is not None:  # their number of steps is known only now
            self.recorder.params({"train.steps": self.cfg.train.steps})
            self._save_configuration()

    def finish(self, fitted: FitResult) -> Result:
        """Measure, and end the record as FINISHED; that is written once the recorder no longer waits."""
        folders = None if self.identity.kind == TRIAL else self.names.folders
        result = Evaluation(self.experiment, self.recorder, peak=self._peak).finish(fitted, folders)
        self._record_result(result)
        self.recorder.close("FINISHED")
        return result

    def pause(self, fitted: FitResult, state: Mapping[str, Any]) -> Result:
        """Pause, so that the same configuration with more steps can continue; the record is KILLED until then.

        Before the first evaluation on validation, the objective is missing.
        """
        primary = self.experiment.task.metrics[0]
        self.recorder.metrics(fitted.steps, {"time/train_s": fitted.train_s})
        values = {"val": {primary.name: fitted.best_value}}
        result = Result(PAUSED, self.recorder.run_id, fitted.steps, None, primary, values, fitted.train_s)
        self._record_result(result)
        self.recorder.close("KILLED")
        self.state = state
        return result

    def keep(self, state: Mapping[str, Any]) -> None:
        """Save the training state in place of the earlier one; its points must have been written to the record."""
        from lossbench.engine import checkpoints

        data = self._experiment.splits.info.fingerprint if self._experiment else state["data"]
        checkpoints.save(self.identity.checkpoint_path, {**state, "run_id": self.recorder.key, "data": data})

    def ended(self, result: Result) -> None:
        """Note the result, once the whole record is written, and drop the checkpoint, unless the run is paused."""
        from lossbench.engine import checkpoints

        self.result = result
        self._stop_heart()
        if result.outcome == PAUSED and self.state is not None:
            self.keep(self.state)
        else:
            checkpoints.drop(self.identity.checkpoint_path)

    def _stop_heart(self) -> None:
        if self._heart is not None:
            self._heart.stop()

    def _record_result(self, result: Result) -> None:
        tags = {"outcome": result.outcome, "objective": result.objective, "steps": result.steps}
        self.recorder.tags({f"lossbench.{name}": value for name, value in tags.items()})

    def end_early(self, error: BaseException, state: Mapping[str, Any] | None = None) -> None:
        """End the record as KILLED after Ctrl-C, else as FAILED, unless it has ended; open it first if necessary.

        With a state, the same command continues from there; without, from the last checkpoint, which is dropped where
        the run failed because of its loss. If the store cannot end the record, it stays RUNNING and counts as missing.
        """
        from lossbench.engine import checkpoints

        if self.result is not None or self.error is not None:
            return
        self.error = error
        if self._recorder is None and self.outcome == "killed":  # before it began
            return
        with contextlib.suppress(Exception):
            self.open()
            self._stop_heart()
            self._close(self.recorder, error)
            if state:
                self.keep(state)
            elif self.outcome == "failed":
                checkpoints.drop(self.identity.checkpoint_path)

    def abandon(self, error: BaseException) -> None:
        """End the records that a process which is gone began for this run; if there are none, open one and end it."""
        with contextlib.suppress(Exception):
            store = self.store()
            begun = store.find(self.identity.siblings | {"lossbench.key": self.identity.key})
            for found in begun:
                if found.info.status == "RUNNING":
                    self._close(tracking.Recorder(store, found.info.run_id), error)
            if not begun:
                self.end_early(error)
        self.error = error

    def release(self) -> None:
        """Free data, nets and configuration."""
        self._experiment = None
        self.settings.drop()

    def _close(self, recorder: tracking.Recorder, error: BaseException) -> None:
        outcome = failures.outcome(error)
        message = redaction.clean(f"{type(error).__name__}: {error}", self.uri)[:500]
        tags = {"lossbench.outcome": outcome, "lossbench.error": message, "lossbench.steps": recorder.last_step}
        recorder.end_early("KILLED" if outcome == "killed" else "FAILED", tags)
