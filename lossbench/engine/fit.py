"""The training loop: minimise what the task yields, evaluate on validation, keep the best step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from lossbench.core import Outputs, each_tensor, weight_argument
from lossbench.engine.checkpoints import Interrupted, Paused
from lossbench.engine.predict import PURPOSE, finite, outputs_of
from lossbench.engine.randomness import seeded
from lossbench.engine.stack import FitResult, Plan, Replica, Stack, State

GLIMPSE = 32  # examples of validation whose outputs are recorded at each evaluation, for pictures over training

Watch = Callable[[int, int], None]
"""Called with the steps that all replicas together made since the last call, and how many of them diverged.

The steps that are left to a replica whose training ends count as made.
"""

Checkpoint = Callable[[Callable[[], list[State | None]]], None]
"""Called before each step with a function that returns the states of all replicas; it may save them."""


def fit(
    replicas: Sequence[Replica],
    plan: Plan,
    *,
    states: Sequence[State | None] | None = None,
    until: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    watch: Watch = lambda steps, diverged: None,
    checkpoint: Checkpoint = lambda states: None,
) -> list[FitResult]:
    """Train replicas together, and select for each the step whose primary metric is best on validation.

    Every `record_every` steps it records each player's mean loss and gradient norm, averaged since the last record;
    every `eval_every` steps, at the last and at `until`, the metrics on validation. A number that is not finite ends
    the training of its replica: nothing is repaired and nothing that is not finite is recorded. So do `patience`
    evaluations in a row without a better primary metric. The others continue as if it had never been there, up to
    rounding.

    Raises: Interrupted between two steps, once `stop` returns true; a later call with its states, and replicas built
        anew, continues as if nothing had happened. Paused after step `until`, likewise, unless that is the last or
        the training of all has ended. ValueError for replicas that cannot train together.
    """
    end = min(plan.steps, until or plan.steps)
    current = list(states or [None] * len(replicas))
    results = [FitResult.of(state) if state else FitResult() for state in current]
    for replica, state, result in zip(replicas, current, results, strict=True):
        if state and result.stopped:  # in no stack any more, which would restore them
            replica.nets.restore(state["nets"])

    def active() -> list[int]:
        return [i for i, result in enumerate(results) if not result.ended and result.steps < end]

    if before := [result for result in results if result.ended]:
        left = sum(plan.steps - result.steps for result in before)
        watch(left, sum(result.diverged is not None for result in before))
    while training := active():
        with _no_denormals(), seeded(replicas[training[0]].seed, "steps"):
            stack = Stack([replicas[i] for i in training], [current[i] for i in training], plan)
            interrupted = _train(
                stack, plan, end, stop, watch, partial(checkpoint, partial(_states, current, training, stack))
            )
        for i, result in zip(training, stack.fitted, strict=True):
            results[i] = result
        if active() or end < plan.steps:  # interrupted, or without those that ended
            current = _states(current, training, stack)
        if interrupted:
            raise Interrupted([state or {} for state in current])
    if end < plan.steps and not all(result.ended for result in results):
        raise Paused([state or {} for state in current], results)
    return results


def _states(before: Sequence[State | None], training: Sequence[int], stack: Stack) -> list[State | None]:
    """The states of all replicas, those in the stack as they are now."""
    states = list(before)
    for i, state in zip(training, stack.states(), strict=True):
        states[i] = state
    return states


@contextmanager
def _no_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as 0 in this thread, which does most of a step of Adam.

    Weights that decay to nothing leave moments of 1e-40 and less, with which a CPU takes three times as long.
    """
    before = not (torch.tensor(1e-39) * 1).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _train(
    stack: Stack, plan: Plan, end: int, stop: Callable[[], bool], watch: Watch, checkpoint: Callable[[], None]
) -> bool:
    """Step until the end, or until the training of a replica ends; returns whether it was interrupted before."""
    reported = stack.done
    since = time.perf_counter()
    interrupted = False
    while stack.done < end and not (interrupted := stop()):
        checkpoint()
        stack.step()
        evaluate = stack.done % plan.eval_every == 0 or stack.done == end
        if not (evaluate or stack.done % plan.record_every == 0):
            continue
        closed = stack.close()
        share = (time.perf_counter() - since) / len(stack.replicas)
        for replica, fitted, (means, bad) in zip(stack.replicas, stack.fitted, closed, strict=True):
            fitted.steps, fitted.diverged = stack.done, bad
            fitted.train_s += share
            if means:
                fitted.last |= means
                replica.record(stack.done, means)
            if evaluate and bad is None:
                _evaluate(replica, fitted)
                fitted.stopped = plan.patience is not None and fitted.waited >= plan.patience
        ended = sum(fitted.ended for fitted in stack.fitted)
        diverged = sum(fitted.diverged is not None for fitted in stack.fitted)
        watch((stack.done - reported) * len(stack.replicas) + ended * (plan.steps - stack.done), diverged)
        reported = stack.done
        since = time.perf_counter()
        if ended:
            return False
    if interrupted:
        for fitted in stack.fitted:
            fitted.train_s += (time.perf_counter() - since) / len(stack.replicas)
        watch((stack.done - reported) * len(stack.replicas), 0)
    return interrupted


def _evaluate(replica: Replica, fitted: FitResult) -> None:
    """Record the metrics on validation and keep the best step; a number that is not finite ends the training."""
    primary = replica.task.metrics[0]
    with seeded(replica.seed, PURPOSE):  # a metric of somebody's own may draw from the global streams
        outputs = outputs_of(replica.task, replica.nets, replica.validation, replica.seed)
        values = _metrics(replica, outputs)
    if values is None:
        fitted.diverged = fitted.steps
        return
    recorded = {f"val/{name}": value for name, value in values.items()}
    fitted.last |= recorded
    fitted.glimpses[fitted.steps] = each_tensor(outputs, lambda tensor: tensor[:GLIMPSE].cpu().clone())
    replica.record(fitted.steps, recorded)
    value = values.get(primary.name, math.nan)  # a task of the user's own may leave it out
    better = primary.better(value, fitted.best_value) or (math.isnan(fitted.best_value) and not math.isnan(value))
    fitted.waited = 0 if better else fitted.waited + 1
    if better or math.isnan(fitted.best_value):  # without a number yet, the last step is taken
        fitted.best, fitted.best_step, fitted.best_value = replica.nets.snapshot(), fitted.steps, value


def _metrics(replica: Replica, outputs: Outputs) -> dict[str, float] | None:
    """The metrics on validation, or None where an output or a metric is not finite."""
    if not finite(outputs):
        return None
    split = replica.validation
    values = replica.task.measure(outputs, split.targets, **weight_argument(split.weights))
    return values if all(map(math.isfinite, values.values())) else None
