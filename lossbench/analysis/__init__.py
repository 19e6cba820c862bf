"""Analysis: it reads records, and nothing else."""

from lossbench.analysis.plots import comparison_picture
from lossbench.analysis.records import Records, histories, read
from lossbench.analysis.stats import summarise
from lossbench.analysis.tables import markdown

__all__ = ["Records", "comparison_picture", "histories", "markdown", "read", "summarise"]
