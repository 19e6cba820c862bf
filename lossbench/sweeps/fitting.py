"""Leaves out the losses that cannot train on the data, where the comparison chose them and the user did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lossbench import terminal
from lossbench.config.overrides import TARGET, key
from lossbench.core import ConfigError, without_digest


class Trained(Protocol):
    """A job or a candidate: anything with overrides that name a loss."""

    @property
    def overrides(self) -> Sequence[str]:
        """The overrides of its command line, the loss among them."""


T = TypeVar("T", bound=Trained)


class Faults:
    """Why losses cannot train; with `hydra.launcher.leave_out`, the others train without them."""

    def __init__(self, config: DictConfig) -> None:
        self._leave_out = bool(config.hydra.launcher.get("leave_out"))
        self._found: dict[str, Exception] = {}

    @contextmanager
    def of(self, overrides: Sequence[str]) -> Iterator[None]:
        """Records an error inside the block for the loss of these overrides, or raises it where nothing is left out."""
        try:
            yield
        except (ConfigError, HydraException, OmegaConfBaseException) as error:
            if not self._leave_out:
                raise
            self._found.setdefault(_loss(overrides), error)

    def left_out(self, overrides: Sequence[str]) -> bool:
        """Whether the loss of these overrides is known not to train."""
        return bool(self._found) and _loss(overrides) in self._found

    def without(self, jobs: Sequence[T]) -> list[T]:
        """The jobs whose losses can train. Raises: the first error, where none can."""
        left = [job for job in jobs if _loss(job.overrides) not in self._found]
        if not left and self._found:
            raise next(iter(self._found.values()))
        return left

    def tell(self) -> None:
        """Print one line for each reason."""
        reasons: dict[str, list[str]] = {}
        for loss, error in self._found.items():
            reasons.setdefault(next(iter(str(error).splitlines()), type(error).__name__), []).append(loss)
        for reason, losses in reasons.items():
            terminal.out().print(f"left out: {', '.join(losses)}: {reason}")


def _loss(overrides: Sequence[str]) -> str:
    """The loss that the overrides name, without its settings."""
    chosen = (word for word in reversed(overrides) if key(word) in ("loss", f"loss{TARGET}"))
    return without_digest(next((word.partition("=")[2].strip("'") for word in chosen), ""))
