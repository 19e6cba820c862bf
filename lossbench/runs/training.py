"""Training runs: one alone, or several that train together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from omegaconf import DictConfig

from lossbench.config.schema import Names
from lossbench.core import ConfigError, Metric, Result, machine
from lossbench.runs.run import Run
from lossbench.runs.signals import Stop

if TYPE_CHECKING:
    from lossbench.engine import FitResult
    from lossbench.engine.fit import Checkpoint

SHARE = 0.01  # of training, that keeping it may take


class Progress(Protocol):
    """Who shows how far a run is."""

    def advance(self, steps: int, diverged: int) -> None:
        """So many more steps are done, and so many replicas have diverged."""
        ...

    def news(self, run: Run, values: Mapping[str, float]) -> None:
        """What was just recorded of a run."""
        ...


Bar = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes the progress of a run from its label and its number of steps."""


def run(cfg: DictConfig, names: Names, bar: Bar, *, comparison: str = "") -> tuple[Result, Sequence[Metric]]:
    """Train once and record it, under a progress bar. The configuration has passed `checks.check`.

    A run that was stopped under the same configuration, code and comparison goes on where it was; one that its
    comparison has finished already is read back.

    Raises: ConfigError for what cannot be built; outside a comparison nothing is recorded then. Whatever else ends the
    training early is recorded as FAILED, or KILLED after Ctrl-C, with what was evaluated until then.
    """
    from lossbench.engine import pace

    one = Run(cfg, names, comparison)
    if comparison and (earlier := one.earlier.finished(one.store())):
        return earlier, (earlier.primary,)
    try:
        with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
            opening: Future[Any] = beside.submit(one.open if comparison else one.store)
            experiment = one.build()
            opening.result()
        if not comparison and (late := one.earlier.late(one.store(), experiment.splits.info.fingerprint)):
            print("this run was trained before an outage of the store, and is recorded now")
            return late, experiment.task.metrics
    except BaseException as error:
        if comparison or not isinstance(error, ConfigError):
            one.end_early(error)
        raise
    if experiment.adapted:
        print(f"{names.loss} {experiment.adapted}")
    with bar(one.label, experiment.plan.steps) as progress, pace.using(_threads(one)):
        train([one], news=progress.news, watch=progress.advance)
    if one.error is not None:
        raise one.error
    assert one.result is not None
    return one.result, experiment.task.metrics


def _threads(one: Run) -> int | None:
    """How many threads a run that trains alone begins with; None for what torch likes."""
    import torch

    from lossbench.engine import pace

    if one.cfg.train.threads or one.experiment.device.type != "cpu":
        return one.cfg.train.threads
    most = min(torch.get_num_threads(), machine.cores())  # of which the user has the first word: OMP_NUM_THREADS
    return pace.threads(one.experiment.replica(lambda step, values: None), one.experiment.plan, most)


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
    from lossbench.engine import pace

    try:
        started = [one for one in runs if _started(one, len(runs))]
        if started:
            with pace.using(None):  # however many threads are left at the end, they measure, too
                _train(started, watch, news)
    except BaseException as error:  # whatever it is, no record stays RUNNING
        for one in runs:
            one.end_early(error)
        raise


def _started(one: Run, stack: int) -> bool:
    """Whether its record takes what is known of it; a run of which that is not true has ended."""
    try:
        one.start(stack)
    except Exception as error:
        one.end_early(error)
    return one.error is None


def _train(runs: Sequence[Run], watch: Watch, news: News) -> None:
    from lossbench.engine import Interrupted, Paused

    done, left = 0, 0

    def advance(steps: int, diverged: int) -> None:
        nonlocal done, left
        done, left = done + steps, left + diverged
        watch(steps, diverged)
        runs[0].store().flush([one.recorder for one in runs])

    try:
        with Stop() as stop, Keeper(runs) as keep:
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
    watch(-done, -left)
    middle = len(runs) // 2
    for half in (runs[:middle], runs[middle:]):
        again = [one for one in half if one.rebuilt()]
        if again:
            _train(again, watch, news)


def _finish(runs: Sequence[Run], fitted: Sequence[FitResult], states: Sequence[Mapping[str, Any]] = ()) -> None:
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
            one.ended(result)
        except Exception as error:
            one.end_early(error)


def fit(runs: Sequence[Run], stop: Callable[[], bool], watch: Watch, news: News, keep: Checkpoint) -> list[FitResult]:
    """What the engine gives for these runs, every point of it recorded, and every change of threads."""
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
        told = (
            f"trained on {', '.join(counts)} threads, since something else had the cores, which decides the last bits"
        )
        print(f"{told}; train.threads={counts[0]} fixes them")
    return fitted


class Keeper:
    """Keeps what trains every `train.checkpoint_s` seconds, or as seldom as it takes to cost no more than its share.

    On a thread of its own, once the points that came before are safe: who goes on from there finds them in the record.
    Leaving waits for it.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._every_s = runs[0].cfg.train.checkpoint_s
        self._due = time.monotonic() + self._every_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._kept: Future[float] | None = None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def __call__(self, states: Callable[[], Sequence[Mapping[str, Any] | None]]) -> None:
        since = time.monotonic()
        if since < self._due or (self._kept is not None and not self._kept.done()):
            return
        before = self._kept.result() if self._kept is not None else 0.0
        for one in self._runs:
            one.recorder.send()
        sent = [one.recorder.sent for one in self._runs]
        self._kept = self._thread.submit(self._keep, states(), sent)
        took = time.monotonic() - since + before
        self._due = since + max(self._every_s, took / SHARE)

    def _keep(self, states: Sequence[Mapping[str, Any] | None], sent: Sequence[Sequence[Future[Any]]]) -> float:
        """The processor time that it took."""
        since = time.thread_time()
        for one, state, points in zip(self._runs, states, sent, strict=True):
            if state is not None and one.recorder.safe(points):
                one.keep(state)
        return time.thread_time() - since
