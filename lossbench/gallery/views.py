"""The views of a loss: of its first task type, or of all that always draw their losses."""

from __future__ import annotations

from lossbench.config.catalogue import Entry
from lossbench.config.task_types import TASKS, load
from lossbench.tasks.views import View


def views(entry: Entry) -> list[View]:
    """The views in which a loss is drawn: of its first task type; for classifiers, of all that it fits."""
    card = entry.card
    known = [task_type for task_type in entry.task_types if task_type in TASKS]
    home = [task_type for task_type in known if load(task_type).always_drawn] or known[:1]
    counted, two = "class_counts" in card.needs, card.outputs_per_target > 1
    return [view for task_type in home for view in load(task_type).views(counted, two)]
