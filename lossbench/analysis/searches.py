"""The searches that chose settings, as comparisons recorded them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run


TAG = "lossbench.search."
RANDOM = "random"  # the sampler whose trials are independent of each other
BLAMED = ("diverged", "failed", "collapsed")  # outcomes that the loss is to blame for


@dataclass(frozen=True)
class Search:
    """The search for one loss's settings on one dataset; `words` are the overrides of its command line."""

    study: str
    loss: str
    dataset: str
    sampler: str = RANDOM
    budget: Mapping[str, float] = field(default_factory=dict)
    splits: int = 1
    pruning: float | None = None
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    chosen: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def independent(self) -> bool:
        """Whether its trials are independent draws of equal length, as a confidence band requires."""
        return self.sampler == RANDOM and not self.pruning

    def place(self, parameter: str) -> float | None:
        """The place of the chosen value within its range, from 0 to 1 on the range's scale; None without ends."""
        limits, value = self.space.get(parameter, {}), self.settings.get(parameter)
        if "low" not in limits or not isinstance(value, (int, float)):
            return None
        ends = (limits["low"], limits["high"], value)
        if limits.get("near_one"):
            low, high, at = (-math.log(1 - x) for x in ends)
        else:
            low, high, at = (math.log(x) if limits.get("log") else float(x) for x in ends)
        return (at - low) / (high - low) if high > low else None


def searches_of(comparisons: Iterable[Run]) -> dict[str, Search]:
    """The searches that comparisons recorded, by study; where several recorded one, that of the last."""
    found = {}
    for comparison in comparisons:
        for key, text in comparison.data.tags.items():
            if key.startswith(TAG):
                fields = {k: value for k, value in json.loads(text).items() if k in Search.__dataclass_fields__}
                fields |= {name: tuple(fields.get(name) or ()) for name in ("own", "words")}
                found[fields["study"]] = Search(**fields)
    return found
