"""The types of a dataset: its splits, its properties, and how seeds vary it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """What differs between seeds, which decides what may be claimed from them.

    `variation`: fresh (each seed draws its own examples), resplit (each splits one pool at random), folds (each tests
    on another part of one pool), fixed (all test on the same examples); empty where a dataset does not say. `pool` is
    the SHA-256 of all examples before any split. The sizes of the splits count units of sampling: examples, or groups
    of examples that stay together. `candidates` counts those from which test splits are drawn: the whole pool, unless
    a part of it is set aside for testing.
    """

    variation: str = ""
    pool: str = ""
    train: int = 0
    validation: int = 0
    test: int = 0
    candidates: int = 0


@dataclass(frozen=True)
class Column:
    """A column of encoded inputs [n, columns]: a number, or the code of a category.

    `levels` is how many codes a category has, 0 … levels − 1, of which 0 is missing or unseen; a number has no levels.
    `edges` are increasing quantiles of a number over the training split, as it is encoded, for piecewise-linear
    embeddings; a flag of 0 or 1 has none.
    """

    name: str
    levels: int = 0
    edges: tuple[float, ...] = ()


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before training.

    `task_type` is the task type, as `task_types` writes it. `inputs` and `targets` are the shapes of one example;
    `targets` is empty where an example has several target tensors.
    `center` and `scale` undo the standardisation of regression targets: y = center + scale · standardised y.
    `fingerprint` is the SHA-256 of the bytes of all splits. `vocabulary` holds the symbols of an input sequence,
    `classes` those of its target. `binarize`: an input is the probability of a one, and every use draws from it anew.
    `mixture_means` are the centres of a mixture, each of deviation `scale`. `sampling` says what differs between seeds.
    `columns` are those of a table; numbers come before categories, whose codes only a model that takes `columns` reads:
    any other gets them one-hot. `target_scales` has the name, centre and scale of each of several regression targets;
    `center` and `scale` are then 0 and 1, and errors are in units of each target's scale.
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
    columns: tuple[Column, ...] = ()
    target_scales: tuple[tuple[str, float, float], ...] = ()


Targets: TypeAlias = Any
"""A tensor, or several by name, as the task takes them."""


@dataclass(frozen=True)
class Split:
    """Examples in memory: inputs [n, …], targets [n, …], and metadata [n] that no loss sees (outliers, true labels).

    Targets are one tensor, or several by name for a task that says so (`TaskType.several_targets`). `weights` [n], with
    mean 1 over the training split, say how much each example counts, in training and in metrics; None: all alike.
    """

    inputs: Tensor
    targets: Targets
    metadata: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor) -> Split:
        """The batch at these positions, without metadata: nothing that trains may see it."""
        return self.each(lambda tensor: tensor.index_select(0, index))

    def to(self, device: torch.device) -> Split:
        """The same examples on a device, metadata left where it is."""
        return replace(self.each(lambda tensor: tensor.to(device)), metadata=self.metadata)

    def chunks(self, size: int) -> Iterator[Split]:
        """All examples in order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.each(partial(_rows, start=start, stop=start + size))

    def each(self, change: Callable[[Tensor], Tensor]) -> Split:
        """Apply a function to inputs, targets and weights; where the first two are one tensor, they stay one."""
        inputs = change(self.inputs)
        targets = inputs if self.targets is self.inputs else each_tensor(self.targets, change)
        return Split(inputs, targets, weights=None if self.weights is None else change(self.weights))


def weight_argument(weights: Tensor | None) -> dict[str, Tensor]:
    """The keyword argument `weights` of a metric, where there are weights; so that others need not take it."""
    return {} if weights is None else {"weights": weights}


def each_tensor(tensors: Any, change: Callable[[Tensor], Any]) -> Any:
    """Apply a function to a tensor, or to each of several by name."""
    if isinstance(tensors, Mapping):
        return {name: change(tensor) for name, tensor in tensors.items()}
    return change(tensors)


def tensors_of(tensors: Any) -> list[Tensor]:
    """A list of one tensor, or of several in the order of their names."""
    return [tensors[name] for name in sorted(tensors)] if isinstance(tensors, Mapping) else [tensors]


def _rows(tensor: Tensor, *, start: int, stop: int) -> Tensor:
    return tensor[start:stop]


class Encoding(Protocol):
    """How raw rows become inputs, fitted on the training split; `save` writes it to a folder, without pickles."""

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class Splits:
    """A dataset: splits to train on, to select on and to report on; `extra_tests` holds further test splits by name.

    `encoding` is recorded with each run, so that its model can be applied to new rows.
    """

    info: DatasetInfo
    train: Split
    validation: Split
    test: Split
    extra_tests: Mapping[str, Split] = field(default_factory=dict)
    encoding: Encoding | None = None

    def __iter__(self) -> Iterator[tuple[str, Split]]:
        yield "train", self.train
        yield "validation", self.validation
        yield "test", self.test
        yield from self.extra_tests.items()
