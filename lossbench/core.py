"""The words of lossbench as types. Nothing here imports torch, so that asking for help stays fast."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor, nn

F = TypeVar("F", bound=Callable[..., Any])

KINDS = ("regression", "binary", "multiclass", "boxes", "autoencoder", "gan", "embedding", "segmentation", "sequence")


class BadInput(Exception):
    """Something the user gave that cannot work: said in a line or two, exit code 2, no traceback."""


def demand(name: str, value: Any, holds: Callable[[float], bool], what: str) -> None:
    """Raises: BadInput for a setting that is no finite number for which this holds; `what` says it in words."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadInput(f"{name}={value}: not a number; {what}") from None
    if not math.isfinite(number) or not holds(number):
        raise BadInput(f"{name}={value}: has to be {what}")


@dataclass(frozen=True)
class Sampling:
    """Where the differences between seeds come from, which decides what may be claimed of them.

    `variation`: fresh (each seed draws examples of its own), resplit (each splits one pool at random), folds (each
    tests on another part of one pool), fixed (all test on the same examples); empty where a dataset does not say.
    `pool` is the SHA-256 of all examples before any split. The sizes of the splits count what is drawn as one:
    examples, or groups of them that stay together. `candidates` are those that test splits are drawn from: all of the
    pool, unless some of it is kept for them.
    """

    variation: str = ""
    pool: str = ""
    train: int = 0
    validation: int = 0
    test: int = 0
    candidates: int = 0


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset before training.

    `kind` is the kind of problem, one of KINDS. `inputs` and `targets` are the shapes of one example.
    `center` and `scale` undo the standardisation of regression targets: y = center + scale · standardised y.
    `fingerprint` is the SHA-256 of the bytes of all splits. `vocabulary` are the symbols that a sequence is read in,
    as `classes` are those that it is written in. `coins`: an input is the probability of one, and whoever looks draws.
    `modes` are the centres of a mixture, each of deviation `scale`. `sampling` is what seeds change of the examples.
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
    vocabulary: tuple[str, ...] = ()
    coins: bool = False
    modes: tuple[tuple[float, ...], ...] = ()
    sampling: Sampling = Sampling()

    @property
    def outputs(self) -> int:
        """Numbers that a model gives per example, pixel or token: one where there are two classes, else one a class."""
        if self.kind in ("regression", "boxes"):
            return self.targets[0]
        return 1 if self.kind in ("binary", "segmentation") else len(self.classes)


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
        return self.each(lambda tensor: tensor.index_select(0, index))

    def to(self, device: torch.device) -> Split:
        return replace(self.each(lambda tensor: tensor.to(device)), marks=self.marks)

    def chunks(self, size: int) -> Iterator[Split]:
        """All examples, at most so many at a time."""
        for start in range(0, len(self), size):
            yield self.each(partial(_rows, start=start, stop=start + size))

    def each(self, change: Callable[[Tensor], Tensor]) -> Split:
        """Inputs and targets changed alike; where they are one tensor, they stay one."""
        inputs = change(self.inputs)
        return Split(inputs, inputs if self.targets is self.inputs else change(self.targets))


def _rows(tensor: Tensor, *, start: int, stop: int) -> Tensor:
    return tensor[start:stop]


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


Range: TypeAlias = tuple[float, float]
"""The least and the largest value that a metric can have, infinite where it has none."""

ANY: Range = (-math.inf, math.inf)
POSITIVE: Range = (0.0, math.inf)
SHARE: Range = (0.0, 1.0)


def finite(ends: Range) -> list[float | None]:
    """A range as JSON has it: None for an end that is infinite."""
    return [end if math.isfinite(end) else None for end in ends]


@dataclass(frozen=True)
class Yardstick:
    """A metric that no loss owns. `unit` is shown beside it; a fraction has none. No value lies outside its `range`.

    At `collapse` or below, on the test split, a model gives the same whatever it is asked: its outcome is `collapsed`.
    """

    name: str
    meaning: str
    higher_is_better: bool
    unit: str = ""
    collapse: float | None = None
    range: Range = ANY

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    def better(self, a: float, b: float) -> bool:
        """Whether a is strictly better than b."""
        return a > b if self.higher_is_better else a < b


