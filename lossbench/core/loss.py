"""The types of a loss: what it returns, and the card that describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from lossbench.core.errors import ConfigError
from lossbench.core.names import record_name

if TYPE_CHECKING:
    from torch import Tensor


F = TypeVar("F", bound=Callable[..., Any])


class LossOutput(NamedTuple):
    """What a loss of several parts may return: per-example losses, and its parts to record beside them, by name."""

    per_example: Tensor
    parts: Mapping[str, Tensor]

    @staticmethod
    def of(returned: Tensor | LossOutput) -> LossOutput:
        """Wrap what a loss returned, a bare tensor included; parts get names that a record accepts.

        Raises: ConfigError for a part whose name the training loop records itself, or that another part has.
        """
        if not isinstance(returned, LossOutput):
            return LossOutput(returned, {})
        names = _part_names(tuple(returned.parts))
        return LossOutput(returned.per_example, dict(zip(names, returned.parts.values(), strict=True)))


RECORDED = ("loss", "grad_norm")  # by the training loop, for every player


@cache
def _part_names(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Raises: ConfigError for names that clash with each other or with what the training loop records."""
    cleaned = tuple(record_name(str(name).replace("/", "_")) for name in names)
    for name, clean in zip(names, cleaned, strict=True):
        if clean in RECORDED:
            raise ConfigError(f"loss: a part is called {name!r}, which every run records itself; rename the part")
        if cleaned.count(clean) > 1:
            raise ConfigError(f"loss: part {name!r} is recorded as {clean}, and so is another part; rename one")
    return cleaned


Search: TypeAlias = "tuple[float, float] | tuple[float, float, tuple[str, ...]]"
"""The ends of a parameter's range; then the task types that have the parameter, if not all of the loss's do."""


@dataclass(frozen=True)
class Card:
    """What is declared beside a loss's equation: which task types it fits, what it needs, which ranges to search.

    `signed_targets`: the targets of a binary problem reach the loss as −1 and +1 rather than 0 and 1. `batch`: the loss
    of an example depends on the whole batch, so that it sees the batch of one replica at a time. `replica_batched`: it
    accepts tensors [..., batch, …] and nets with any number of leading axes. `needs` are the arguments that come from
    the run rather than from a file: `classes` (how many the training split has), `class_counts` (examples of each in
    the training split, a tuple), `dimensions` (of the model's output), `generator` (the seed's stream for what only the
    loss draws). `outputs_per_target`: how many numbers of the net it takes for each target. `limits` are other losses
    that it equals at some settings, up to a constant factor.
    """

    task_types: tuple[str, ...]
    signed_targets: bool = False
    batch: bool = False
    replica_batched: bool = False
    needs: tuple[str, ...] = ()
    search: Mapping[str, Search] = field(default_factory=dict)
    outputs_per_target: int = 1
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def card(
    *,
    task_types: tuple[str, ...],
    signed_targets: bool = False,
    batch: bool = False,
    replica_batched: bool = False,
    needs: tuple[str, ...] = (),
    search: Mapping[str, Search] | None = None,
    outputs_per_target: int = 1,
    limits: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[F], F]:
    """Decorator that attaches a Card to a loss as `loss.card`; Card describes the arguments."""

    if isinstance(task_types, str):  # whose letters would be taken for types
        raise TypeError(f"card(task_types={task_types!r}): a text; a tuple works: ({task_types!r},)")

    def attach(loss: F) -> F:
        loss.card = Card(  # type: ignore[attr-defined]
            task_types, signed_targets, batch, replica_batched, needs, search or {}, outputs_per_target, limits or {}
        )
        return loss

    return attach


def card_of(loss: Any) -> Card | None:
    """The card of a loss, also through `partial`; None where it has none."""
    while isinstance(loss, partial):
        loss = loss.args[0] if loss.args and callable(loss.args[0]) else loss.func
    return getattr(loss, "card", None)
