"""A verdict as tables for other programs: CSV with every digit, LaTeX and Markdown as in a paper."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lossbench.analysis import references
from lossbench.analysis.answer import amount, counted
from lossbench.analysis.tuning.gains import Tuning
from lossbench.analysis.verdict import Verdict, measured

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # characters with which a formula begins in a spreadsheet
REFERENCE = " (reference)"  # after the name of one
COMPARED = ("n", "difference", "low", "high", "p", "p_holm", "p_all", "improvement", "detectable", "p_equal")


def numbers(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Everything, a row per loss and dataset: means, spreads, intervals of all metrics, differences to the baseline.

    Where a dataset has references, a row for each follows its losses, and the column `reference` says which they are.
    """
    parts = []
    for verdict in verdicts:
        board = verdict.leaderboard.drop(columns="colour")
        board.insert(0, "dataset", verdict.dataset)
        board.insert(3, "best", board["loss"].isin(verdict.starred))
        board["baseline"] = verdict.baseline
        against = verdict.against(verdict.baseline).reindex(columns=list(COMPARED)).add_prefix("vs_baseline_")
        parts.append(board.merge(against, left_on="loss", right_index=True, how="left"))
        if len(verdict.references):
            whole = {"setting": "", "best": False, "runs": verdict.references["n"], "failures": 0, "outcomes": ""}
            parts.append(verdict.references.assign(dataset=verdict.dataset, **whole, reference=True))
    if any(len(verdict.references) for verdict in verdicts):
        parts = [part if "reference" in part else part.assign(reference=False) for part in parts]
    return pd.concat(parts, ignore_index=True)


def paper(verdicts: Sequence[Verdict]) -> list[tuple[str, pd.DataFrame]]:
    """A paper's table for each dataset: all metrics as mean ± SD, and the primary metric with its interval and p.

    References come last, and are called so.
    """
    tables = []
    for verdict in verdicts:
        board, (main, _, _) = verdict.leaderboard.set_index("loss"), verdict.metric
        against = verdict.against(verdict.baseline)
        rows = {}
        for loss, row in board.iterrows():
            cells = {"loss": f"{loss}{f' ({row.setting})' if row.setting else ''}", "n": str(row["n"])}
            for metric in [verdict.metric, *(y for y in verdict.metrics if y != verdict.metric)]:
                name = metric[0]
                cells[_heading(metric)] = spread(row, name)
                if name == main:
                    cells["95 % interval"] = limits(row, name)
            if loss in against.index:
                pair = against.loc[loss]
                cells[f"− {verdict.baseline}"] = amount(pair["difference"], pair["high"] - pair["low"])
                cells["p"] = "–" if pair["p_all"] != pair["p_all"] else f"{pair['p_all']:.3f}"
            else:
                cells[f"− {verdict.baseline}"] = cells["p"] = ""
            cells["failures"] = row["outcomes"] or "0"
            cells["best"] = "yes" if loss in verdict.starred else ""
            rows[loss] = cells
        table = pd.DataFrame([*rows.values(), *_references(verdict)])
        tables.append((verdict.dataset, table.fillna("")))
    return tables


def _references(verdict: Verdict) -> Iterator[dict[str, str]]:
    """The cells of references, which have no interval, no p and no star."""
    for _, row in verdict.references.iterrows():
        means = {_heading(metric): spread(row, metric[0]) for metric in verdict.metrics}
        yield {"loss": f"{row['loss']}{REFERENCE}", "n": str(row["n"]), **means}


def _heading(metric: tuple[str, str, str]) -> str:
    name, arrow, unit = metric
    return f"{measured(name)}{f' [{unit}]' if unit else ''} {arrow}"


def spread(row: pd.Series, name: str) -> str:
    """Mean ± standard deviation; a dash where no run has the metric."""
    mean, deviation = row[name], row[f"{name} sd"]
    if mean != mean:
        return "–"
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if deviation == deviation else "")


def limits(row: pd.Series, name: str) -> str:
    """The ends of a metric's interval; a dash where it has none."""
    low, high = row[f"{name} low"], row[f"{name} high"]
    return "–" if low != low else f"[{low:.4f}, {high:.4f}]"


def tuned(tunings: Sequence[Tuning]) -> pd.DataFrame:
    """Everything on tuning, a row per loss and dataset: each arm, tuned − default, the search's cost and results."""
    parts = [one.arms.merge(one.budget, on="loss").assign(dataset=one.dataset) for one in tunings]
    table = pd.concat(parts, ignore_index=True)
    return table[["dataset", *(column for column in table if column != "dataset")]]


