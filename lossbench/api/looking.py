"""What there is: losses of the catalogue, the contract of a loss, reports of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossbench.api import contenders, session
from lossbench.api.comparison import Comparison
from lossbench.config.words import setting

if TYPE_CHECKING:
    import pandas as pd

    from lossbench.contract.checking import CheckResult

COLUMNS = ("name", "family", "fits", "meaning", "parameters", "reference")


def report(
    name: str | None = None,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    margin: float | None = None,
    uri: str | None = None,
) -> Comparison:
    """A comparison, or an experiment, from its records; by default the newest comparison.

    `baseline`: the loss that others are compared with; `metric`: the one that decides; `margin`: differences up to it
    count as equal. Raises: ConfigError for what the store does not have, and for runs that are not comparable.
    """
    from lossbench import tracking
    from lossbench.analysis import report as reports

    store = tracking.Store(tracking.existing_store(uri))
    made = reports.make(store.client, name, primary=metric, baseline=baseline, margin=margin)
    return Comparison(made, store.uri)


def losses(about: str | None = None) -> pd.DataFrame:
    """The losses of the catalogue, or those that fit a dataset or a task type: name, family, meaning, reference …"""
    import pandas as pd

    from lossbench.config import catalogue, schema
    from lossbench.config.task_types import TASK_TYPES

    entries = catalogue.losses([schema.CONFIGS])
    if about is not None:
        known = about in TASK_TYPES or "." in about
        task_type = about if known else _task_type(about)
        entries = [entry for entry in entries if entry.fits(task_type)]
    rows = (
        (
            *(entry.name, entry.family, ", ".join(entry.task_types), entry.described.meaning),
            *(dict(entry.parameters), entry.described.sections.get("Reference", "")),
        )
        for entry in entries
    )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _task_type(dataset: str) -> str:
    """The task type of a dataset of the catalogue. Raises: ConfigError for an unknown name."""
    from lossbench.config import choices, schema
    from lossbench.config.task_types import chosen

    words = [setting("dataset", dataset)]
    with session.opened(words, silent=True):
        return chosen(choices.composed(words, [schema.CONFIGS]))


def check(loss: Any, *, task_type: str | None = None, **settings: Any) -> CheckResult:
    """The contract tests on a loss: a name, a dotted path, or the function, class or module itself.

    Raises: ConfigError for a loss that is not there, and for settings or task types that it does not have.
    """
    from lossbench.contract import checking

    asked = {"task_type": task_type} if task_type is not None else {}
    return checking.check(
        [contenders.path(loss), *(setting(name, value) for name, value in {**asked, **settings}.items())]
    )
