"""What a comparison found: the answer, its tables, its page, and the best model."""

from __future__ import annotations

import io
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lossbench.api.trained import Trained, load
from lossbench.core import ConfigError

if TYPE_CHECKING:
    from lossbench.analysis.report import Report
    from lossbench.analysis.verdict import Verdict

WIDTH = 120  # columns of the text


class Comparison:
    """A comparison: the sentence, tables as DataFrames, the page, and the best model. It shows itself in a notebook.

    Tables have a column `dataset`. `made` is the report as `lossbench.analysis` makes it.
    """

    def __init__(self, made: Report, uri: str) -> None:
        self.made, self.uri = made, uri

    @property
    def name(self) -> str:
        """The name under which the store has it, and `lossbench.report` finds it."""
        return self.made.records.name

    @property
    def sentences(self) -> dict[str, str]:
        """What may be claimed, by dataset."""
        return {v.dataset: sentence for v, sentence in zip(self.made.verdicts, self.made.sentences, strict=True)}

    @property
    def sentence(self) -> str:
        """What may be claimed about the losses; on several datasets, a line each."""
        if len(self.sentences) == 1:
            return self.made.sentences[0]
        return "\n".join(f"{dataset}: {sentence}" for dataset, sentence in self.sentences.items())

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """A row per loss, the best first: mean, SD, 95 % interval and n of each metric on test, costs, failures."""
        return self._joined(lambda verdict: verdict.leaderboard)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """A row per pair of losses, as a − b: its mean difference, interval and p values."""
        return self._joined(lambda verdict: verdict.differences)

    @property
    def runs(self) -> pd.DataFrame:
        """A row per run, the oldest first: id, outcome, loss, dataset, seed, metrics."""
        return self.made.records.runs.copy()

    @property
    def remarks(self) -> list[str]:
        """What to know before trusting the numbers, concerns first; and how many runs have no result."""
        found = [remark.text for remark in self.made.remarks]
        return [*self._missing, *found]

    @cached_property
    def tuning(self) -> dict[str, dict[str, Any]]:
        """The settings that a search chose, by loss; empty without a search.

        The name of a loss is followed by settings of its own, and by the dataset where there are several.
        """
        found = [(search, dataset) for dataset, tuning in self.made.tunings.items() for search in tuning.searches]
        own = {search.study: [w.lstrip("+") for w in search.words if w.startswith("++loss.")] for search, _ in found}
        several = len(self.made.tunings) > 1
        names = [" ".join([s.loss, *own[s.study], *([f"on {dataset}"] * several)]) for s, dataset in found]
        return {name: dict(search.settings) for name, (search, _) in zip(names, found, strict=True)}

    @property
    def best(self) -> Trained:
        """The model of the best loss, from its run with the best primary metric on validation.

        Raises: ConfigError where nothing finished, and on several datasets, each of which has its own.
        """
        if len(self.made.verdicts) > 1:
            names = ", ".join(self.sentences)
            raise ConfigError(f"best: there are several datasets, {names}; lossbench.load(run_id) has the run of each")
        (verdict,) = self.made.verdicts
        board = verdict.leaderboard[verdict.leaderboard["n"] > 0]
        runs = verdict.runs
        done = runs[(runs["outcome"] == "finished") & runs["objective"].notna()]
        if board.empty or done.empty:
            raise ConfigError("best: no run has a result")
        mine = done[done["contender"] == board["loss"].iloc[0]]
        higher = self.made.records.metrics[0][1] == "↑"  # validation goes by it, whatever metric the verdict is on
        at = mine["objective"].idxmax() if higher else mine["objective"].idxmin()
        return load(str(mine.loc[at, "run_id"]), uri=self.uri)

    def report(self, path: str | PathLike[str] = "report.html") -> Path:
        """Write the report's page, which needs no network; its path. Raises: ConfigError where that fails."""
        from lossbench import tracking
        from lossbench.analysis import files
        from lossbench.analysis.page import page

        target = Path(path)
        try:
            files.save(page(self.made, tracking.Store(self.uri).client), target)
        except OSError as error:
            raise ConfigError(f"report: {target}: cannot be written: {error.strerror}") from error
        return target.absolute()

    def __repr__(self) -> str:
        from rich.console import Console

        from lossbench import terminal

        text = io.StringIO()
        console = Console(
            file=text, width=WIDTH, markup=False, highlight=False, emoji=False, force_jupyter=False, color_system=None
        )
        terminal.report(self.made, console)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from lossbench.api.drawing import html

        return html(self.made, [*self._missing, *(remark.text for remark in self.made.remarks if remark.concern)])

    @property
    def _missing(self) -> list[str]:
        outcomes = self.made.records.main.runs["outcome"].value_counts()
        missing = [f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != "finished"]
        return [f"not in the means: {', '.join(missing)}"] if missing else []

    def _joined(self, table: Any) -> pd.DataFrame:
        """The tables of all datasets as one."""

        def of(verdict: Verdict) -> pd.DataFrame:
            found: pd.DataFrame = table(verdict).copy()
            found.insert(0, "dataset", verdict.dataset)
            return found

        return pd.concat([of(verdict) for verdict in self.made.verdicts], ignore_index=True)
