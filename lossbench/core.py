"""The words of lossbench as types. Nothing here imports torch, so that asking for help stays fast."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor, nn

F = TypeVar("F", bound=Callable[..., Any])

KINDS = ("regression", "binary", "multiclass")


class BadInput(Exception):
    """Something the user gave that cannot work: said in a line or two, exit code 2, no traceback."""


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset before training.

    `kind` is the kind of problem, one of KINDS. `inputs` and `targets` are the shapes of one example.
    `center` and `scale` undo the standardisation of regression targets: y = center + scale · standardised y.
    `fingerprint` is the SHA-256 of the bytes of all splits.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    source: str
    licence: str
    fingerprint: str
    classes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    unit: str = ""
    center: float = 0.0
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        """Numbers that a model gives per example: one for a binary problem, one a class beyond that."""
        if self.kind == "regression":
            return self.targets[0]
        return 1 if self.kind == "binary" else len(self.classes)


@dataclass(frozen=True)
class Split:
    """Examples in memory: inputs [n, …], targets [n, …], and marks [n] that no loss sees (outliers, true labels)."""

    inputs: Tensor
    targets: Tensor
    marks: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Tensor) -> Split:
        """The batch at these positions. Marks stay behind: nothing that trains may look at them."""
        return Split(self.inputs.index_select(0, index), self.targets.index_select(0, index))

    def to(self, device: torch.device) -> Split:
        return Split(self.inputs.to(device), self.targets.to(device), self.marks)


@dataclass(frozen=True)
class Splits:
    """A dataset: what to train on, what to select on, what to report on (`more` names further test splits)."""

    facts: Facts
    train: Split
    validation: Split
    test: Split
    more: Mapping[str, Split] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Split]]:
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test
        yield from self.more.items()


@dataclass(frozen=True)
class Yardstick:
    """A metric that no loss owns. `unit` is shown beside it; a fraction has none."""

    name: str
    meaning: str
    higher_is_better: bool
    unit: str = ""

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    def better(self, a: float, b: float) -> bool:
        """Whether a is strictly better than b."""
        return a > b if self.higher_is_better else a < b


class Noise(Protocol):
    """Random numbers for a step, [*shape] for one replica and [replica, *shape] for a stack, the same under a seed."""

    def normal(self, *shape: int) -> Tensor: ...

    def uniform(self, *shape: int) -> Tensor: ...


class Task(Protocol):
    """What training means for a kind of problem: a dataclass that calls its field `loss` on prediction and target.

    Tensors are `[..., batch, …]`, so that the same task serves one replica and a stack of them.
    """

    @property
    def yardsticks(self) -> Sequence[Yardstick]:
        """What is measured; the first is primary: steps are selected by it."""
        ...

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]: ...

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor]]:
        """Yield (player, terms [..., batch]) for each player in turn; the engine updates it before going on."""
        ...

    def predict(self, nets: Any, inputs: Tensor) -> Tensor:
        """What the yardsticks need of the nets, [..., batch, …]."""
        ...

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The yardsticks that are cheap enough to watch during training."""
        ...

    def tune(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """What is fitted on validation after training, equally for every loss: threshold, temperature."""
        ...

    def report(self, outputs: Tensor, targets: Tensor, tuned: Mapping[str, float]) -> dict[str, float]:
        """Every yardstick, at what `tune` gave."""
        ...

    def pictures(self, outputs: Mapping[str, Tensor], splits: Splits, tuned: Mapping[str, float]) -> dict[str, Figure]:
        """Figures by file name, from the outputs on each test split."""
        ...


class Net(Protocol):
    """A model: where its last layer is, so that any loss can have its bias start at the prior."""

    head: nn.Linear


@dataclass(frozen=True)
class Card:
    """What stands beside a loss's equation: where it fits, what it wants, over which ranges to search.

    Its terms do not depend on each other, unless it says `batch`: then it sees one replica's batch at a time.
    """

    kinds: tuple[str, ...]
    signs: bool = False
    batch: bool = False
    search: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def card(
    *,
    kinds: tuple[str, ...],
    signs: bool = False,
    batch: bool = False,
    search: Mapping[str, tuple[float, float]] | None = None,
) -> Callable[[F], F]:
    """Pin a Card to a loss as `loss.card`.

    The arguments must be literals: `lossbench list` reads them from the source, without importing torch.
    `signs`: targets of a binary problem reach this loss as −1 and +1 rather than 0 and 1. `batch`: a term depends on
    the whole batch, so that batches of several runs must not be put into one call.
    """

    def pin(loss: F) -> F:
        loss.card = Card(kinds, signs, batch, search or {})  # type: ignore[attr-defined]
        return loss

    return pin


def card_of(loss: Any) -> Card | None:
    """The card of a loss, however its hyper-parameters or its targets are bound; None where it has none."""
    while isinstance(loss, partial):
        loss = loss.args[0] if loss.args and callable(loss.args[0]) else loss.func
    return getattr(loss, "card", None)


@dataclass(frozen=True)
class Result:
    """How a run ended: its outcome, where it was selected, and the yardsticks by split (`val`, `test`, …)."""

    outcome: str
    run_id: str
    steps: int
    best_step: int | None
    primary: Yardstick
    yardsticks: Mapping[str, Mapping[str, float]]
    train_s: float

    @property
    def objective(self) -> float:
        """The primary yardstick on validation at the selected step: what a sweeper may optimise."""
        return self.yardsticks.get("val", {}).get(self.primary.name, float("nan"))


def cache_folder() -> Path:
    """What is kept between runs: downloads, generated data, checkpoints. LOSSBENCH_CACHE, or the user's cache."""
    import platformdirs

    return Path(os.environ.get("LOSSBENCH_CACHE") or platformdirs.user_cache_path("lossbench"))


def stream(seed: int, purpose: str) -> torch.Generator:
    """The random stream of one purpose (`init`, `order`, `noise`, …) under a seed.

    Streams are independent by name, so that drawing more of one never shifts another: runs that share a seed
    share initial weights, batch order and noise, whatever their losses draw.
    """
    import torch  # here, since configuration errors must not wait for it

    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
