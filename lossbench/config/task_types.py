"""Task types: those of lossbench by name, others by their path, and which losses fit them."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf

from lossbench.config.importing import imported
from lossbench.config.task_type import TaskType
from lossbench.core import ConfigError

TASKS = {
    "regression": "lossbench.tasks.regression.Regression",
    "binary": "lossbench.tasks.binary.Binary",
    "multiclass": "lossbench.tasks.multiclass.Multiclass",
    "boxes": "lossbench.tasks.boxes.Boxes",
    "autoencoder": "lossbench.tasks.autoencoder.Autoencoder",
    "gan": "lossbench.tasks.gan.Gan",
    "embedding": "lossbench.tasks.embedding.Embedding",
    "segmentation": "lossbench.tasks.segmentation.Segmentation",
    "sequence": "lossbench.tasks.sequence.Sequence",
}
"""The class of each task type of lossbench by its name, in reading order."""

TASK_TYPES = tuple(TASKS)

CHOOSE = f"choose {', '.join(TASK_TYPES)}, or give task._target_=my_module.MyTask"

WANTED = ("metrics", "step", "predict", "measure")
"""What a task has to define itself."""


def load(task_type: str) -> type[Any]:
    """The class of a task type: one of TASKS by name, any other by its dotted path, with all defaults of `TaskType`.

    Raises: ConfigError for an unknown name, and for a path at which there is no task.
    """
    path = TASKS.get(task_type, task_type)
    if "." not in path:
        raise ConfigError(f"task_type={task_type}: unknown; {CHOOSE}")
    try:
        found = imported(path)
    except (Exception, SystemExit) as error:  # importing a foreign module may raise anything
        raise ConfigError(f"task._target_={path}: cannot be imported: {error or type(error).__name__}") from error
    return _completed(path, found)


@cache
def _completed(path: str, found: Any) -> type[Any]:
    if not isinstance(found, type):
        raise ConfigError(f"task._target_={path}: a {type(found).__name__}; a task is a class")
    absent = [name for name in WANTED if not hasattr(found, name)]
    if absent:
        raise ConfigError(f"task._target_={path}: has no {' and no '.join(absent)}, which a task must define")
    if not is_dataclass(found) or not {"loss", "info"} <= set(inspect.signature(found).parameters):
        raise ConfigError(f"task._target_={path}: must be a dataclass with the fields loss and info")
    for field in fields(found):
        if field.name == "metrics":
            raise ConfigError(f"task._target_={path}: metrics is a field; a class attribute without a type works")
        if not field.init:  # runs of a stack share one task, and metrics of the user's own are measured on another
            raise ConfigError(f"task._target_={path}: keeps {field.name} from call to call; a task has no state")
    if isinstance(losses := getattr(found, "losses", ()), str):
        raise ConfigError(f"task._target_={path}: losses={losses!r} is a text; a tuple works: ({losses!r},)")
    if issubclass(found, TaskType):
        return found
    own = {"name": getattr(found, "name", found.__name__.lower()), "__module__": found.__module__}
    return type(found.__name__, (found, TaskType), own)


AUTO = "auto"
"""The task type of a dataset that its data decide."""


def takes_weights(task: type[Any]) -> bool:
    """Whether a task's metrics take weights: it says so, and no method that it defines anew leaves them out."""
    methods = (getattr(task, name) for name in ("measure", "calibrate", "report", "measure_tuned"))
    return bool(task.weighted) and all("weights" in inspect.signature(method).parameters for method in methods)


def chosen(cfg: Any) -> str:
    """The task type of a configuration: the path at task._target_, or else the dataset's, which its data may decide.

    Raises: ConfigError where neither is set.
    """
    task_type = (cfg.get("task") or {}).get("_target_") or cfg.dataset.get("task_type")
    if not task_type:
        raise ConfigError(f"dataset.task_type: missing; {CHOOSE}")
    return of_data(cfg.dataset) if task_type == AUTO else str(task_type)


def of_data(dataset: Any) -> str:
    """The task type that a dataset finds in its data: `task_type_of` of its settings, beside it in its module.

    A setting that is missing is None there.

    Raises: ConfigError for a dataset that cannot tell.
    """
    names = [str(name) for name in dataset if name not in ("_target_", "task_type", "name")]
    settings = {name: None if OmegaConf.is_missing(dataset, name) else dataset[name] for name in names}
    plain: Any = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)
    path = str(dataset["_target_"])
    try:
        task_type_of = import_module(path.rpartition(".")[0]).task_type_of
    except (Exception, SystemExit) as error:  # importing a foreign module may raise anything
        raise ConfigError(f"dataset.task_type={AUTO}: {path} does not tell it; {CHOOSE}") from error
    return str(task_type_of(**plain))


def named(task_type: str) -> str:
    """The name of a type, as on losses' cards."""
    return task_type if task_type in TASKS else str(load(task_type).name)


def accepted(task_type: str) -> tuple[str, ...]:
    """The types whose losses fit this one; its own first."""
    return (task_type,) if task_type in TASKS else tuple(dict.fromkeys((named(task_type), *load(task_type).losses)))


def fits(task_types: tuple[str, ...] | None, task_type: str) -> bool:
    """Whether a loss whose card names these types fits one; without a card it is taken to fit any."""
    return task_types is None or not set(accepted(task_type)).isdisjoint(task_types)
