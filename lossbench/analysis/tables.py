"""Summaries as text that other places show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Yardsticks = list[tuple[str, str, str]]


def cell(row: pd.Series[Any], name: str) -> str:
    """Mean ± standard deviation of a test yardstick; a dash where no run has it."""
    mean, spread = row[f"test/{name}"], row[f"test/{name} sd"]
    if mean != mean:
        return "–"
    return f"{mean:.4f}" + (f" ± {spread:.4f}" if spread == spread else "")


def markdown(table: pd.DataFrame, yardsticks: Yardsticks, dataset: str) -> str:
    """The summary of one dataset as a Markdown table with all yardsticks."""
    lines = [f"**{dataset}**: test, mean ± standard deviation over the seeds", ""]
    lines.append("| loss | runs | failed | " + " | ".join(f"{name} {arrow}" for name, arrow, _ in yardsticks) + " |")
    lines.append("|---" * (3 + len(yardsticks)) + "|")
    for _, row in table.iterrows():
        cells = " | ".join(cell(row, name) for name, _, _ in yardsticks)
        lines.append(f"| {row['label']} | {row['n']} | {row['failures']} | {cells} |")
    return "\n".join(lines)
