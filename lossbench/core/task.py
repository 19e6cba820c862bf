"""The types of a task: its step, its outputs, its pictures, and the result of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from lossbench.core.dataset import Split, Splits, Targets
from lossbench.core.loss import LossOutput
from lossbench.core.metric import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn


class Noise(Protocol):
    """The random numbers of a step, [*shape] for one replica and [replica, *shape] for a stack, fixed by the seed.

    `done` is the number of completed steps. What is drawn in one step does not shift the draws of the next.
    """

    done: int

    def own(self) -> Noise:
        """A separate stream for what only the loss draws in this step, so that it does not shift the shared draws."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, [*shape] or [replica, *shape]."""
        ...

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers from [0, 1), [*shape] or [replica, *shape]."""
        ...


Outputs: TypeAlias = "Tensor | Mapping[str, Tensor]"
"""What a task's metrics need, one row per example: a tensor [n, …], or several by name."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, for its pictures: the nets at the selected step, and their outputs on each test split.

    `calibration` is fitted on validation. `glimpses` are the outputs on the first few validation examples, by step.
    """

    nets: Any
    outputs: Mapping[str, Outputs]
    splits: Splits
    calibration: Mapping[str, float] = field(default_factory=dict)
    glimpses: Mapping[int, Outputs] = field(default_factory=dict)


class Pictures(Mapping[str, "Figure"]):
    """Figures by file name, each drawn on access, so that one that fails does not cost the others."""

    def __init__(self, draw: Mapping[str, Callable[[], Figure]]) -> None:
        self._draw = draw

    def __getitem__(self, name: str) -> Figure:
        return self._draw[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._draw)

    def __len__(self) -> int:
        return len(self._draw)


class Task(Protocol):
    """What training means for a task type: a dataclass with a field `loss`, which its step calls.

    What else a task says of itself, such as which models fit, is in `task_type.TaskType`, with defaults.
    Tensors are `[..., batch, …]`, so that the same task serves one replica and a stack of replicas.

    A task that is `weighted` gets the weights of examples [n] in `measure`, `calibrate` and `report`, as the keyword
    argument `weights`, where a split has any.
    """

    @property
    def metrics(self) -> Sequence[Metric]:
        """The metrics of the task; the first is the primary one, by which a step is selected."""
        ...

    @property
    def loss(self) -> Any:
        """The loss, with all its arguments bound but those that the step passes."""
        ...

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | LossOutput]]:
        """Yield (player, per-example losses [..., batch]) for each player; the engine updates it before the next."""
        ...

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Outputs:
        """The outputs that the metrics need; `closely` for reporting, which may take longer than during training.

        The noise is the same at every call under one seed, and no gradients are computed.
        """
        ...

    def measure(self, outputs: Any, targets: Targets) -> dict[str, float]:
        """The metrics that are cheap enough to evaluate during training."""
        ...

    def calibrate(self, outputs: Any, targets: Targets) -> dict[str, float]:
        """Fit on validation after training, in the same way for every loss: threshold, temperature."""
        ...

    def report(self, outputs: Any, targets: Targets, calibration: Mapping[str, float]) -> dict[str, float]:
        """Every metric, with the calibration from `calibrate`."""
        ...

    def pictures(self, seen: TrainedModel) -> Mapping[str, Figure]:
        """Figures by file name; `Pictures` draws each separately."""
        ...


class Net(Protocol):
    """A model that names its last layer, so that the layer's bias can start at the prior."""

    head: nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Result:
    """The result of a run: its outcome, the selected step, and the metrics by split (`val`, `test`, …)."""

    outcome: str
    run_id: str
    steps: int
    best_step: int | None
    primary: Metric
    metrics: Mapping[str, Mapping[str, float]]
    train_s: float

    @property
    def objective(self) -> float:
        """The primary metric on validation at the selected step, which a sweeper may optimise."""
        return self.metrics.get("val", {}).get(self.primary.name, float("nan"))
