"""What runs and comparisons look like in a terminal."""

from lossbench.terminal.catalogue import catalogue
from lossbench.terminal.console import WIDE, console, out
from lossbench.terminal.progress import Bar, Board, bar, board
from lossbench.terminal.tables import SHOWN, SPARE, comparison, fitting, gains, headline, report, result

__all__ = [
    "SHOWN",
    "SPARE",
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
    "report",
    "result",
]
