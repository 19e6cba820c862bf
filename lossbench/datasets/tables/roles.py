"""What the columns of a table are for, as the settings of a dataset say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Names = str | Sequence[str] | None


@dataclass(frozen=True)
class Roles:
    """Which columns mean what; the names are those of settings."""

    target: tuple[str, ...]
    task_type: str | None = None
    positive: str | None = None
    group_on: str | None = None
    time_on: str | None = None
    stratify_on: str | None = None
    split: str | None = None
    weight: str | None = None
    drop: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @staticmethod
    def of(
        target: Any = None,
        *,
        positive: Any = None,
        drop: Names = None,
        numbers: Names = None,
        categories: Names = None,
        **single: str | None,
    ) -> Roles:
        """The roles that settings give: lists or single names, and a positive class of any type."""
        return Roles(
            names_of(target),
            positive=None if positive is None else str(positive),
            drop=names_of(drop),
            numbers=names_of(numbers),
            categories=names_of(categories),
            **single,
        )


def names_of(given: Any) -> tuple[str, ...]:
    """Names as a tuple."""
    if given is None:
        return ()
    return tuple(map(str, given)) if isinstance(given, Sequence) and not isinstance(given, str) else (str(given),)
