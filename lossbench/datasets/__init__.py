"""Datasets: each a function of its settings that returns Splits, one file each."""

from lossbench.datasets.splits import assemble, check

__all__ = ["assemble", "check"]
