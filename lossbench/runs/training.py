"""Training of runs: one alone, or several in a stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from omegaconf import DictConfig

from lossbench.config.schema import Names
from lossbench.core import ConfigError, Metric, Result, machine, without_digest
from lossbench.runs.run import Run
from lossbench.runs.signals import Stop, interruptible

if TYPE_CHECKING:
    from lossbench.engine import FitResult
    from lossbench.engine.fit import Checkpoint

SHARE = 0.01  # of training time that checkpoints may take


class Progress(Protocol):
    """A display of the progress of a run."""

    def advance(self, steps: int, diverged: int) -> None:
        """So many more steps are done, and so many more replicas have diverged."""
        ...

    def news(self, run: Run, values: Mapping[str, float]) -> None:
        """These values were just recorded of a run."""
        ...


Bar = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes the progress display of a run from its label and its number of steps."""


def run(
    cfg: DictConfig, names: Names, bar: Bar, *, comparison: str = "", say: Callable[[str], None] = print
) -> tuple[Result, Sequence[Metric]]:
    """Train and record one run, under a progress bar. The configuration has passed `checks.check`.

    A run that was stopped under the same configuration, code and comparison is resumed; one that its comparison has
    finished already is read back.

    Raises: ConfigError for what cannot be built; outside a comparison nothing is recorded then. Any other error that
    ends training early is recorded as FAILED, or KILLED after Ctrl-C, with the evaluations until then.
    """
    from lossbench.engine import pace

    one = Run(cfg, names, comparison)
    if comparison and (earlier := one.earlier.finished(one.store())):
        return earlier, (earlier.primary,)
    try:
        with ThreadPoolExecutor(1) as executor:  # opening a store takes as long as loading torch and the data
            opening: Future[Any] = executor.submit(one.open if comparison else one.store)
            experiment = one.build()
            opening.result()
        if not comparison and (late := one.earlier.late(one.store(), experiment.splits.info.fingerprint)):
            say("this run was trained before an outage of the store, and is recorded now")
            return late, experiment.task.metrics
    except BaseException as error:
        if comparison or not isinstance(error, ConfigError):
            one.end_early(error)
        raise
    if experiment.adapted:
        say(f"{without_digest(names.loss)} {experiment.adapted}")
    with bar(one.label, experiment.plan.steps) as progress, pace.using(_threads(one)):
        train([one], news=progress.news, watch=progress.advance)
    if one.error is not None:
        raise one.error
    assert one.result is not None
    return one.result, experiment.task.metrics


def _threads(one: Run) -> int | None:
    """The number of threads with which a run that trains alone begins; None for torch's default."""
    import torch

    from lossbench.engine import pace

    if one.cfg.train.threads or one.experiment.device.type != "cpu":
        return one.cfg.train.threads
    most = min(torch.get_num_threads(), machine.cores())  # OMP_NUM_THREADS of the user limits the former
    return pace.threads(one.experiment.replica(lambda step, values: None), one.experiment.plan, most)


Watch = Callable[[int, int], None]
News = Callable[[Run, Mapping[str, float]], None]


def train(
    runs: Sequence[Run],
    *,
    watch: Watch = lambda steps, diverged: None,
    news: News = lambda run, values: None,
) -> None:
    """Train built runs together and record each; an error ends only the runs that cause it.

    Where a stack fails, for lack of memory or because of one run, each half of it starts again, until the runs at fault
    are alone. `watch` is called with completed steps, summed over all runs, and `news` with recorded values.

    Raises: KeyboardInterrupt after Ctrl-C, with all runs that have not ended otherwise ended as KILLED.
    """
    from lossbench.engine import pace

    try:
        started = [one for one in runs if _started(one, len(runs))]
        if started:
            with pace.using(None):  # restores the number of threads; until then, evaluation uses those of training
                _train(started, watch, news)
    except BaseException as error:  # so that no record stays RUNNING
        for one in runs:
            one.end_early(error)
        raise


def _started(one: Run, stack: int) -> bool:
    """Start a run; False where that fails, which ends the run."""
    try:
        one.start(stack)
    except Exception as error:
        one.end_early(error)
    return one.error is None


