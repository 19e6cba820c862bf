"""Task types: those of lossbench by name, and what each says of itself. Nothing here imports torch before it has to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from lossbench.config.importing import imported
from lossbench.core import Card, ConfigError, DatasetInfo, Pictures, Split, TrainedModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TASKS = {
    "regression": "lossbench.tasks.regression.Regression",
    "binary": "lossbench.tasks.classification.Binary",
    "multiclass": "lossbench.tasks.classification.Multiclass",
    "boxes": "lossbench.tasks.boxes.Boxes",
    "autoencoder": "lossbench.tasks.autoencoder.Autoencoder",
    "gan": "lossbench.tasks.gan.Gan",
    "embedding": "lossbench.tasks.embedding.Embedding",
    "segmentation": "lossbench.tasks.segmentation.Segmentation",
    "sequence": "lossbench.tasks.sequence.Sequence",
}
"""The class of each task type of lossbench, by its name, in the order in which people read them."""

TASK_TYPES = tuple(TASKS)

CHOOSE = f"choose {', '.join(TASK_TYPES)}, or give task._target_=my_module.MyTask"

WANTED = ("metrics", "step", "predict", "measure")
"""What a task has to write itself."""

Shape = tuple[int, ...]


class TaskType:
    """What a task says of itself beside `core.Task`; each has a default, so that a task states only what differs.

    A type is written as its name where it is one of TASKS, else as the dotted path of its class. A class that does not
    inherit from this one gets these defaults all the same: see `load`.

    The first group decides what a run does; the second is read by `check`, by the search for the form in which a
    foreign loss is called, and by the gallery: without it, a loss of this type is trained as it is.
    """

    # What a run does

    name: ClassVar[str] = ""
    """Under which losses name it on their cards; by default, the name of the class in lower case."""
    losses: ClassVar[tuple[str, ...]] = ()
    """Other types whose losses fit it too, all of them, in the form that `call` gives them."""
    models: ClassVar[tuple[str, ...]] = ()
    """Models of the catalogue that fit, for messages; the first is the usual one."""
    players: ClassVar[tuple[str, ...]] = ("model",)
    """What a loss is called for; a loss of several players has a method for each."""
    layers: ClassVar[tuple[str, ...]] = ("model",)
    """What a model has to bring, as dotted paths from the nets."""
    logits: ClassVar[bool] = False
    """Whether losses read outputs as logits, so that a model must not end in a sigmoid or softmax."""
    prior: ClassVar[str] = ""
    """What model.prior may set: one (a probability, or auto), classes (auto), or nothing."""
    several_heads: ClassVar[bool] = False
    """Whether a loss may take several numbers for each output: see `Card.outputs_per_target`."""
    free_outputs: ClassVar[bool] = False
    """Whether it is the model that decides how many numbers it gives."""
    one_by_one: ClassVar[bool] = True
    """Whether a loss takes one prediction and one target an example, so that other losses can be measured on them."""
    several_targets: ClassVar[bool] = False
    """Whether targets are several tensors by name."""

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
        """Each part that was called, the shape that it returned, and the shape that the task needs."""
        shape, n, each = tuple(nets.model(examples.inputs).shape), len(examples), outputs_per_target * cls.outputs(info)
        yield "", shape, shape if each == 1 and shape == (n,) else (n, each)

    @staticmethod
    def call(loss: Any) -> Any:
        """A loss that fits as this task calls it, on prediction and target of a batch."""
        return loss

    @staticmethod
    def completed(loss: Any, brings: Mapping[str, Callable[[], Any]]) -> Any:
        """A loss with what it has to learn beside it."""
        return loss

    @staticmethod
    def lacks(loss: Any) -> str:
        """What a loss lacks that this task calls; empty where nothing."""
        return ""

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Raises: ConfigError for a split of this name that cannot be trained on or measured."""

    @staticmethod
    def units(split: Split) -> Tensor | None:
        """What examples belong together, [n], where a number's uncertainty is asked; None where each is on its own."""
        return split.metadata.get("group")

    def calibrate(self, outputs: Any, targets: Any) -> dict[str, float]:
        """Nothing is fitted on validation."""
        return {}

    def report(self, outputs: Any, targets: Any, calibration: Mapping[str, float]) -> dict[str, float]:
        """What is watched is all."""
        found: dict[str, float] = self.measure(outputs, targets)  # type: ignore[attr-defined]
        return found

    def measure_tuned(self, outputs: Any, targets: Any, calibration: Mapping[str, float]) -> dict[str, float]:
        """What is watched, where something has been fitted on validation already."""
        found: dict[str, float] = self.measure(outputs, targets)  # type: ignore[attr-defined]
        return found

    def pictures(self, seen: TrainedModel) -> Mapping[str, Any]:
        """None."""
        return Pictures({})

    # What `check` and the search for a foreign loss's form are shown

    counts: ClassVar[tuple[int, ...]] = ()
    """Examples of each class in a made-up training split."""
    one_logit: ClassVar[bool] = False
    """Whether a prediction is one logit for a label 0 or 1."""
    identities: ClassVar[bool] = False
    """Whether targets are identities, of which it counts only which are the same."""
    filler: ClassVar[int | None] = None
    """The target that fills up and never counts."""
    target_unused: ClassVar[str] = ""
    """Why a loss may do without the target, where it may."""
    one_nearer: ClassVar[bool] = False
    """Whether it is enough that one of the distances falls."""
    smallest: ClassVar[int] = 4
    """Examples of a batch in which all that matters occurs."""
    by_chance: ClassVar[tuple[str, ...]] = ()
    """Types whose batches a loss of this type takes by chance."""
    only_with: ClassVar[str] = ""
    """Type without which a loss that takes this type's batch is rather one of another type."""
    forms: ClassVar[tuple[Any, ...]] = ()
    """In which a foreign loss may be written, as `tasks.calls.Call`, in the order in which they are tried."""

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """A prediction and a target at random, in double precision. Raises: ConfigError where a type makes none."""
        raise ConfigError(
            f"check: {cls.name} problems have no made-up batch; give {cls.__name__} a class method "
            "batch(size, outputs_per_target, random) that returns prediction and target"
        )

    @staticmethod
    def weights(random: torch.Generator) -> Tensor | None:
        """Of a linear critic, where there is one."""
        return None

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """A prediction and a target of these shapes, on which forms of a foreign loss are tried."""
        prediction, truth = cls.batch(size, 1, random)
        return prediction.float(), truth

    @classmethod
    def undecided(cls, sample: Any, player: str) -> Any:
        """The sample with predictions that say nothing; None where there are none."""
        return replace(sample, prediction=0 * sample.prediction)

    @classmethod
    def extremes(cls, sample: Any, far: Tensor, outputs_per_target: int) -> Iterator[Any]:
        """Samples that a loss has to stand: predictions all at each of these far values."""
        for value in far.tolist():
            yield replace(sample, prediction=0 * sample.prediction + value)

    @classmethod
    def on_sample(cls, loss: Any, sample: Any, player: str, noise: Any) -> Any:
        """What the loss returns for a player on a sample."""
        return loss(sample.prediction, sample.target)

    @staticmethod
    def other(target: Tensor) -> Tensor:
        """Other targets than these."""
        return target.roll(1, 0)

    @classmethod
    def renumbered(cls, sample: Any, card: Card | None) -> Any:
        """The sample with its classes under other numbers; why not, where none can change places."""
        return "no classes that could change places"

    @staticmethod
    def probabilities(prediction: Tensor) -> Tensor:
        """Of logits."""
        return prediction.softmax(-1)

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor | None:
        """What is right: logits of size 1, or numbers; None where no prediction is."""
        return None

    @classmethod
    def distance(cls, sample: Any, player: str) -> Tensor | None:
        """How far predictions are from what they should be, an example each where that can be; None if unknown."""
        return None

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        """How far the predictions of a batch are from what they should be; no number where that is unknown."""
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
    """Whether the gallery draws its losses also where they are for another type first."""
    drawn_classes: ClassVar[int] = 10
    drawn_counts: ClassVar[tuple[int, ...]] = ()
    """Classes in a picture of the gallery, and examples of each."""

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[Any, ...]:
        """Pictures of its losses, as `tasks.views.View`; of those that count classes, or take two numbers an output."""
        return ()


