"""Which runs share a stack, and in what order stacks train: arithmetic on configurations and measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from lossbench.config import catalogue
from lossbench.config.settings import Settings

T = TypeVar("T")

FREE = ("seed", "dataset.seed", "optimizer.lr", "optimizer.weight_decay", "experiment_name")
"""What may differ inside a stack, beside the loss and its hyper-parameters."""

ASIDE = ("search", "tuning.arm", "tuning.study", "tuning.trial")  # do not affect how a run trains

WORTH = 0.95  # of the sequential time: a schedule measured to save less than this may be noise
SPARED = 0.9  # a core that torch leaves free helps to write records, and anything else that runs meanwhile
SLOWDOWN = 1.15  # of a worker process beside others, since they share caches and memory
START_S = 8.0  # seconds until a worker process trains: imports, store, data


@dataclass(frozen=True)
class Schedule:
    """How runs are trained: `size` runs to a stack, one stack after another in this process or in `workers` processes.

    `threads` is how many threads torch uses in each process; 0 leaves the choice to torch. `alone` is the reason why
    a stack would not train these runs as they train alone; empty where it would. `seconds` is how long they will take.
    """

    size: int = 1
    threads: int = 0
    workers: int = 0
    alone: str = ""
    seconds: float = field(default=0.0, compare=False)


SEQUENTIAL = Schedule()


def stack_groups(runs: Sequence[Settings]) -> list[list[int]]:
    """Positions of the runs that may train as one stack; in each group, those of one loss are adjacent."""
    groups: dict[str, dict[str, list[int]]] = {}
    for (shared, loss), positions in _alike(runs).items():
        groups.setdefault(shared, {}).setdefault(loss, []).extend(positions)
    return [[position for same in group.values() for position in same] for group in groups.values()]


def distinct(runs: Sequence[Settings]) -> list[int]:
    """The positions of the runs that differ from all earlier ones in more than seeds and rates."""
    return [positions[0] for positions in _alike(runs).values()]


def _alike(runs: Sequence[Settings]) -> dict[tuple[str, str], list[int]]:
    """The positions of runs that differ in FREE and ASIDE only, by their settings beside the loss, and of it."""
    texts: dict[tuple[Any, ...], tuple[str, str]] = {}  # most runs are siblings, whose settings are compared once
    found: dict[tuple[str, str], list[int]] = {}
    for position, run in enumerate(runs):
        own = ((name, value) for name, value in run.own.items() if _matters(name))
        sibling = (id(run.shared), *own)
        if sibling not in texts:
            texts[sibling] = _texts(run)
        found.setdefault(texts[sibling], []).append(position)
    return found


def _texts(run: Settings) -> tuple[str, str]:
    flat = {name: value for name, value in run.flat().items() if _matters(name)}
    loss = {name: value for name, value in flat.items() if name.startswith("loss.")}
    shared = {name: value for name, value in flat.items() if name not in loss}
    shared["outputs_per_target"] = catalogue.card_at(str(run["loss._target_"])).outputs_per_target  # decides the net
    return _text(shared), _text(loss)


def _matters(name: str) -> bool:
    return name not in FREE and not name.startswith(ASIDE)


def parts(members: Sequence[T], size: int) -> list[list[T]]:
    """The members in order, cut into as few parts of at most `size` as possible, of nearly equal length."""
    count = -(-len(members) // size)
    whole, more = divmod(len(members), max(1, count))
    cuts = [0]
    for part in range(count):
        cuts.append(cuts[-1] + whole + (part < more))
    return [list(members[start:end]) for start, end in pairwise(cuts)]


def most(need: int, memory: int, runs: int) -> int:
    """How many of these runs fit into memory together; at least one."""
    return max(1, min(runs, memory // max(1, need)))


def sizes(most: int) -> list[int]:
    """Stack sizes worth measuring, in increasing order."""
    return [*(size for size in (4, 8, 16, 32, 64, 128) if size < most), *([most] if most > 1 else [])]


def choose(measured: Mapping[Schedule, float], runs: int, steps: int) -> Schedule:
    """The fastest schedule, given the seconds that each takes for one step of a stack; sequential where in doubt."""
    best = min(measured, key=lambda one: seconds(one, measured[one], runs, steps) * (SPARED if one.threads else 1))
    saved = seconds(best, measured[best], runs, steps) < WORTH * seconds(SEQUENTIAL, measured[SEQUENTIAL], runs, steps)
    return best if saved else SEQUENTIAL


def seconds(schedule: Schedule, step_s: float, runs: int, steps: int) -> float:
    """How long `runs` runs of `steps` steps take, if a step of a stack takes `step_s`."""
    stacks = -(-runs // schedule.size)
    if not schedule.workers:
        return stacks * steps * step_s
    return START_S + -(-stacks // schedule.workers) * steps * step_s * SLOWDOWN


def _text(values: Mapping[str, object]) -> str:
    return json.dumps(values, sort_keys=True, default=str)
