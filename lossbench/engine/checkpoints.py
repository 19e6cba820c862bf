"""Checkpoints: the state from which training resumes, bit for bit, at the step where it was stopped or killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lossbench.core import atomic_path

if TYPE_CHECKING:
    from lossbench.engine.stack import FitResult

DIGEST = 32  # bytes in front of a state


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and did, between two steps; `fit` resumes from `states`."""

    def __init__(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(f"stopped at step {max((state.get('steps', 0) for state in states), default=0)}")
        self.states = states


class Paused(Exception):
    """Training reached the step at which it was to pause; `fit` resumes from `states`.

    `fitted` are the results so far, which are final for replicas whose training has ended.
    """

    def __init__(self, states: Sequence[Mapping[str, Any]], fitted: Sequence[FitResult]) -> None:
        super().__init__(f"paused at step {max((result.steps for result in fitted), default=0)}")
        self.states, self.fitted = states, fitted


class Broken(ValueError):
    """A file is not the state that was saved: damaged, unreadable, or of another torch."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the state at a path, once the new one is completely written.

    If the path cannot be written, the run cannot be resumed, but its record is unharmed.
    """
    with contextlib.suppress(OSError, MemoryError):
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        data = buffer.getbuffer()
        with atomic_path(path) as unfinished, unfinished.open("wb") as file:
            file.write(_digest(data))
            file.write(data)


def read(path: Path) -> dict[str, Any] | None:
    """The state saved at a path, None where there is none. Raises: Broken for one that is not as it was saved."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Broken(f"{path}: {error.strerror}") from error
    data = memoryview(content)[DIGEST:]
    if content[:DIGEST] != _digest(data):
        raise Broken(f"{path}: not as it was saved")
    try:
        return torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:  # of another torch
        raise Broken(f"{path}: {error}") from error


def drop(path: Path) -> None:
    """Delete the state saved at a path."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()
