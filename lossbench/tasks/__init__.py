"""Tasks: what training means for a kind of problem."""

from lossbench.tasks.classification import Binary, Multiclass
from lossbench.tasks.regression import Regression

__all__ = ["Binary", "Multiclass", "Regression"]
