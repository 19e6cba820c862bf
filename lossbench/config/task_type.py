"""What a task declares beside `core.Task`, with defaults. Nothing here imports torch before it has to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from lossbench.core import Card, ConfigError, DatasetInfo, Pictures, Split, TrainedModel, weight_argument

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Shape = tuple[int, ...]
Numbers = dict[str, float]


def _replaceable(method: Callable[..., Numbers]) -> Callable[..., Numbers]:
    """The method itself; for type checkers, a class that defines it anew may leave out `weights`."""
    return method


class TaskType:
    """What a task declares beside `core.Task`; everything has a default, so that a task defines only what differs.

    A type is written as its name if it is one of TASKS, otherwise as the dotted path of its class. A class that does
    not inherit from this one gets these defaults too: see `load`.

    The first group decides what a run does. The second is used by `check`, by the search for the form in which a
    foreign loss is called, and by the gallery; without it, a loss of this type is trained as it is.
    """

    # What a run does

    name: ClassVar[str] = ""
    """The name by which losses' cards refer to it; by default, the name of the class in lower case."""
    losses: ClassVar[tuple[str, ...]] = ()
    """Other types all of whose losses fit it too, in the form that `call` gives them."""
    models: ClassVar[tuple[str, ...]] = ()
    """Models of the catalogue that fit, for messages; the first is the default."""
    players: ClassVar[tuple[str, ...]] = ("model",)
    """What optimizers move; a loss of several players has a method for each."""
    layers: ClassVar[tuple[str, ...]] = ("model",)
    """The modules that a model must have, as dotted paths from the nets."""
    logits: ClassVar[bool] = False
    """Whether losses read outputs as logits, so that a model must not end in a sigmoid or softmax."""
    prior: ClassVar[str] = ""
    """What model.prior may set: `one` (a probability, or auto), `classes` (auto), or nothing."""
    several_heads: ClassVar[bool] = False
    """Whether a loss may take several numbers for each output: see `Card.outputs_per_target`."""
    estimator: ClassVar[str] = ""
    """What of scikit-learn solves it on a table, for reference: `regressor`, `classifier`, or nothing."""
    free_outputs: ClassVar[bool] = False
    """Whether the model decides how many numbers it gives."""
    one_by_one: ClassVar[bool] = True
    """Whether a loss takes one prediction and one target per example, so that other losses can be measured on them."""
    several_targets: ClassVar[bool] = False
    """Whether targets are several tensors by name."""
    default_loss: ClassVar[str] = ""
    """The loss of the catalogue for data that decide their own type; empty where there is none."""
    weighted: ClassVar[bool] = False
    """Whether its metrics take weights of examples, as the keyword argument `weights`: see `takes_weights`."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        """How many numbers a model outputs per example, pixel or token."""
        return len(info.classes) or (info.targets[-1] if info.targets else 1)

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """For each checked part of the nets: its name, the shape of its output, and the shape that the task needs."""
        shape, n, each = tuple(nets.model(examples.inputs).shape), len(examples), outputs_per_target * cls.outputs(info)
        yield "", shape, shape if each == 1 and shape == (n,) else (n, each)

    @staticmethod
    def call(loss: Any) -> Any:
        """The loss as this task calls it, on prediction and target of a batch."""
        return loss

    @staticmethod
    def completed(loss: Any, brings: Mapping[str, Callable[[], Any]]) -> Any:
        """The loss with whatever it has to learn."""
        return loss

    @staticmethod
    def lacks(loss: Any) -> str:
        """What the task calls and the loss lacks; empty where nothing is missing."""
        return ""

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Raises: ConfigError for a split of this name that cannot be trained on or measured."""

    @staticmethod
    def units(split: Split) -> Tensor | None:
        """The group of each example, [n], for the uncertainty of a metric; None where examples are independent."""
        return split.metadata.get("group")

    if TYPE_CHECKING:  # a task has to define it itself

        @_replaceable
        def measure(self, outputs: Any, targets: Any, *, weights: Tensor | None = None) -> dict[str, float]: ...

    @_replaceable
    def calibrate(self, outputs: Any, targets: Any, *, weights: Tensor | None = None) -> dict[str, float]:
        """What is fitted on validation outputs and targets, by name; by default nothing."""
        return {}

    @_replaceable
    def report(
        self, outputs: Any, targets: Any, calibration: Mapping[str, float], *, weights: Tensor | None = None
    ) -> dict[str, float]:
        """The metrics that are reported; by default those that `measure` gives."""
        return self.measure(outputs, targets, **weight_argument(weights))

    @_replaceable
    def measure_tuned(
        self, outputs: Any, targets: Any, calibration: Mapping[str, float], *, weights: Tensor | None = None
    ) -> dict[str, float]:
        """The metrics of `measure`, with the calibration that was fitted on validation."""
        return self.measure(outputs, targets, **weight_argument(weights))

    def pictures(self, seen: TrainedModel) -> Mapping[str, Any]:
        """Pictures of a trained model; by default none."""
        return Pictures({})

    # What `check` and the search for a foreign loss's form use

    counts: ClassVar[tuple[int, ...]] = ()
    """Examples of each class in a made-up training split."""
    one_logit: ClassVar[bool] = False
    """Whether a prediction is one logit for a label 0 or 1."""
    identities: ClassVar[bool] = False
    """Whether targets are identities, of which only equality matters."""
    filler: ClassVar[int | None] = None
    """The target value of padding, which never counts."""
    target_unused: ClassVar[str] = ""
    """Why a loss may ignore the target, if it may."""
    one_nearer: ClassVar[bool] = False
    """Whether it is enough that one of the distances decreases."""
    smallest: ClassVar[int] = 4
    """Examples in the smallest batch in which everything that matters occurs."""
    by_chance: ClassVar[tuple[str, ...]] = ()
    """Types whose batches a loss of this type also accepts, by chance."""
    only_with: ClassVar[str] = ""
    """The type that a loss must also fit: without it, a loss that accepts this type's batch belongs to another type."""
    forms: ClassVar[tuple[Any, ...]] = ()
    """Forms in which a foreign loss may be written, as `tasks.calls.Call`, in the order in which they are tried."""

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random prediction and target, in double precision. Raises: ConfigError for a type without such a batch."""
        raise ConfigError(
            f"check: {cls.name} problems have no made-up batch; give {cls.__name__} a class method "
            "batch(size, outputs_per_target, random) that returns prediction and target"
        )

    @staticmethod
    def weights(random: torch.Generator) -> Tensor | None:
        """Random weights of a linear critic; None where there is no critic."""
        return None

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random prediction and target of these shapes, to try forms of a foreign loss on."""
        prediction, truth = cls.batch(size, 1, random)
        return prediction.float(), truth

    @classmethod
    def undecided(cls, sample: Any, player: str) -> Any:
        """The sample with uninformative predictions; None where there are none."""
        return replace(sample, prediction=0 * sample.prediction)

    @classmethod
    def extremes(cls, sample: Any, far: Tensor, outputs_per_target: int) -> Iterator[Any]:
        """Samples on which a loss must stay finite: all predictions equal to one of these extreme values."""
        for value in far.tolist():
            yield replace(sample, prediction=0 * sample.prediction + value)

    @classmethod
    def on_sample(cls, loss: Any, sample: Any, player: str, noise: Any) -> Any:
        """What the loss returns for a player on a sample."""
        return loss(sample.prediction, sample.target)

    @staticmethod
    def other(target: Tensor) -> Tensor:
        """Targets that differ from these."""
        return target.roll(1, 0)

    @classmethod
    def renumbered(cls, sample: Any, card: Card | None) -> Any:
        """The sample with its classes renumbered; the reason, as text, where classes cannot change places."""
        return "no classes that could change places"

    @staticmethod
    def probabilities(prediction: Tensor) -> Tensor:
        """Probabilities of logits [..., classes]."""
        return prediction.softmax(-1)

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor | None:
        """The right prediction: logits of ±1, or values; None where there is none."""
        return None

    @classmethod
    def distance(cls, sample: Any, player: str) -> Tensor | None:
        """The distance of predictions from what they should be, per example where possible; None if unknown."""
        return None

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean distance of a batch's predictions from what they should be; NaN where it is unknown."""
        far = cls.distance(SimpleNamespace(prediction=prediction, target=target), "model")
        return 0 * prediction.sum() / 0 if far is None else far.mean()

    @staticmethod
    def transposed(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
        """The batch in another position, such as images on their side, with the same losses; None if there is none."""
        return None

    @staticmethod
    def mistaken(mean_loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> bool:
        """Whether a loss, by its mean loss on a batch, takes predictions for something else than they are."""
        return False

    always_drawn: ClassVar[bool] = False
    """Whether the gallery draws its losses even if their first task type is another."""
    drawn_classes: ClassVar[int] = 10
    drawn_counts: ClassVar[tuple[int, ...]] = ()
    """Examples of each of the `drawn_classes` classes in a picture of the gallery."""

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[Any, ...]:
        """The gallery's pictures of its losses, as `tasks.views.View`.

        `counted`: of those that need class counts; `two`: of those that take two numbers per output.
        """
        return ()