class Noise(Protocol):
    """Random numbers of a step, [*shape] for one replica and [replica, *shape] for a stack, the same under a seed.

    `done` is how many steps are behind it. What is drawn in one step does not shift what the next one draws.
    """

    done: int

    def own(self) -> Noise:
        """For what only a loss draws in this step, which then does not shift what all of them share."""
        ...

    def normal(self, *shape: int) -> Tensor: ...

    def uniform(self, *shape: int) -> Tensor: ...


class Parts(NamedTuple):
    """What a loss of several parts may return: its terms, and numbers to record beside them, by name."""

    terms: Tensor
    parts: Mapping[str, Tensor]

    @staticmethod
    def of(given: Tensor | Parts) -> Parts:
        """What a loss returned, also where it is terms alone; its parts under names that a record takes.

        Raises: BadInput for a part that is named like what the loop records itself, or like another part.
        """
        if not isinstance(given, Parts):
            return Parts(given, {})
        return Parts(given.terms, dict(zip(_part_names(tuple(given.parts)), given.parts.values(), strict=True)))


RECORDED = ("loss", "grad_norm")  # by the loop, of every player


@cache
def _part_names(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Raises: BadInput for names that cannot stand beside each other and beside what the loop records."""
    cleaned = tuple(record_name(str(name).replace("/", "_")) for name in names)
    for name, clean in zip(names, cleaned, strict=True):
        if clean in RECORDED:
            raise BadInput(f"loss: a part of it is called {name!r}, which every run records itself; rename the part")
        if cleaned.count(clean) > 1:
            raise BadInput(f"loss: its part {name!r} is recorded as {clean}, and so is another part; rename one")
    return cleaned


NAME_LENGTH = 250  # of what a store takes


@cache
def record_name(name: str) -> str:
    """A name that a store takes for a metric or a parameter: what it does not take becomes an underscore.

    `/` parts a name, and no part of it is empty or leads out of it.
    """
    parts = (re.sub(r"[^\w.: -]", "_", part).strip() for part in name.split("/"))
    return "/".join("_" * max(1, len(part)) if not part.strip(".") else part for part in parts)[:NAME_LENGTH]


Outputs: TypeAlias = "Tensor | Mapping[str, Tensor]"
"""What a task's yardsticks need, an example a row: a tensor [n, …], or several by name."""


@dataclass(frozen=True)
class Seen:
    """What a trained model leaves to be drawn: its nets at the selected step, and its outputs on each test split.

    `tuned` was fitted on validation. `glimpses` are the outputs on the first few examples of validation, by step.
    """

    nets: Any
    outputs: Mapping[str, Outputs]
    splits: Splits
    tuned: Mapping[str, float] = field(default_factory=dict)
    glimpses: Mapping[int, Outputs] = field(default_factory=dict)


class Pictures(Mapping[str, "Figure"]):
    """Figures by file name, each drawn when it is asked for: one that cannot be drawn costs no other."""

    def __init__(self, draw: Mapping[str, Callable[[], Figure]]) -> None:
        self._draw = draw

    def __getitem__(self, name: str) -> Figure:
        return self._draw[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._draw)

    def __len__(self) -> int:
        return len(self._draw)


class Task(Protocol):
    """What training means for a kind of problem: a dataclass that calls its field `loss` on what it says it takes.

    Tensors are `[..., batch, …]`, so that the same task serves one replica and a stack of them.
    """

    @property
    def yardsticks(self) -> Sequence[Yardstick]:
        """What is measured; the first is primary: steps are selected by it."""
        ...

    @property
    def loss(self) -> Any: ...

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | Parts]]:
        """Yield (player, terms [..., batch]) for each player in turn; the engine updates it before going on."""
        ...

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Outputs:
        """What the yardsticks need of the nets; `closely` when it is reported, and may take longer than when watched.

        The noise is the same at every call under one seed, and no gradients are kept.
        """
        ...

    def measure(self, outputs: Any, targets: Tensor) -> dict[str, float]:
        """The yardsticks that are cheap enough to watch during training."""
        ...

    def tune(self, outputs: Any, targets: Tensor) -> dict[str, float]:
        """What is fitted on validation after training, equally for every loss: threshold, temperature."""
        ...

    def report(self, outputs: Any, targets: Tensor, tuned: Mapping[str, float]) -> dict[str, float]:
        """Every yardstick, at what `tune` gave."""
        ...

    def pictures(self, seen: Seen) -> Mapping[str, Figure]:
        """Figures by file name; `Pictures` draws each on its own."""
        ...