def gains(tuning: Tuning) -> pd.DataFrame:
    """Tuned runs against runs at default settings, as texts; empty where there are no runs at default settings."""
    if "default" not in tuning.verdicts:
        return pd.DataFrame()
    name, arrow, unit = tuning.verdicts["default"].metric
    rows = []
    for row in tuning.arms.to_dict("records"):
        width, p = row["high"] - row["low"], row["p_holm"]
        cells = {"loss": row["loss"]}
        for arm in ("default", "tuned", "matched"):
            if arm in tuning.verdicts:
                failed = f" ({row[f'{arm} failures']} failed)" if row[f"{arm} failures"] else ""
                cells[arm] = amount(row[arm], row[f"{arm} high"] - row[f"{arm} low"]) + failed
        cells["tuned − default"] = f"{amount(row['difference'], width)} {_ends(row['low'], row['high'])}".strip()
        cells["p"] = "–" if p != p else f"{p:.3f}"
        ranks = ("–" if (rank := row[f"{arm} rank"]) != rank else f"{rank:g}" for arm in ("default", "tuned"))
        cells["rank"] = " → ".join(ranks)
        rows.append(cells)
    heading = f"default {name}{f' [{unit}]' if unit else ''} {arrow}"
    return pd.DataFrame(rows).rename(columns={"default": heading, "matched": "gradient-matched"})


def _ends(low: float, high: float) -> str:
    return "" if low != low else f"[{amount(low, high - low)}, {amount(high, high - low)}]"


def csv(verdicts: Sequence[Verdict]) -> str:
    """`numbers` as CSV."""
    return separated(numbers(verdicts))


def separated(table: pd.DataFrame) -> str:
    """A table as CSV. Users choose names, so texts that a spreadsheet would take for a formula are quoted."""
    return table.rename(columns=_no_formula).map(_no_formula).to_csv(index=False)


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.lstrip(" ").startswith(FORMULA):
        return cell
    return cell if re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", cell, re.I) else f"'{cell}"


def markdown(verdicts: Sequence[Verdict], sentences: Sequence[str], tunings: Mapping[str, Tuning] | None = None) -> str:
    """The sentence and table of each dataset, and where losses were tuned, what that changed."""
    texts = []
    for verdict, sentence, (dataset, table) in zip(verdicts, sentences, paper(verdicts), strict=True):
        texts.append("\n".join([f"**{_escaped(dataset)}**: {_escaped(sentence)}", "", *_lines(table)]))
        if of_references := references.sentence(verdict):
            texts.append(_escaped(of_references))
        if tunings and dataset in tunings:
            sentence, table = tunings[dataset].sentence, gains(tunings[dataset])
            texts.append("\n".join([_escaped(sentence), *(["", *_lines(table)] if len(table) else [])]))
    return "\n\n".join(texts)


def _lines(table: pd.DataFrame) -> list[str]:
    """The lines of a table in Markdown."""
    head = ["| " + " | ".join(_escaped(c) for c in table.columns) + " |", "|---" * len(table.columns) + "|"]
    return [*head, *("| " + " | ".join(map(_escaped, row)) + " |" for row in table.itertuples(index=False))]


def latex(verdicts: Sequence[Verdict]) -> str:
    """One booktabs table per dataset, the best losses in bold. It needs \\usepackage{booktabs}."""
    texts = []
    for verdict, (dataset, table) in zip(verdicts, paper(verdicts), strict=True):
        cells = table.drop(columns="best").map(_tex)
        cells.loc[table["best"] == "yes", "loss"] = cells["loss"].map("\\textbf{{{}}}".format)
        cells.columns = [_tex(column) for column in cells.columns]
        style = cells.style.hide(axis="index")
        seeds = verdict.values.notna().sum().max()
        bold = f"Bold: not distinguishable from the best {_tex(verdict.measure)}. " if verdict.decided else ""
        caption = (
            f"{_tex(dataset)}: mean $\\pm$ standard deviation over {counted(verdict, seeds)}. {bold}p: against "
            f"{_tex(verdict.baseline)}, by the {_tex(verdict.population.test)}."
        )
        if of_references := references.sentence(verdict):
            caption += f" {_tex(of_references)}"
        columns = "l" + "r" * (cells.shape[1] - 1)
        text = style.to_latex(hrules=True, caption=caption, column_format=columns, position_float="centering")
        texts.append(_apart(text, cells["loss"].iloc[len(verdict.leaderboard) :]))
    return "\n".join(texts)


def _apart(text: str, references: pd.Series[str]) -> str:
    """A table in LaTeX with a rule above its references."""
    return (
        text.replace(f"\n{references.iloc[0]} &", f"\n\\midrule\n{references.iloc[0]} &", 1)
        if len(references)
        else text
    )


def _escaped(text: str) -> str:
    """Text escaped for a cell of a Markdown table, where it is not interpreted as HTML either."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {c: f"\\{c}" for c in "&%$#_"}
    signs = {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "−": r"$-$", "–": "--", "<": r"$<$", ">": r"$>$"}
    return "".join({**special, **signs}.get(c, c) for c in str(text))
