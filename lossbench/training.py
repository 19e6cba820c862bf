"""Training runs: one alone, or several that train together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lossbench import terminal
from lossbench.core import BadInput, Result, Yardstick
from lossbench.run import Run
from lossbench.settings import Names
from lossbench.trainee import Stop

if TYPE_CHECKING:
    from lossbench.engine import Fitted


def run(cfg: DictConfig, names: Names, *, comparison: str = "") -> tuple[Result, Sequence[Yardstick]]:
    """Train once and record it. The configuration has passed `settings.check`.

    A run that was stopped under the same configuration, code and comparison goes on where it was; one that its
    comparison has finished already is read back.

    Raises: BadInput for what cannot be built; outside a comparison nothing is recorded then. Whatever else ends the
    training early is recorded as FAILED, or KILLED after Ctrl-C, with what was evaluated until then.
    """
    one = Run(cfg, names, comparison)
    if comparison and (earlier := one.earlier()):
        return earlier, (earlier.primary,)
    try:
        with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
            opening: Future[Any] = beside.submit(one.open if comparison else one.store)
            trainee = one.build()
            opening.result()
    except BaseException as error:
        if comparison or not isinstance(error, BadInput):
            one.end_early(error)
        raise
    if trainee.adapted:
        terminal.out().print(f"{names.loss} {trainee.adapted}")
    with terminal.bar(one.label, trainee.plan.steps) as bar:
        train([one], news=bar.news, watch=bar.advance)
    if one.error is not None:
        raise one.error
    assert one.result is not None
    return one.result, trainee.task.yardsticks


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
        started = [one for one in runs if _started(one, len(runs))]
        if started:
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