class Net(Protocol):
    """A model: where its last layer is, so that any loss can have its bias start at the prior."""

    head: nn.Linear | nn.Conv2d


Search: TypeAlias = "tuple[float, float] | tuple[float, float, tuple[str, ...]]"
"""The ends of a parameter's range; then the kinds of problem that know the parameter, if not all the loss's do."""


@dataclass(frozen=True)
class Card:
    """What stands beside a loss's equation: where it fits, what it wants, over which ranges to search.

    Its terms do not depend on each other, unless it says `batch`: then it sees one replica's batch at a time. `wide`:
    it takes tensors [..., batch, …] and nets with however many axes lead. `needs` are the arguments that a run brings
    rather than a file: `classes` (how many the training split has), `class_counts` (examples of each in the
    training split, a tuple), `dimensions` (of what the model gives), `generator` (the seed's stream for what only the
    loss draws). `heads`: how many numbers it takes of a net for each output. `limits` are other losses that it is at
    some settings, up to a constant factor.
    """

    kinds: tuple[str, ...]
    signs: bool = False
    batch: bool = False
    wide: bool = False
    needs: tuple[str, ...] = ()
    search: Mapping[str, Search] = field(default_factory=dict)
    heads: int = 1
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def card(
    *,
    kinds: tuple[str, ...],
    signs: bool = False,
    batch: bool = False,
    wide: bool = False,
    needs: tuple[str, ...] = (),
    search: Mapping[str, Search] | None = None,
    heads: int = 1,
    limits: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[F], F]:
    """Pin a Card to a loss as `loss.card`.

    The arguments must be literals: `lossbench list` reads them from the source, without importing torch.
    `signs`: targets of a binary problem reach this loss as −1 and +1 rather than 0 and 1. `batch`: a term depends on
    the whole batch, so that batches of several runs must not be put into one call. The others: see Card.
    """

    def pin(loss: F) -> F:
        loss.card = Card(kinds, signs, batch, wide, needs, search or {}, heads, limits or {})  # type: ignore[attr-defined]
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
    """Where what is kept between runs is written: downloads, generated data, checkpoints.

    LOSSBENCH_CACHE, or the user's cache; where that cannot be written, a temporary folder, which is said once.
    Raises: BadInput where no temporary folder can be had either.
    """
    return _writable(_named_cache())


def cached(name: str) -> Path:
    """Where a file that is kept between runs would be read: in the cache, also where that can be read only."""
    with contextlib.suppress(OSError, RuntimeError):
        if (there := Path(_named_cache()).expanduser() / name).exists():
            return there
    return cache_folder() / name


def _named_cache() -> str:
    import platformdirs

    return os.environ.get("LOSSBENCH_CACHE") or str(platformdirs.user_cache_path("lossbench"))


INSTEAD = "LOSSBENCH_TEMPORARY_CACHE"  # what worker processes use, too


@cache
def _writable(named: str) -> Path:
    import tempfile

    try:
        folder = Path(named).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # the latter without a home
        why = getattr(error, "strerror", None) or error
    if instead := os.environ.get(INSTEAD):
        return Path(instead)
    try:
        temporary = tempfile.mkdtemp(prefix="lossbench-")
    except OSError as error:
        raise BadInput(
            f"LOSSBENCH_CACHE={named}: cannot be written ({why}), and nor can a temporary folder: {error}\n"
            "LOSSBENCH_CACHE= takes a folder that can be written"
        ) from error
    atexit.register(_remove, Path(temporary))
    os.environ[INSTEAD] = temporary
    print(
        f"the cache {named} cannot be written ({why}): nothing is kept for later calls; "
        "LOSSBENCH_CACHE= takes another folder",
        file=sys.stderr,
    )
    return Path(temporary)


def _remove(temporary: Path) -> None:
    """Remove a temporary cache, unless something in it still waits to be recorded."""
    if not any(temporary.glob("spool/*/*.jsonl")):
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside a path to write to, whose file takes the path's place at the end: a kill leaves the older one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def stream(seed: int, purpose: str) -> torch.Generator:
    """The random stream of one purpose (`init`, `order`, `noise`, …) under a seed.

    Streams are independent by name, so that drawing more of one never shifts another: runs that share a seed
    share initial weights, batch order and noise, whatever their losses draw.
    """
    import torch  # here, since configuration errors must not wait for it

    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
