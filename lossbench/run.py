"""Runs, from their configurations to their records: one alone, or several that train together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench import origin, settings, terminal, tracking
from lossbench.core import Result, Splits, Yardstick, cache_folder
from lossbench.settings import Names
from lossbench.trainee import Stop, Trainee

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lossbench.engine import Fitted

TRIAL = "trial"  # the arm of a search's own runs, which never see the test split
PAUSED = "paused"  # the outcome of a run that is to go on


@cache
def reach(uri: str) -> None:
    """As `tracking.reach`, asked once a process. Raises: BadInput."""
    tracking.reach(uri)


@cache
def store(uri: str, artifacts: str | None) -> tracking.Store:
    """The store at a URI, opened once a process."""
    return tracking.Store(uri, artifacts)


def run(cfg: DictConfig, names: Names, *, comparison: str = "") -> tuple[Result, Sequence[Yardstick]]:
    """Train once and record it. The configuration has passed `settings.check`.

    A run that was stopped under the same configuration, code and comparison goes on where it was; one that its
    comparison has finished already is read back.

    Raises: BadInput before anything is recorded. Whatever else ends the training early is recorded as FAILED, or
    KILLED after Ctrl-C, with what was evaluated until then.
    """
    one = Run(cfg, names, comparison)
    if comparison and (earlier := one.earlier()):
        return earlier, (earlier.primary,)
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening: Future[tracking.Store] = beside.submit(one.store)
        trainee = one.build()
        opening.result()
    with terminal.bar(one.label, trainee.plan.steps) as bar:
        train([one], news=bar.news, watch=bar.advance)
    if one.error is not None:
        raise one.error
    assert one.result is not None
    return one.result, trainee.task.yardsticks


class Run:
    """One run: what was asked for, what trains, its record, and how it ended: `result` or `error`."""

    def __init__(self, cfg: DictConfig, names: Names, comparison: str = "", swept: str = "") -> None:
        """`swept` is what the run is told apart by, beside its loss and its seed."""
        self.cfg, self.names, self.comparison, self.swept = cfg, names, comparison, swept
        self.label = " ".join(filter(None, (names.loss, swept, f"seed={cfg.seed}")))
        self.uri = tracking.resolve(cfg.tracking.uri)
        reach(self.uri)
        self.kept = self._checkpoint()
        self.state: Mapping[str, Any] | None = None
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.kind = "trial" if cfg.tuning.arm == TRIAL else "run"
        self._trainee: Trainee | None = None
        self._recorder: tracking.Recorder | None = None

    def store(self) -> tracking.Store:
        return store(self.uri, self.cfg.tracking.artifacts)

    @property
    def siblings(self) -> dict[str, str]:
        """Tags of the runs among which an earlier call's of this one would be: of its comparison, or of its study."""
        if self.kind == "trial":
            return {"lossbench.study": self.cfg.tuning.study, "lossbench.kind": "trial"}
        return {"lossbench.comparison": self.comparison, "lossbench.kind": "run"}

    def earlier(self, siblings: Sequence[MlflowRun] | None = None) -> Result | None:
        """The run of this configuration that an interrupted call of the same comparison has already finished.

        One that it left unfinished no longer counts as a run of the comparison, unless this call goes on with it.
        """
        opened, key = self.store(), settings.key(self.cfg)
        for found in opened.find(self.siblings) if siblings is None else siblings:
            tags = found.data.tags
            if tags.get("lossbench.key") != key:
                continue
            far = int(tags.get("lossbench.steps", 0))
            paused = tags.get("lossbench.outcome") == PAUSED and far >= (self.cfg.tuning.until or self.cfg.train.steps)
            if found.info.status == "FINISHED" or paused:
                name, arrow, unit = json.loads(tags["lossbench.yardsticks"])[0]
                value = float(tags.get("lossbench.objective", "nan"))
                primary = Yardstick(name, "", arrow == "↑", unit)
                outcome = tags.get("lossbench.outcome", "finished")
                return Result(outcome, found.info.run_id, far, None, primary, {"val": {name: value}}, 0.0)
            if not self.kept.exists():
                opened.client.set_tag(found.info.run_id, "lossbench.kind", "superseded")
                if found.info.status == "RUNNING":  # its process was killed before it could say so
                    opened.client.set_terminated(found.info.run_id, "KILLED")
        return None

    def build(self, splits: Splits | None = None) -> Trainee:
        """What trains, with the seed's initial weights; where it goes on, with the state it was stopped in."""
        from lossbench.engine import checkpoints

        self._trainee = Trainee(self.cfg, splits)
        if self.state is None and (state := checkpoints.take(self.kept)):
            self.state = state if state["data"] == self._trainee.splits.facts.fingerprint else None
        return self._trainee

    def rebuilt(self) -> bool:
        """Weights and optimizer as they were before they were trained; False where that fails, which ends the run."""
        try:
            self.build(self.trainee.splits)
        except Exception as error:
            self.end_early(error)
        return self.error is None

    @property
    def trainee(self) -> Trainee:
        assert self._trainee is not None, "not built"
        return self._trainee

    @property
    def recorder(self) -> tracking.Recorder:
        assert self._recorder is not None, "not started"
        return self._recorder

    @property
    def killed(self) -> bool:
        return isinstance(self.error, KeyboardInterrupt)

    def start(self, stack: int) -> None:
        """Open the record, or the one that goes on; `stack` is how many train together."""
        opened = self.store()
        self._recorder = opened.resume(self.state["run_id"]) if self.state else None
        if self._recorder is not None:
            return
        self.state = None
        self._recorder = opened.start(self.cfg.experiment_name, self.label, self._tags(stack))
        self._recorder.params(self._params(), self.trainee.splits.facts)
        if self.kind == "run":  # a trial's parameters tell as much
            with self._recorder.files() as folder:
                OmegaConf.save(_recorded(self.cfg), folder / "config.yaml", resolve=True)

    def finish(self, fitted: Fitted) -> Result:
        """Measure and end the record as FINISHED; it has ended once the recorder does not wait any more."""
        folders = None if self.kind == "trial" else self.names.folders
        result = self.trainee.finish(self.recorder, fitted, folders)
        self._tell(result)
        self.recorder.close("FINISHED")
        return result

    def pause(self, fitted: Fitted, state: Mapping[str, Any]) -> Result:
        """Keep what trains, so that the same configuration, asked for more steps, goes on; the record waits as KILLED.

        With nothing yet that validation could choose, the objective is missing.
        """
        from lossbench.engine import checkpoints

        primary = self.trainee.task.yardsticks[0]
        self.recorder.metrics(fitted.steps, {"time/train_s": fitted.train_s})
        values = {"val": {primary.name: fitted.best_value}}
        result = Result(PAUSED, self.recorder.run_id, fitted.steps, None, primary, values, fitted.train_s)
        self._tell(result)
        self.recorder.close("KILLED")
        data = self.trainee.splits.facts.fingerprint
        checkpoints.save(self.kept, {**state, "run_id": self.recorder.run_id, "data": data})
        return result

    def _tell(self, result: Result) -> None:
        told = {"outcome": result.outcome, "objective": result.objective, "steps": result.steps}
        self.recorder.tags({f"lossbench.{name}": value for name, value in told.items()})

    def end_early(self, error: BaseException, state: Mapping[str, Any] | None = None) -> None:
        """End the record as KILLED after Ctrl-C, else as FAILED, unless it has ended.

        With a state, the same command goes on from there.
        """
        from lossbench.engine import checkpoints

        if self.result is not None or self.error is not None:
            return
        self.error = error
        if self._recorder is None:
            return
        self._close(self._recorder, error)
        if state:
            data = self.trainee.splits.facts.fingerprint
            checkpoints.save(self.kept, {**state, "run_id": self._recorder.run_id, "data": data})

    def abandon(self, error: BaseException) -> None:
        """End the record that another process began for this run and cannot end any more."""
        self.error = error
        opened = self.store()
        for found in opened.find(self.siblings | {"lossbench.key": settings.key(self.cfg)}):
            if found.info.status == "RUNNING":
                self._close(tracking.Recorder(opened, found.info.run_id), error)

    def release(self) -> None:
        """Let go of data and nets."""
        self._trainee = None

    def _close(self, recorder: tracking.Recorder, error: BaseException) -> None:
        outcome = "killed" if isinstance(error, KeyboardInterrupt) else "failed"
        said = f"{type(error).__name__}: {error}"[:500]
        recorder.tags({"lossbench.outcome": outcome, "lossbench.error": said, "lossbench.steps": recorder.last_step})
        recorder.end(outcome.upper())

    def _checkpoint(self) -> Path:
        """Where this run is kept when it is stopped: under all that decides its numbers and its record."""
        among = self.cfg.tuning.study if self.cfg.tuning.arm == TRIAL else self.comparison
        identity = json.dumps([settings.key(self.cfg), self.cfg.experiment_name, origin.code(), self.uri, among])
        return cache_folder() / "checkpoints" / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.pt"

    def _tags(self, stack: int) -> dict[str, str]:
        names, trainee = self.names, self.trainee
        return {
            "lossbench.kind": self.kind,
            **({"lossbench.comparison": self.comparison} if self.comparison else {}),
            **self._searched(),
            "lossbench.key": settings.key(self.cfg),
            "lossbench.data": trainee.splits.facts.fingerprint,
            "lossbench.code": origin.code(),
            "lossbench.command": origin.command(),
            "lossbench.yardsticks": json.dumps([[y.name, y.arrow, y.unit] for y in trainee.task.yardsticks]),
            "lossbench.stack": str(stack),
            "lossbench.loss_parameters": str(trainee.loss_parameters),
            **({"lossbench.probe": trainee.probe()} if self.kind == "run" else {}),
            "mlflow.runColor": origin.colour(names.loss),
            "mlflow.source.name": "lossbench",
            "loss": names.loss,
            "dataset": names.dataset,
            "model": names.model,
            "seed": str(self.cfg.seed),
        }

    def _searched(self) -> dict[str, str]:
        """Which part the run has in a search."""
        told = self.cfg.tuning
        if self.kind == "trial":
            return {"lossbench.study": told.study, "lossbench.trial": str(told.trial)}
        tags = {"lossbench.arm": told.arm, "lossbench.study": told.study}
        return {name: value for name, value in tags.items() if value}

    def _params(self) -> dict[str, Any]:
        names = self.names
        named = {"loss": names.loss, "dataset": names.dataset, "model": names.model, "optimizer": names.optimizer}
        told = settings.flat(_recorded(self.cfg))
        return named | {name: value for name, value in told.items() if not name.startswith(("search", "tuning."))}


