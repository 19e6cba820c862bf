"""Losses that a comparison chose by itself and that cannot train on its data are left out; those asked for are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lossbench import terminal
from lossbench.core import ConfigError


class Trained(Protocol):
    """What is trained with a loss that its overrides name."""

    @property
    def overrides(self) -> Sequence[str]: ...


T = TypeVar("T", bound=Trained)


class Faults:
    """Why losses cannot train, where `hydra.launcher.leave_out` says that the others shall."""

    def __init__(self, config: DictConfig) -> None:
        self._leave_out = bool(config.hydra.launcher.get("leave_out"))
        self._found: dict[str, Exception] = {}

    @contextmanager
    def of(self, overrides: Sequence[str]) -> Iterator[None]:
        """Holds against the loss of these overrides what goes wrong inside, or raises it where nothing is left out."""
        try:
            yield
        except (ConfigError, HydraException, OmegaConfBaseException) as error:
            if not self._leave_out:
                raise
            self._found.setdefault(_loss(overrides), error)

    def without(self, jobs: Sequence[T]) -> list[T]:
        """The jobs of losses that can train. Raises: what is wrong with the first one, where none can."""
        left = [job for job in jobs if _loss(job.overrides) not in self._found]
        if not left and self._found:
            raise next(iter(self._found.values()))
        return left

    def tell(self) -> None:
        """One line for each reason."""
        reasons: dict[str, list[str]] = {}
        for loss, error in self._found.items():
            reasons.setdefault(next(iter(str(error).splitlines()), type(error).__name__), []).append(loss)
        for reason, losses in reasons.items():
            terminal.out().print(f"left out: {', '.join(losses)}: {reason}")


def _loss(overrides: Sequence[str]) -> str:
    """What overrides say of the loss, its own settings aside."""
    return next((word.partition("=")[2] for word in reversed(overrides) if word.startswith("loss=")), "")
