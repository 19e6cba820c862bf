"""A dataset as types: its splits, what is known of it, and how its seeds vary it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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
class DatasetInfo:
    """What is known of a dataset before training.

    `task_type` is the task type, as `task_types` writes it. `inputs` and `targets` are the shapes of one example,
    that of targets empty where they are several tensors.
    `center` and `scale` undo the standardisation of regression targets: y = center + scale · standardised y.
    `fingerprint` is the SHA-256 of the bytes of all splits. `vocabulary` are the symbols that a sequence is read in,
    as `classes` are those that it is written in. `binarize`: an input is the probability of a one, and each look at it
    draws. `mixture_means` are the centres of a mixture, each of deviation `scale`. `sampling` is what seeds change of
    the examples.
    """

    name: str
    task_type: str
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
    binarize: bool = False
    mixture_means: tuple[tuple[float, ...], ...] = ()
    sampling: Sampling = Sampling()


Targets: TypeAlias = Any
"""A tensor, or a mapping of tensors by name: a task knows which of them it takes."""


@dataclass(frozen=True)
class Split:
    """Examples in memory: inputs [n, …], targets [n, …], and marks [n] that no loss sees (outliers, true labels).

    Targets are one tensor, or several by name for a task that says so (`TaskType.several_targets`).
    """

    inputs: Tensor
    targets: Targets
    metadata: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor) -> Split:
        """The batch at these positions. Marks stay behind: nothing that trains may look at them."""
        return self.each(lambda tensor: tensor.index_select(0, index))

    def to(self, device: torch.device) -> Split:
        return replace(self.each(lambda tensor: tensor.to(device)), metadata=self.metadata)

    def chunks(self, size: int) -> Iterator[Split]:
        """All examples, at most so many at a time."""
        for start in range(0, len(self), size):
            yield self.each(partial(_rows, start=start, stop=start + size))

    def each(self, change: Callable[[Tensor], Tensor]) -> Split:
        """Inputs and targets changed alike; where they are one tensor, they stay one."""
        inputs = change(self.inputs)
        return Split(inputs, inputs if self.targets is self.inputs else each_tensor(self.targets, change))


def each_tensor(given: Any, change: Callable[[Tensor], Any]) -> Any:
    """A tensor changed, or each of several by name."""
    if isinstance(given, Mapping):
        return {name: change(tensor) for name, tensor in given.items()}
    return change(given)


def tensors_of(given: Any) -> list[Tensor]:
    """A tensor alone, or several without their names, in the order of these."""
    return [given[name] for name in sorted(given)] if isinstance(given, Mapping) else [given]


def _rows(tensor: Tensor, *, start: int, stop: int) -> Tensor:
    return tensor[start:stop]


@dataclass(frozen=True)
class Splits:
    """A dataset: what to train on, what to select on, what to report on (`extra_tests` names further test splits)."""

    info: DatasetInfo
    train: Split
    validation: Split
    test: Split
    extra_tests: Mapping[str, Split] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Split]]:
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test
        yield from self.extra_tests.items()
