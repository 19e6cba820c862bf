"""Pictures of answers: examples with their faults marked, by form of writing, over training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from numpy.typing import NDArray

from lossbench.tasks.pictures import INK, QUIET, WARN

FONT = "DejaVu Sans Mono"
ROWS, FAULTY = 18, 9  # of the table of examples: half of them with faults, where there are as many
STEPS = 5  # columns of the table over training
CHARACTER, LINE = 0.082, 0.21  # inches

Piece = tuple[str, str]  # a text and its colour


def examples(sources: Sequence[str], truths: Sequence[str], answers: Sequence[str]) -> Figure:
    """The first few examples that were answered wrong and right: source, truth, answer with its faults marked."""
    faulty = [k for k, (truth, answer) in enumerate(zip(truths, answers, strict=True)) if truth != answer]
    right = [k for k, (truth, answer) in enumerate(zip(truths, answers, strict=True)) if truth == answer]
    wrong = faulty[: max(FAULTY, ROWS - len(right))]
    chosen = [*wrong, *right[: ROWS - len(wrong)]]
    rows = [[[(sources[k], INK)], [(truths[k], INK)], [*_marked(truths[k], answers[k])]] for k in chosen]
    return _table(["source", "truth", "answer"], rows)


def training(sources: Sequence[str], truths: Sequence[str], answers: Mapping[int, Sequence[str]]) -> Figure:
    """The first few examples of validation as they were answered at some steps of training."""
    steps = sorted(answers)
    steps = [steps[k] for k in sorted({round(k) for k in np.linspace(0, len(steps) - 1, STEPS)})]
    rows = [
        [[(source, INK)], *([*_marked(truth, answers[step][k])] for step in steps), [(truth, INK)]]
        for k, (source, truth) in enumerate(zip(sources[:ROWS], truths, strict=False))
    ]
    return _table(["source", *(f"step {step:,}" for step in steps), "truth"], rows)


def forms(right: NDArray[np.bool_], members: Mapping[str, NDArray[np.bool_]]) -> Figure:
    """Share of answers without a fault by form of writing, and how many there are of each."""
    bars = [(name, float(right[which].mean()), int(which.sum())) for name, which in members.items() if which.any()]
    figure = Figure(figsize=(5.4, 0.8 + 0.26 * len(bars)), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(bars)), [share for _, share, _ in bars], color=INK, height=0.7)
    for k, (_, share, count) in enumerate(bars):
        axes.text(share + 0.01, k, f"{share:.2f} of {count:,}", va="center", color="black", fontsize=8)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.set(xlim=(0, 1.25), xticks=np.linspace(0, 1, 6), xlabel="exact match")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _marked(truth: str, answer: str) -> Iterator[Piece]:
    """The answer in pieces: right letters, wrong ones, and a mark for each missing letter."""
    for tag, start, end, low, high in SequenceMatcher(None, truth, answer, autojunk=False).get_opcodes():
        lacking = "_" * ((end - start) - (high - low))
        yield answer[low:high] + lacking, INK if tag == "equal" else WARN


def _table(heads: Sequence[str], rows: Sequence[Sequence[Sequence[Piece]]]) -> Figure:
    """Columns as wide as their texts, in a monospaced font, so that the place of each piece is known."""
    cells = [[[(head, QUIET)] for head in heads], *rows]
    widths = [max(sum(len(text) for text, _ in row[k]) for row in cells) for k in range(len(heads))]
    starts = np.cumsum([1, *(width + 3 for width in widths)])
    figure = Figure(figsize=(CHARACTER * starts[-1], LINE * (len(cells) + 1)), dpi=110)
    for line, row in enumerate(cells, 1):
        for cell, start in zip(row, starts, strict=False):
            at = start
            for text, colour in cell:
                _write(figure, at / starts[-1], 1 - line / (len(cells) + 1), text, colour)
                at += len(text)
    return figure


def _write(figure: Figure, x: float, y: float, text: str, colour: str) -> None:
    weight: Any = "bold" if colour == WARN else "normal"
    known = get_font(findfont(FontProperties(family=FONT)))
    drawn = "".join(letter if known.get_char_index(ord(letter)) else "\N{WHITE RECTANGLE}" for letter in text)
    # a letter of this font is .602 of its size wide
    size = CHARACTER * 72 / 0.602
    figure.text(x, y, drawn, family=FONT, size=size, weight=weight, color=colour, va="center", parse_math=False)
