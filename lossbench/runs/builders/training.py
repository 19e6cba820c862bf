"""From a configuration to the device, the task, the optimizers and the training plan."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from lossbench.config.checks import metrics_of
from lossbench.config.task_types import TASKS, load, named, takes_weights
from lossbench.core import ConfigError, DatasetInfo, Splits, Task, record_name
from lossbench.engine import Nets, Plan
from lossbench.runs.builders.losses import Loss
from lossbench.runs.builders.targets import call, import_target, plain
from lossbench.tasks.choosing import guarded, with_metrics
from lossbench.tasks.lifting import lifted

EVALUATIONS = 20  # per run, where train.eval_every is null


def device(name: str) -> torch.device:
    """The device of a name; `auto` is the GPU if there is one. Raises: ConfigError for one that does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch {torch.__version__} finds no GPU here; device=cpu or auto works")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name}: no such device; auto, cpu, cuda or cuda:0 works") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={name}: there are {torch.cuda.device_count()} GPUs, counted from cuda:0")
    return device


def check_for_task(splits: Splits) -> None:
    """Raises: ConfigError for data that their task cannot be trained or measured on."""
    task = load(splits.info.task_type)
    several = isinstance(splits.train.targets, Mapping)
    if several and not task.several_targets:
        raise ConfigError(
            f"dataset={splits.info.name}: has the targets {', '.join(splits.train.targets)}, and "
            f"{named(splits.info.task_type)} problems have one tensor"
        )
    if splits.train.weights is not None and not takes_weights(task):
        raise ConfigError(
            f"dataset={splits.info.name}: has weights of examples, which the metrics of "
            f"{named(splits.info.task_type)} problems do not take; leave out dataset.weight"
        )
    for name, split in splits:
        task.check(splits.info, name, split)


def task(
    task_type: str, loss: Loss, info: DatasetInfo, settings: Mapping[str, Any] | None = None, features: Any = None
) -> Task:
    """The task of this type; `features` are of images, for tasks whose metrics need them."""
    arguments = dict(settings or {})
    primary, metrics = arguments.pop("primary", None), metrics_of(arguments.pop("metrics", None))
    arguments.pop("_target_", None)
    own = [import_target(path, "task.metrics=") for path in metrics]
    found = load(task_type) if task_type in TASKS else guarded(load(task_type))  # type: ignore[arg-type]
    cls = with_metrics(found, None if primary is None else str(primary), own)
    extra = {"features": features} if "features" in {field.name for field in fields(cls)} else {}
    task: Task = cls(lifted(loss, task_type), info, **arguments, **extra)
    if not task.metrics:
        raise ConfigError(f"task: {named(task_type)} has no metric to select a step by")
    for metric in task.metrics:
        if metric.name != record_name(metric.name) or "/" in metric.name:  # two might be recorded under one name
            raise ConfigError(f"task: a metric is called {metric.name!r}; letters, digits, _ . : - and spaces work")
    return task


def no_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The loss of a task that predicts and measures, but trains nothing. Raises: RuntimeError."""
    raise RuntimeError("this task has no loss")


def optimizers(cfg: DictConfig, nets: Nets, loss: nn.Module | None) -> dict[str, Optimizer]:
    """One optimizer per player; the parameters of a loss are a second group of the first player's optimizer."""
    of_loss = list(loss.parameters()) if loss is not None else []
    # one fused call per step rather than one per tensor: a third less time for a small net on CPU
    if "fused" in inspect.signature(import_target(cfg._target_, "optimizer._target_=")).parameters:
        cfg = OmegaConf.create({"fused": True, **plain(cfg)})
    by_player = {}
    for name, player in nets.named_children():
        groups = [{"params": parameters} for parameters in (list(player.parameters()), of_loss) if parameters]
        by_player[name] = call("optimizer", cfg, groups if len(groups) > 1 else groups[0]["params"])
        of_loss = []
    return by_player


def count_steps(train: DictConfig, examples: int) -> None:
    """Set `steps` to the number in `epochs` of so many examples, where `epochs` is given."""
    if train.epochs is not None:
        train.steps = math.ceil(round(train.epochs * examples / train.batch_size, 6)) or 1


def plan(cfg: DictConfig) -> Plan:
    """The training plan, with the intervals that are null filled in."""
    settings = plain(cfg, drop=("epochs", "checkpoint_s", "threads"))
    settings["eval_every"] = cfg.eval_every or max(1, cfg.steps // EVALUATIONS)
    settings["record_every"] = cfg.record_every or max(1, settings["eval_every"] // 2)
    return Plan(**settings)