def _train(runs: Sequence[Run], watch: Watch, news: News) -> None:
    from lossbench.engine import Interrupted, Paused

    steps_done, replicas_diverged = 0, 0

    def advance(steps: int, diverged: int) -> None:
        nonlocal steps_done, replicas_diverged
        steps_done, replicas_diverged = steps_done + steps, replicas_diverged + diverged
        watch(steps, diverged)
        runs[0].store().flush([one.recorder for one in runs])

    try:
        with Stop() as stop, Keeper(runs) as keep, interruptible():
            fitted = fit(runs, stop, advance, news, keep)
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
    watch(-steps_done, -replicas_diverged)
    middle = len(runs) // 2
    for half in (runs[:middle], runs[middle:]):
        again = [one for one in half if one.rebuilt()]
        if again:
            _train(again, watch, news)


def _finish(runs: Sequence[Run], fitted: Sequence[FitResult], states: Sequence[Mapping[str, Any]] = ()) -> None:
    """Measure each run while the record of the one before is written; runs with a state pause."""
    measured: list[tuple[Run, Result]] = []
    for one, result_of_fit, state in zip_longest(runs, fitted, states):
        try:
            pauses = state and not result_of_fit.ended
            with interruptible():
                measured.append((one, one.pause(result_of_fit, state) if pauses else one.finish(result_of_fit)))
        except Exception as error:
            one.end_early(error)
    for one, result in measured:
        try:
            with interruptible():
                one.recorder.wait()
                one.ended(result)
        except Exception as error:
            one.end_early(error)


def fit(runs: Sequence[Run], stop: Callable[[], bool], watch: Watch, news: News, keep: Checkpoint) -> list[FitResult]:
    """Train these runs in the engine; every metric and every change of the number of threads is recorded."""
    import torch

    from lossbench.engine import fit, pace

    def recording(one: Run) -> Callable[[int, Mapping[str, float]], None]:
        def record(step: int, values: Mapping[str, float]) -> None:
            one.recorder.metrics(step, values)
            news(one, values)

        return record

    first = runs[0]
    replicas, plan = [one.experiment.replica(recording(one)) for one in runs], first.experiment.plan
    begun, counts = first.state["steps"] if first.state else 0, [str(torch.get_num_threads())]

    def changed(steps: int, threads: int) -> None:
        counts.append(f"{threads} from step {begun + steps}")
        for one in runs:
            one.recorder.tags({"lossbench.threads": ", ".join(counts)})

    if first.cfg.train.threads is None and first.experiment.device.type == "cpu":
        stop = pace.Pace(replicas, plan, stop, changed)
    fitted = fit(
        replicas,
        plan,
        states=[one.state for one in runs],
        until=first.cfg.tuning.until,
        stop=stop,
        watch=watch,
        checkpoint=keep,
    )
    if len(counts) > 1 and not first.comparison:
        message = f"trained on {', '.join(counts)} threads, since the cores were busy, which changes the last bits"
        print(f"{message}; train.threads={counts[0]} fixes them")
    return fitted


class Keeper:
    """Saves checkpoints every `train.checkpoint_s` seconds, or less often, so that they take at most SHARE of the time.

    It saves on its own thread, once all earlier points are safe, so that a resumed run finds them in the record. Exit
    waits for the save in progress.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._every_s = runs[0].cfg.train.checkpoint_s
        self._due = time.monotonic() + self._every_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._saving: Future[float] | None = None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def __call__(self, states: Callable[[], Sequence[Mapping[str, Any] | None]]) -> None:
        since = time.monotonic()
        if since < self._due or (self._saving is not None and not self._saving.done()):
            return
        before = self._saving.result() if self._saving is not None else 0.0
        for one in self._runs:
            one.recorder.send()
        sent = [one.recorder.sent for one in self._runs]
        self._saving = self._thread.submit(self._save, states(), sent)
        took = time.monotonic() - since + before
        self._due = since + max(self._every_s, took / SHARE)

    def _save(self, states: Sequence[Mapping[str, Any] | None], sent: Sequence[Sequence[Future[Any]]]) -> float:
        """Save the states whose points are safe; returns the processor time that it took."""
        since = time.thread_time()
        for one, state, points in zip(self._runs, states, sent, strict=True):
            if state is not None and one.recorder.safe(points):
                one.keep(state)
        return time.thread_time() - since
