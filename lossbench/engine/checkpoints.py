"""Checkpoints: all that training needs to go on, to the bit, from the step at which it was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from lossbench.engine.stack import Fitted


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and did, between two steps; `states` are what `fit` takes to go on."""

    def __init__(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(f"stopped at step {max((state.get('steps', 0) for state in states), default=0)}")
        self.states = states


class Paused(Exception):
    """Training reached the step at which it was to pause; `states` are what `fit` takes to go on.

    `fitted` is what it has given until then, the end of those that diverged among it.
    """

    def __init__(self, states: Sequence[Mapping[str, Any]], fitted: Sequence[Fitted]) -> None:
        super().__init__(f"paused at step {max((one.steps for one in fitted), default=0)}")
        self.states, self.fitted = states, fitted


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Keep a state; a place that cannot be written costs the continuation, not the record."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        torch.save(dict(state), unfinished)
        unfinished.replace(path)


def take(path: Path) -> dict[str, Any] | None:
    """The state kept at a path, which is then gone; None where there is none, or none that can be read."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
        return None
    finally:
        path.unlink(missing_ok=True)
