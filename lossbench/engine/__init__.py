"""The engine: it updates what a task yields, and knows no task."""

import torch

from lossbench.engine import trial
from lossbench.engine.checkpoints import Interrupted, Paused
from lossbench.engine.fit import fit
from lossbench.engine.nets import Nets
from lossbench.engine.order import Noise
from lossbench.engine.predict import predict
from lossbench.engine.stack import Fitted, Plan, Replica, Stack

__all__ = ["Fitted", "Interrupted", "Nets", "Noise", "Paused", "Plan", "Replica", "Stack", "fit", "predict", "trial"]

# Weights that decay puts to sleep leave moments of 1e-40 and less in Adam, with which a CPU takes three times as long.
# Threads are told when they start, so this comes before any of them.
torch.set_flush_denormal(True)
