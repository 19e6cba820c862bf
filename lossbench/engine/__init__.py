"""The engine: it updates what a task yields, and knows no task."""

from lossbench.engine.checkpoints import Interrupted
from lossbench.engine.fit import Fitted, Plan, fit
from lossbench.engine.nets import Nets, predict
from lossbench.engine.terms import OverReplicas

__all__ = ["Fitted", "Interrupted", "Nets", "OverReplicas", "Plan", "fit", "predict"]
