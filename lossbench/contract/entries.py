"""Clauses for losses of the catalogue alone: their file, docstring, search ranges and limit cases."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossbench.config import catalogue, schema
from lossbench.config.catalogue import Entry
from lossbench.contract.calling import Broken, NotAsked, Trial, loss_at
from lossbench.contract.clauses import Clause, Finding, ask
from lossbench.contract.samples import at_random

DOCUMENTED = ("Shapes", "Use it when", "Beware", "Reference")
ALIKE = 1e-6  # how far gradients of unit length may be apart, and be the same


def examine(entry: Entry, loss: Any) -> list[Finding]:
    """What its file, its docstring and its card say, clause by clause."""

    def asked(name: str, title: str, check: Callable[[Entry, Any], str]) -> Finding:
        return ask(Clause(name, title, lambda _: check(entry, loss)), Trial(entry.target, entry.task_types[0]))

    return [asked(*clause) for clause in CLAUSES]


def file(entry: Entry, loss: Any) -> str:
    """Its file holds the parameters of the signature, at their defaults."""
    needs = entry.card.needs
    parameters = list(inspect.signature(loss).parameters.values())
    own = parameters if isinstance(loss, type) else parameters[2:]
    defaults = {p.name: p.default for p in own if p.name not in needs}
    apart = sorted(name for name in {*defaults, *entry.parameters} if not _same(name, defaults, entry.parameters))
    if apart:
        raise Broken(f"file and signature differ in {', '.join(apart)}", f"correct configs/loss/{entry.name}.yaml")
    return f"configs/loss/{entry.name}.yaml is the signature"


def _same(name: str, defaults: Any, parameters: Any) -> bool:
    return name in defaults and name in parameters and defaults[name] == parameters[name]


def words(entry: Entry, loss: Any) -> str:
    """Its docstring says what it means, its equation, shapes, use, traps and source."""
    described = entry.described
    missing = [title for title in DOCUMENTED if not described.sections.get(title)]
    missing += [name for name in ("meaning", "equation") if not getattr(described, name)]
    if missing:
        raise Broken(f"its docstring lacks {', '.join(missing)}", "write it as its neighbours do")
    return described.meaning


def searched(entry: Entry, loss: Any) -> str:
    """Search ranges are of parameters that there are, and hold their defaults."""
    every = entry.card.search
    if not every:
        raise NotAsked("nothing to search")
    for name, (low, high, *_) in every.items():
        default = entry.parameters.get(name, "missing")
        number = isinstance(default, int | float) and not isinstance(default, bool)
        if default == "missing" or not low < high or (number and not low <= default <= high):
            raise Broken(
                f"{name}: {low:g} … {high:g}, and its default is {default}", "correct the search ranges of its card"
            )
    return ", ".join(every)


def limits(entry: Entry, loss: Any) -> str:
    """At the settings that its card gives, its gradient is the other loss's, up to a positive factor."""
    limit_cases = entry.card.limits
    if not limit_cases:
        raise NotAsked("no limit cases on its card")
    known = {one.name: one for one in catalogue.losses([schema.CONFIGS])}
    seen = []
    for name, at in limit_cases.items():
        if name not in known:
            raise Broken(f"{name}: no such loss", "correct the limits of its card")
        for task_type in (task_type for task_type in entry.task_types if task_type in known[name].task_types):
            off = apart(trial_of(entry, task_type, **at), trial_of(known[name], task_type))
            if off > ALIKE:
                raise Broken(
                    f"at {_settings(at)} it is {off:.2g} from {name} on {task_type}", "correct the limits of its card"
                )
        seen.append(f"{name} at {_settings(at)}")
    return ", ".join(seen)


def _settings(at: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in at.items())


def trial_of(entry: Entry, task_type: str, **settings: Any) -> Trial:
    """A loss of the catalogue at the settings of its file, save these."""
    return Trial(entry.target, task_type, {**entry.parameters, **settings}, loss_at(entry.target))


def fingerprint(trial: Trial) -> dict[str, Tensor]:
    """How it pulls on samples, by player: two losses that pull alike, up to a factor, train the same model."""
    sample = at_random(trial.task_type, trial.outputs_per_target, batch=16)
    return {player: trial.pull(sample, player)[1].flatten() for player in trial.players}


def apart(one: Trial, other: Trial) -> float:
    """How far the directions of their gradients are apart, at most."""
    pulls = fingerprint(one), fingerprint(other)
    return max(angle(pulls[0][player], pulls[1][player]) for player in one.players)


def angle(one: Tensor, other: Tensor) -> float:
    """The distance of two gradients at unit length; 2 where they are no two of one shape."""
    if one.shape != other.shape or not (one.any() and other.any()):
        return 2.0
    return torch.dist(one / one.norm(), other / other.norm()).item()


CLAUSES: tuple[tuple[str, str, Callable[[Entry, Any], str]], ...] = (
    ("file", "its file holds the defaults of its signature", file),
    ("words", "it is documented", words),
    ("search", "its search ranges hold its defaults", searched),
    ("limits", "limit cases are what its card says", limits),
)
"""Name, title and check of what is asked of a loss's entry, once for all task types."""
