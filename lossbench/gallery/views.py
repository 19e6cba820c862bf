"""The pictures of a loss: those of the task type that it is for first, and of any that always draws its losses."""

from __future__ import annotations

from lossbench.config.catalogue import Entry
from lossbench.config.task_types import TASKS, load
from lossbench.tasks.views import View


def views(entry: Entry) -> list[View]:
    """The pictures of a loss: those of its own kind, and for classifiers of all it fits."""
    card = entry.card
    known = [task_type for task_type in entry.task_types if task_type in TASKS]
    home = [task_type for task_type in known if load(task_type).always_drawn] or known[:1]
    counted, two = "class_counts" in card.needs, card.outputs_per_target > 1
    return [view for task_type in home for view in load(task_type).views(counted, two)]
