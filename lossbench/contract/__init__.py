"""The contract of a loss: clauses that any loss has to pass, built-in or your own, and how to check them."""

from lossbench.contract.calling import Broken, NotAsked, Trial
from lossbench.contract.clauses import CLAUSES, Clause, Finding, Verdict, ask, examine

__all__ = ["CLAUSES", "Broken", "Clause", "Finding", "NotAsked", "Trial", "Verdict", "ask", "examine"]
