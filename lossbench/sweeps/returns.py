"""What the jobs of a multirun returned to Hydra."""

from __future__ import annotations

from collections.abc import Iterable

from hydra.core.utils import JobReturn, JobStatus


def raise_first(returns: Iterable[JobReturn]) -> None:
    """Raise the error of the first job that failed, if any; `JobReturn.return_value` would print a line before it."""
    for returned in returns:
        if returned.status is JobStatus.FAILED:
            raise returned._return_value
