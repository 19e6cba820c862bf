"""The engine: it trains whatever a task yields, and knows no particular task."""

from lossbench.engine import trial
from lossbench.engine.batches import Noise
from lossbench.engine.checkpoints import Interrupted, Paused
from lossbench.engine.fit import fit
from lossbench.engine.nets import Nets
from lossbench.engine.predict import predict
from lossbench.engine.stack import FitResult, Plan, Replica, Stack

__all__ = ["FitResult", "Interrupted", "Nets", "Noise", "Paused", "Plan", "Replica", "Stack", "fit", "predict", "trial"]
