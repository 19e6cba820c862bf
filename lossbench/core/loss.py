"""A loss as types: what it returns, and the card that stands beside its equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

from lossbench.core.errors import ConfigError
from lossbench.core.names import record_name

F = TypeVar("F", bound=Callable[..., Any])


class LossOutput(NamedTuple):
    """What a loss of several parts may return: its terms, and numbers to record beside them, by name."""

    per_example: Tensor
    parts: Mapping[str, Tensor]

    @staticmethod
    def of(given: Tensor | LossOutput) -> LossOutput:
        """What a loss returned, also where it is terms alone; its parts under names that a record takes.

        Raises: ConfigError for a part that is named like what the loop records itself, or like another part.
        """
        if not isinstance(given, LossOutput):
            return LossOutput(given, {})
        return LossOutput(
            given.per_example, dict(zip(_part_names(tuple(given.parts)), given.parts.values(), strict=True))
        )


RECORDED = ("loss", "grad_norm")  # by the loop, of every player


@cache
def _part_names(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Raises: ConfigError for names that cannot stand beside each other and beside what the loop records."""
    cleaned = tuple(record_name(str(name).replace("/", "_")) for name in names)
    for name, clean in zip(names, cleaned, strict=True):
        if clean in RECORDED:
            raise ConfigError(f"loss: a part of it is called {name!r}, which every run records itself; rename the part")
        if cleaned.count(clean) > 1:
            raise ConfigError(f"loss: its part {name!r} is recorded as {clean}, and so is another part; rename one")
    return cleaned


Search: TypeAlias = "tuple[float, float] | tuple[float, float, tuple[str, ...]]"
"""The ends of a parameter's range; then the task types that know the parameter, if not all the loss's do."""


@dataclass(frozen=True)
class Card:
    """What stands beside a loss's equation: where it fits, what it wants, over which ranges to search.

    The losses of its examples do not depend on each other, unless it says `batch`: then it sees one replica's batch at
    a time. `replica_batched`: it takes tensors [..., batch, …] and nets with however many axes lead. `needs` are the
    arguments that a run brings rather than a file: `classes` (how many the training split has), `class_counts`
    (examples of each in the training split, a tuple), `dimensions` (of what the model gives), `generator` (the seed's
    stream for what only the loss draws). `outputs_per_target`: how many numbers it takes of a net for each output.
    `limits` are other losses that it is at some settings, up to a constant factor.
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
    """Pin a Card to a loss as `loss.card`.

    `signed_targets`: targets of a binary problem reach this loss as −1 and +1 rather than 0 and 1. `batch`: the loss of
    an example depends on the whole batch, so that batches of several runs must not be put into one call. The others:
    see Card.
    """

    def pin(loss: F) -> F:
        made = Card(
            task_types, signed_targets, batch, replica_batched, needs, search or {}, outputs_per_target, limits or {}
        )
        loss.card = made  # type: ignore[attr-defined]
        return loss

    return pin


def card_of(loss: Any) -> Card | None:
    """The card of a loss, however its hyper-parameters or its targets are bound; None where it has none."""
    while isinstance(loss, partial):
        loss = loss.args[0] if loss.args and callable(loss.args[0]) else loss.func
    return getattr(loss, "card", None)