Watch = Callable[[int, int], None]
News = Callable[[Run, Mapping[str, float]], None]


def train(
    runs: Sequence[Run],
    *,
    watch: Watch = lambda steps, diverged: None,
    news: News = lambda run, values: None,
) -> None:
    """Train built runs together and record each; an error ends only the runs that bring it.

    Where several fail together, for want of memory or by the fault of one, each half of them starts again, until
    those at fault stand alone. `watch` hears of steps done, counted over all runs, `news` what is recorded.

    Raises: KeyboardInterrupt after Ctrl-C, with all runs ended as KILLED that have not ended otherwise.
    """
    try:
        for one in runs:
            one.start(len(runs))
        _train(runs, watch, news)
    except BaseException as error:  # whatever it is, no record stays RUNNING
        for one in runs:
            one.end_early(error)
        raise


def _train(runs: Sequence[Run], watch: Watch, news: News) -> None:
    from lossbench.engine import Interrupted, Paused

    done, left = 0, 0

    def advance(steps: int, diverged: int) -> None:
        nonlocal done, left
        done, left = done + steps, left + diverged
        watch(steps, diverged)
        runs[0].store().flush([one.recorder for one in runs])

    try:
        with Stop() as stop:
            fitted = fit(runs, stop, advance, news)
    except Interrupted as interrupted:
        for one, state in zip(runs, interrupted.states, strict=True):
            one.end_early(interrupted, state)
        raise
    except Paused as paused:
        _finish(runs, paused.fitted, paused.states)
        return
    except Exception as error:
        if len(runs) == 1:
            runs[0].end_early(error)
            return
    else:
        _finish(runs, fitted)
        return
    watch(-done, -left)
    middle = len(runs) // 2
    for half in (runs[:middle], runs[middle:]):
        again = [one for one in half if one.rebuilt()]
        if again:
            _train(again, watch, news)


