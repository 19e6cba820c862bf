"""Losses: each one its equation, `loss(prediction, target, *, hyper-parameters) -> terms [batch]`."""

from lossbench.losses.classification import bce, cross_entropy, hinge, label_smoothing, squared_hinge
from lossbench.losses.imbalance import focal
from lossbench.losses.regression import huber, mae, mse

__all__ = ["bce", "cross_entropy", "focal", "hinge", "huber", "label_smoothing", "mae", "mse", "squared_hinge"]
