"""From a configuration to the objects that train."""

from lossbench.runs.builders.dataset import check_batch, splits
from lossbench.runs.builders.losses import (
    PARAMETER_NAMES,
    Loss,
    MissingSettings,
    dimensions,
    loss,
    loss_of_run,
    module_of,
)
from lossbench.runs.builders.model import nets
from lossbench.runs.builders.targets import import_target, prepare_torchvision
from lossbench.runs.builders.training import EVALUATIONS, count_steps, device, optimizers, plan, task

__all__ = [
    "EVALUATIONS",
    "PARAMETER_NAMES",
    "Loss",
    "MissingSettings",
    "check_batch",
    "count_steps",
    "device",
    "dimensions",
    "import_target",
    "loss",
    "loss_of_run",
    "module_of",
    "nets",
    "optimizers",
    "plan",
    "prepare_torchvision",
    "splits",
    "task",
]
