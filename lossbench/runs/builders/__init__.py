"""From a configuration to the objects that train."""

from lossbench.runs.builders.dataset import check_batch, splits
from lossbench.runs.builders.losses import (
    PARAMETER_NAMES,
    Loss,
    MissingSettings,
    counts_fit,
    dimensions,
    loss,
    loss_of_run,
    module_of,
)
from lossbench.runs.builders.model import nets
from lossbench.runs.builders.targets import import_target
from lossbench.runs.builders.training import (
    EVALUATIONS,
    check_for_task,
    count_steps,
    device,
    no_loss,
    optimizers,
    plan,
    task,
)

__all__ = [
    "EVALUATIONS",
    "PARAMETER_NAMES",
    "Loss",
    "MissingSettings",
    "check_batch",
    "check_for_task",
    "count_steps",
    "counts_fit",
    "device",
    "dimensions",
    "import_target",
    "loss",
    "loss_of_run",
    "module_of",
    "nets",
    "no_loss",
    "optimizers",
    "plan",
    "splits",
    "task",
]