def _finish(runs: Sequence[Run], fitted: Sequence[Fitted], states: Sequence[Mapping[str, Any]] = ()) -> None:
    """Measure one run while the record of the one before is written; with states, those that go on later pause."""
    measured: list[tuple[Run, Result]] = []
    for one, gave, state in zip_longest(runs, fitted, states):
        try:
            goes_on = state and gave.diverged is None
            measured.append((one, one.pause(gave, state) if goes_on else one.finish(gave)))
        except Exception as error:
            one.end_early(error)
    for one, result in measured:
        try:
            one.recorder.wait()
            one.result = result
        except Exception as error:
            one.end_early(error)


def fit(runs: Sequence[Run], stop: Callable[[], bool], watch: Watch, news: News) -> list[Fitted]:
    """What the engine gives for these runs, every point of it recorded."""
    from lossbench.engine import fit

    def recording(one: Run) -> Callable[[int, Mapping[str, float]], None]:
        def record(step: int, values: Mapping[str, float]) -> None:
            one.recorder.metrics(step, values)
            news(one, values)

        return record

    return fit(
        [one.trainee.replica(recording(one)) for one in runs],
        runs[0].trainee.plan,
        states=[one.state for one in runs],
        until=runs[0].cfg.tuning.until,
        stop=stop,
        watch=watch,
    )


def _recorded(cfg: DictConfig) -> DictConfig:
    """The configuration as it may be kept: without the password of the store."""
    return OmegaConf.merge(cfg, {"tracking": {"uri": tracking.shown(cfg.tracking.uri)}})  # type: ignore[return-value]
