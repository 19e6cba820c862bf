"""Checkpoints: all that training needs to go on, to the bit, from the step at which it was stopped."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and did, between two steps; `state` is what `fit` takes to go on."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__(f"stopped at step {state['steps']}")
        self.state = state


def save(path: Path, state: dict[str, Any]) -> None:
    """Keep a state; a place that cannot be written costs the continuation, not the record."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(path)


def take(path: Path) -> dict[str, Any] | None:
    """The state kept at a path, which is then gone; None where there is none, or none that can be read."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError):
        return None
    finally:
        path.unlink(missing_ok=True)