def load(task_type: str) -> type[Any]:
    """The class of a task type: one of TASKS by name, any other by its dotted path, with all defaults of `TaskType`.

    Raises: ConfigError for a name that is none, and for a path at which there is no task.
    """
    path = TASKS.get(task_type, task_type)
    if "." not in path:
        raise ConfigError(f"dataset.task_type={task_type}: unknown; {CHOOSE}")
    try:
        found = imported(path)
    except (Exception, SystemExit) as error:  # whatever a foreign module does when it is imported
        raise ConfigError(f"task._target_={path}: cannot be imported: {error or type(error).__name__}") from error
    return _completed(path, found)


@cache
def _completed(path: str, found: Any) -> type[Any]:
    if not isinstance(found, type):
        raise ConfigError(f"task._target_={path}: a {type(found).__name__}; a task is a class")
    absent = [name for name in WANTED if not hasattr(found, name)]
    if absent:
        raise ConfigError(f"task._target_={path}: has no {' and no '.join(absent)}, which a task has to say")
    if not is_dataclass(found) or not {"loss", "info"} <= set(inspect.signature(found).parameters):
        raise ConfigError(f"task._target_={path}: has to be a dataclass with the fields loss and info")
    if issubclass(found, TaskType):
        return found
    own = {"name": getattr(found, "name", found.__name__.lower()), "__module__": found.__module__}
    return type(found.__name__, (found, TaskType), own)


def chosen(cfg: Any) -> str:
    """The task type of a configuration: the path at task._target_, else what the dataset says.

    Raises: ConfigError where neither is there.
    """
    task_type = (cfg.get("task") or {}).get("_target_") or cfg.dataset.get("task_type")
    if not task_type:
        raise ConfigError(f"dataset.task_type: missing; {CHOOSE}")
    return str(task_type)


def named(task_type: str) -> str:
    """The name of a type, as people and losses' cards call it."""
    return task_type if task_type in TASKS else str(load(task_type).name)


def accepted(task_type: str) -> tuple[str, ...]:
    """The types by whose name a loss's card says that it fits this one; its own first."""
    return (task_type,) if task_type in TASKS else tuple(dict.fromkeys((named(task_type), *load(task_type).losses)))


def fits(task_types: tuple[str, ...] | None, task_type: str) -> bool:
    """Whether a loss whose card names these types fits one; without a card it is its author's word for any."""
    return task_types is None or not set(accepted(task_type)).isdisjoint(task_types)
