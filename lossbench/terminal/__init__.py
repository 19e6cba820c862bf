"""Output to the terminal: runs, comparisons, the catalogue and progress."""

from lossbench.terminal.catalogue import catalogue
from lossbench.terminal.console import WIDE, console, out, quiet
from lossbench.terminal.progress import Bar, Board, bar, board
from lossbench.terminal.tables import (
    MAX_METRICS,
    OPTIONAL_COLUMNS,
    comparison,
    fitting,
    gains,
    headline,
    report,
    result,
)

__all__ = [
    "MAX_METRICS",
    "OPTIONAL_COLUMNS",
    "WIDE",
    "Bar",
    "Board",
    "bar",
    "board",
    "catalogue",
    "comparison",
    "console",
    "fitting",
    "gains",
    "headline",
    "out",
    "quiet",
    "report",
    "result",
]
