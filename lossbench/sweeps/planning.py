"""Which runs share a stack, and how stacks take their turns: arithmetic on configurations and measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from omegaconf import DictConfig

from lossbench.config import catalogue, run_key

T = TypeVar("T")

FREE = ("seed", "dataset.seed", "optimizer.lr", "optimizer.weight_decay", "experiment_name")
"""What may differ inside a stack, beside the loss and its hyper-parameters."""

ASIDE = ("search", "tuning.arm", "tuning.study", "tuning.trial")  # says nothing of how a run trains

WORTH = 0.95  # of the time of turns: a way that is measured to save less may as well be noise
SPARED = 0.9  # what a core is worth that torch leaves to records, and to whatever else wants it while threads wait
SLOWDOWN = 1.15  # of a worker process beside others, which share caches and memory with it
START_S = 8.0  # until a worker process trains: its imports, its store, its data


@dataclass(frozen=True)
class Way:
    """How runs are trained: `size` to a stack, one stack after another in this process or in so many `workers`.

    `threads` is how many torch uses in each process; 0 is as many as it likes. `alone` says why no stack would train
    them as they train alone, where that is so.
    """

    size: int = 1
    threads: int = 0
    workers: int = 0
    alone: str = ""


TURNS = Way()


def stack_groups(configurations: Sequence[DictConfig]) -> list[list[int]]:
    """Positions of the configurations that may train as one stack; within each, those with one loss side by side."""
    groups: dict[str, dict[str, list[int]]] = {}
    for position, cfg in enumerate(configurations):
        flat = {key: value for key, value in run_key.flat(cfg).items() if not key.startswith(ASIDE)}
        loss = {key: value for key, value in flat.items() if key.startswith("loss.")}
        shared = {key: value for key, value in flat.items() if key not in FREE and key not in loss}
        shared["outputs_per_target"] = catalogue.card_at(str(cfg.loss._target_)).outputs_per_target  # of other nets
        groups.setdefault(_text(shared), {}).setdefault(_text(loss), []).append(position)
    return [[position for same in group.values() for position in same] for group in groups.values()]


def kinds(configurations: Sequence[DictConfig]) -> list[int]:
    """The position of the first configuration of each kind: what differs in seeds and rates only is of one kind."""
    first: dict[str, int] = {}
    for position, cfg in enumerate(configurations):
        deciding = {k: v for k, v in run_key.flat(cfg).items() if k not in FREE and not k.startswith(ASIDE)}
        first.setdefault(_text(deciding), position)
    return list(first.values())


def parts(members: Sequence[T], size: int) -> list[list[T]]:
    """Members in order, cut into as few parts of at most `size` as hold them, as even as they can be."""
    count = -(-len(members) // size)
    whole, more = divmod(len(members), max(1, count))
    cuts = [0]
    for part in range(count):
        cuts.append(cuts[-1] + whole + (part < more))
    return [list(members[start:end]) for start, end in pairwise(cuts)]


def most(need: int, memory: int, runs: int) -> int:
    """How many of these runs fit into memory together; one always has its try."""
    return max(1, min(runs, memory // max(1, need)))


def sizes(most: int) -> list[int]:
    """Sizes of stacks worth a try, rising."""
    return [*(size for size in (4, 8, 16, 32, 64, 128) if size < most), *([most] if most > 1 else [])]


def choose(measured: Mapping[Way, float], runs: int, steps: int) -> Way:
    """The way that takes least, from the seconds that a step takes all replicas of one stack; turns where in doubt."""
    best = min(measured, key=lambda way: seconds(way, measured[way], runs, steps) * (SPARED if way.threads else 1))
    saved = seconds(best, measured[best], runs, steps) < WORTH * seconds(TURNS, measured[TURNS], runs, steps)
    return best if saved else TURNS


def seconds(way: Way, step_s: float, runs: int, steps: int) -> float:
    """How long runs of so many steps take, if a step of a stack takes `step_s`."""
    stacks = -(-runs // way.size)
    if not way.workers:
        return stacks * steps * step_s
    return START_S + -(-stacks // way.workers) * steps * step_s * SLOWDOWN


def _text(values: Mapping[str, object]) -> str:
    return json.dumps(values, sort_keys=True, default=str)
