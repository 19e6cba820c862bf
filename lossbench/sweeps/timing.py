"""How a group of runs trains fastest, measured on a few steps of each schedule."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lossbench.config import run_key
from lossbench.core import Splits, machine
from lossbench.core.failures import one_line
from lossbench.runs.experiment import Experiment
from lossbench.runs.run import Run
from lossbench.sweeps import planning
from lossbench.sweeps.planning import SEQUENTIAL, Schedule

if TYPE_CHECKING:
    from lossbench.engine import Plan, Replica

SHARE = {"cpu": 0.5, "cuda": 0.8}  # of the memory that is free
GIVE_UP = 1.1  # times the best so far: larger stacks will not be faster


def fastest(runs: Sequence[Run], datasets: Callable[[DictConfig], Splits]) -> Schedule:
    """The fastest schedule for runs that may share a stack, measured on the dataset of one of them.

    Sequential where free memory holds only one run, where these runs cannot be stacked, or where stacks are not
    measured to be faster; and where a measurement fails, since training then reports which run is at fault.
    """
    from lossbench.engine import pace

    fixed, found = runs[0].cfg.train.threads, SEQUENTIAL
    if len(runs) > 1:
        with suppress(Exception), pace.using(fixed):
            found = _measured(runs, datasets(runs[0].cfg))
    return replace(found, threads=fixed) if fixed else found


def on_workers(
    runs: Sequence[Run], datasets: Callable[[DictConfig], Splits], slots: int, threads: int, beside: int = 1
) -> Schedule:
    """The fastest schedule for `slots` processes like this one, of so many threads each, measured in this one.

    Every process gets a stack before any gets two; `beside` of them share this machine's memory. One run at a time
    where a measurement fails.
    """
    from lossbench.engine import pace

    measured, alone = {Schedule(1, threads, slots): 0.0}, ""
    with suppress(Exception), pace.using(threads):
        trials = _Trials(runs, datasets(runs[0].cfg))
        measured = {Schedule(1, threads, slots): trials.step_s(1, threads)}
        alone = trials.alone()
        share = min(max(1, trials.most // beside), -(-len(runs) // slots))
        for size in planning.sizes(share) if trials.stackable and not alone else []:
            before = min(step_s / schedule.size for schedule, step_s in measured.items())
            measured[Schedule(size, threads, slots)] = step_s = trials.step_s(size, threads)
            if step_s / size > GIVE_UP * before:
                break
    steps = int(runs[0].cfg.train.steps)
    best = min(measured, key=lambda one: planning.seconds(one, measured[one], len(runs), steps))
    return replace(best, alone=alone)


def gpus(run: Run) -> list[str]:
    """The GPUs that a run may train on, by the names that CUDA_VISIBLE_DEVICES takes; none where it trains on a CPU."""
    import torch

    if run.settings["device"] == "cpu" or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


class _Trials:
    """Measurements of stacks of some of these runs."""

    def __init__(self, runs: Sequence[Run], splits: Splits) -> None:
        from lossbench.engine import trial

        self._runs, self._splits = runs, splits
        first = Experiment(runs[0].cfg, splits)
        self.plan, self.device, self.stackable = first.plan, first.device.type, first.stackable
        self.most = planning.most(trial.nbytes(first.replica(_nowhere), self.plan), _memory(self.device), len(runs))
        self._chosen = runs[:: len(runs) // self.most][: self.most] if self.most > 1 else runs[:1]
        self._replicas: dict[int, Replica] = {}  # by position; of thousands of runs, most are never measured

    def step_s(self, size: int, threads: int = 0) -> float:
        """Seconds of a step of a stack of this size, with some of every loss."""
        from lossbench.engine import trial

        some = [self._replica(position) for position in range(len(self._chosen))[:: self.most // size][:size]]
        return trial.step_s(some, self.plan, threads=threads)

    def _replica(self, position: int) -> Replica:
        if position not in self._replicas:
            experiment = Experiment(self._chosen[position].settings.made(), self._splits)
            self._replicas[position] = experiment.replica(_nowhere)
        return self._replicas[position]

    def alone(self) -> str:
        """Why a stack would not train these runs as they train alone; empty where it would."""
        return _alone(_one_of_each(self._runs, self._splits), self.plan) if self.stackable else ""


def _measured(runs: Sequence[Run], splits: Splits) -> Schedule:
    trials = _Trials(runs, splits)
    most, plan, measure = trials.most, trials.plan, trials.step_s
    cores = machine.cores() if trials.device == "cpu" and runs[0].cfg.train.threads in (None, 1) else 1
    if most == 1:
        return SEQUENTIAL

    if len(cards := gpus(runs[0])) > 1:
        return on_workers(runs, lambda cfg: splits, len(cards), 0)

    choices = (0, 1) if cores > 1 else (0,)
    measured = {Schedule(1, threads): measure(1, threads) for threads in choices}
    alone = trials.alone()
    try:
        for size in planning.sizes(most) if trials.stackable and not alone else []:
            before = min(step_s / schedule.size for schedule, step_s in measured.items())
            measured |= {Schedule(size, threads): measure(size, threads) for threads in choices}
            if min(measured[Schedule(size, threads)] for threads in choices) / size > GIVE_UP * before:
                break
    except Exception:  # this loss or model does not stack, or memory does not hold so many runs
        pass
    best = planning.choose(measured, len(runs), plan.steps)
    here = any(
        run_key.given_paths(shared.flat) for shared in {run.settings.shared for run in runs}
    )  # objects of this process, which no worker has
    if cores > 1 and not here and planning.seconds(best, measured[best], len(runs), plan.steps) > 2 * planning.START_S:
        workers = min(cores, len(runs))
        share = min(-(-len(runs) // workers), most // workers)
        for size in [one.size for one in measured if one.threads and one.size <= share]:
            measured[Schedule(size, 1, workers)] = measured[Schedule(size, 1)]
        if 1 < share < best.size:
            measured[Schedule(share, 1, workers)] = measure(share, 1)
    best = planning.choose(measured, len(runs), plan.steps)
    return replace(best, alone=alone, seconds=planning.seconds(best, measured[best], len(runs), plan.steps))


def _one_of_each(runs: Sequence[Run], splits: Splits) -> list[Replica]:
    """One run of each loss, at any of its settings, and the last run, whose seed differs where there are several."""
    chosen = {str(run.settings["loss._target_"]): run for run in reversed(runs)}
    return [
        Experiment(run.settings.made(), splits).replica(_nowhere) for run in dict.fromkeys([*chosen.values(), runs[-1]])
    ]


def _alone(replicas: Sequence[Replica], plan: Plan) -> str:
    """Why these replicas do not train in one stack as they train alone; empty where they do."""
    from lossbench.engine import trial

    try:
        return trial.difference(replicas, plan)
    except Exception as error:  # a model may raise anything under vmap
        return one_line(error)


def _memory(device: str) -> int:
    if device == "cuda":
        import torch

        return int(SHARE[device] * torch.cuda.mem_get_info()[0])
    return int(SHARE["cpu"] * machine.memory())


def _nowhere(step: int, values: object) -> None: ...
