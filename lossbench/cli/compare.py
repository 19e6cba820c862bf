"""`compare`: a comparison of the losses that fit a dataset."""

from __future__ import annotations

from lossbench.config.arguments import Arguments
from lossbench.core import ConfigError

COMPARE = """usage: python -m lossbench compare dataset=DATASET [losses=a,b] [seeds=10] [tune=TRIALS] [key=value …]
       python -m lossbench compare dataset=DATASET [losses=a,b] seeds=auto [most=40] [margin=0.01] [key=value …]

Train these losses, by default all that fit, on the same data with the same seeds; then print a table and write
report.html. With tune=TRIALS, the hyper-parameters of each loss are first searched with that many trials. With
seeds=auto, seeds are added, up to most, until each loss is worse than the best, or equal to it within the margin (in
the metric's unit; by default 1 % of the first loss's mean). Settings and options are those of a run: see --help."""


def compare(arguments: list[str]) -> list[str] | None:
    """`compare dataset=X [losses=a,b] [seeds=10] [tune=20] …`: the arguments of the multirun over these losses.

    Without losses, all that fit are compared. With `tune`, each is first searched with that many trials. None after
    --help.
    """
    from lossbench.config import choices, comparing

    parsed = choices.read(arguments)
    if ("--help", "") in parsed.options:
        print(COMPARE)
        return None
    if parsed.bare:
        raise ConfigError(stray_word(parsed, "compare"))
    return comparing.words(parsed)


def stray_word(parsed: Arguments, command: str) -> str:
    """What a word without = may have meant in a command that takes settings."""
    from lossbench.config import choices

    word = parsed.bare[0]
    choice = choices.chosen_by(word.split(",")[0], choices.folders(parsed))
    if choice.startswith("loss="):
        return f"{command} {word}: did you mean {command} losses={word}?"
    if choice:
        return f"{command} {word}: did you mean {command} {choice}?"
    return f"{command}: {word}: no such setting; write {command} dataset=… losses=a,b seeds=10"
