"""A task as types: its step, its outputs, its pictures, and how a run of it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

from lossbench.core.dataset import Split, Splits, Targets
from lossbench.core.loss import LossOutput
from lossbench.core.metric import Metric


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


Outputs: TypeAlias = "Tensor | Mapping[str, Tensor]"
"""What a task's metrics need, an example a row: a tensor [n, …], or several by name."""


@dataclass(frozen=True)
class TrainedModel:
    """What a trained model leaves to be drawn: its nets at the selected step, and its outputs on each test split.

    `calibration` was fitted on validation. `glimpses` are the outputs on the first few examples of validation, by step.
    """

    nets: Any
    outputs: Mapping[str, Outputs]
    splits: Splits
    calibration: Mapping[str, float] = field(default_factory=dict)
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
    """What training means for a task type: a dataclass that calls its field `loss` on what it says it takes.

    What else a task says of itself, such as which models fit, stands in `task_types.TaskType`, with defaults.
    Tensors are `[..., batch, …]`, so that the same task serves one replica and a stack of them.
    """

    @property
    def metrics(self) -> Sequence[Metric]:
        """What is measured; the first is primary: steps are selected by it."""
        ...

    @property
    def loss(self) -> Any: ...

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | LossOutput]]:
        """Yield (player, terms [..., batch]) for each player in turn; the engine updates it before going on."""
        ...

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Outputs:
        """What the metrics need of the nets; `closely` when it is reported, and may take longer than when watched.

        The noise is the same at every call under one seed, and no gradients are kept.
        """
        ...

    def measure(self, outputs: Any, targets: Targets) -> dict[str, float]:
        """The metrics that are cheap enough to watch during training."""
        ...

    def calibrate(self, outputs: Any, targets: Targets) -> dict[str, float]:
        """What is fitted on validation after training, equally for every loss: threshold, temperature."""
        ...

    def report(self, outputs: Any, targets: Targets, calibration: Mapping[str, float]) -> dict[str, float]:
        """Every metric, at what `calibrate` gave."""
        ...

    def pictures(self, seen: TrainedModel) -> Mapping[str, Figure]:
        """Figures by file name; `Pictures` draws each on its own."""
        ...


class Net(Protocol):
    """A model: where its last layer is, so that any loss can have its bias start at the prior."""

    head: nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Result:
    """How a run ended: its outcome, where it was selected, and the metrics by split (`val`, `test`, …)."""

    outcome: str
    run_id: str
    steps: int
    best_step: int | None
    primary: Metric
    metrics: Mapping[str, Mapping[str, float]]
    train_s: float

    @property
    def objective(self) -> float:
        """The primary metric on validation at the selected step: what a sweeper may optimise."""
        return self.metrics.get("val", {}).get(self.primary.name, float("nan"))
