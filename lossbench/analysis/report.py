"""A report: verdicts, sentences and remarks on a comparison, from MLflow alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from lossbench.analysis import answer, fairness, references, verdict
from lossbench.analysis import records as reading
from lossbench.analysis.across import Across, across
from lossbench.analysis.fairness import Remark
from lossbench.analysis.records import Records
from lossbench.analysis.tuning import gains, remarks
from lossbench.analysis.tuning.gains import Tuning
from lossbench.analysis.verdict import Verdict
from lossbench.core import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Report:
    """The report on a comparison or an experiment: a verdict and a sentence per dataset, and remarks on fairness.

    `tunings` has, by dataset, the analysis of the searches that chose the settings of these runs.
    """

    records: Records
    verdicts: list[Verdict]
    sentences: list[str]
    remarks: list[Remark]
    tunings: dict[str, Tuning] = field(default_factory=dict)

    @cached_property
    def across(self) -> Across | None:
        """What the datasets show together, where at least two have two losses in common."""
        return across(self.verdicts)


def make(
    client: MlflowClient,
    asked: str | None = None,
    *,
    primary: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
    allow_mixed: bool = False,
) -> Report:
    """The report on a comparison or an experiment of a store; without a name, on the newest comparison.

    Raises: ConfigError for an unknown or empty comparison, an unknown metric or baseline, or runs that are not
        comparable.
    """
    records = reading.read(client, asked)
    if records.runs.empty:
        raise ConfigError(f"report {records.name}: holds no runs")
    if not allow_mixed:
        fairness.refuse_mixed(records)
    parts = [part for _, part in records.main.by_dataset()]
    built = [part for part in parts if part.metrics] or parts  # a remark covers the others
    verdicts = [verdict.judge(part, primary=primary, baseline=baseline, margin=margin) for part in built]
    tuned = gains.tunings(client, records, primary)
    found = [*fairness.remarks(records.main), *(r for one in tuned.values() for r in remarks.remarks(one))]
    found += references.remarks(verdicts, records)
    found.sort(key=lambda remark: not remark.concern)
    return Report(records, verdicts, [answer.sentence(one) for one in verdicts], found, tuned)
