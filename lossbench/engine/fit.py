"""The loop: ask the task what to minimise, move the player, look at validation, keep the best step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from lossbench.core import Outputs
from lossbench.engine.checkpoints import Interrupted, Paused
from lossbench.engine.predict import each, finite, predict
from lossbench.engine.randomness import seeded
from lossbench.engine.stack import FitResult, Plan, Replica, Stack, State

GLIMPSE = 32  # examples of validation whose outputs are kept for pictures of how they changed

Watch = Callable[[int, int], None]
"""Hears, over all replicas, of steps that are behind them since it last heard, and of replicas that diverged."""

Keep = Callable[[Callable[[], list[State | None]]], None]
"""Is asked between two steps whether it wants the states of all replicas, which it then calls for, to keep them."""


def fit(
    replicas: Sequence[Replica],
    plan: Plan,
    *,
    states: Sequence[State | None] | None = None,
    until: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    watch: Watch = lambda steps, diverged: None,
    keep: Keep = lambda states: None,
) -> list[FitResult]:
    """Train replicas together, selecting for each the step at which its primary metric was best on validation.

    Recorded at every `record_every` steps: the means since the last record of each player's cost and gradient norm.
    At every `eval_every` steps, at the last and at `until`: the metrics on validation. A number that is not finite
    ends the training of its replica: nothing is repaired, nothing that is not finite is recorded, and the others go
    on as if it had never been there, but for rounding.

    Raises: Interrupted between two steps, once `stop` says so; with its states and all else made afresh, a later call
        goes on as if nothing had happened. Paused after step `until`, likewise, unless that is the last or all have
        diverged. ValueError for replicas that cannot train together.
    """
    end = min(plan.steps, until or plan.steps)
    now = list(states or [None] * len(replicas))
    results = [FitResult.of(state) if state else FitResult() for state in now]

    def active() -> list[int]:
        return [i for i, fitted in enumerate(results) if fitted.diverged is None and fitted.steps < end]

    while going_on := active():
        with _no_denormals(), seeded(replicas[going_on[0]].seed, "steps"):
            stack = Stack([replicas[i] for i in going_on], [now[i] for i in going_on], plan)
            stopped = _train(stack, plan, end, stop, watch, partial(keep, partial(_states, now, going_on, stack)))
        for i, fitted in zip(going_on, stack.fitted, strict=True):
            results[i] = fitted
        if active() or end < plan.steps:  # stopped, or without those that diverged
            now = _states(now, going_on, stack)
        if stopped:
            raise Interrupted([state or {} for state in now])
    if end < plan.steps and any(fitted.diverged is None for fitted in results):
        raise Paused([state or {} for state in now], results)
    return results


def _states(before: Sequence[State | None], going_on: Sequence[int], stack: Stack) -> list[State | None]:
    """The states of all replicas, those in the stack as they are now."""
    states = list(before)
    for i, state in zip(going_on, stack.states(), strict=True):
        states[i] = state
    return states


@contextmanager
def _no_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as 0 in this thread, where most of a step of Adam is.

    Weights that decay puts to sleep leave moments of 1e-40 and less, with which a CPU takes three times as long.
    """
    before = not (torch.tensor(1e-39) * 1).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _train(
    stack: Stack, plan: Plan, end: int, stop: Callable[[], bool], watch: Watch, keep: Callable[[], None]
) -> bool:
    """Step until the end or until a replica diverges; whether a stop came first."""
    heard = stack.done
    since = time.perf_counter()
    stopped = False
    while stack.done < end and not (stopped := stop()):
        keep()
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
        diverged = sum(fitted.diverged is not None for fitted in stack.fitted)
        watch((stack.done - heard) * len(stack.replicas) + diverged * (plan.steps - stack.done), diverged)
        heard = stack.done
        since = time.perf_counter()
        if diverged:
            return False
    if stopped:
        for fitted in stack.fitted:
            fitted.train_s += (time.perf_counter() - since) / len(stack.replicas)
        watch((stack.done - heard) * len(stack.replicas), 0)
    return stopped


def _evaluate(replica: Replica, fitted: FitResult) -> None:
    """The metrics on validation; the best step so far is kept, and what is not finite ends the training."""
    primary = replica.task.metrics[0]
    outputs = predict(replica.task, replica.nets, replica.validation, replica.seed)
    values = _measured(replica, outputs)
    if values is None:
        fitted.diverged = fitted.steps
        return
    watched = {f"val/{name}": value for name, value in values.items()}
    fitted.last |= watched
    fitted.glimpses[fitted.steps] = each(outputs, lambda tensor: tensor[:GLIMPSE].cpu().clone())
    replica.record(fitted.steps, watched)
    value = values.get(primary.name, math.nan)  # a metric of the user's own may be missing
    if fitted.best is None or math.isnan(fitted.best_value) or primary.better(value, fitted.best_value):
        fitted.best, fitted.best_step, fitted.best_value = replica.nets.snapshot(), fitted.steps, value


def _measured(replica: Replica, outputs: Outputs) -> dict[str, float] | None:
    """The metrics on validation, or None where an output or a metric is not finite."""
    if not finite(outputs):
        return None
    values = replica.task.measure(outputs, replica.validation.targets)
    return values if all(map(math.isfinite, values.values())) else None
