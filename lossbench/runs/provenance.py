"""What a record says of where it came from: the code, the command, the colour of its loss."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
from functools import cache

from lossbench import __version__
from lossbench.config import catalogue, redaction
from lossbench.config.schema import CONFIGS, HERE

# each as far as can be from those before it, in CIE Lab, of those that are neither pale nor black nor grey
# fmt: off
PALETTE = (
    "#2276b8", "#ff7a00", "#00bc37", "#ff009b", "#4e4e16", "#6421b1", "#de909b", "#00b19b", "#b1a600",
    "#9b0016", "#852164", "#bc90ff", "#165959", "#c88543", "#7aa659", "#ff64f4", "#6f4343", "#ff0059",
    "#006fff", "#21b1d3", "#ff6f59", "#005900", "#4e439b", "#e96fbc", "#906f9b", "#7a3700",
)
# fmt: on


@cache
def colour(loss: str) -> str:
    """The colour of a loss, the same in every chart, and another one for each loss that it may meet in one."""
    return _colours().get(loss) or PALETTE[int(hashlib.sha256(loss.encode()).hexdigest()[:4], 16) % len(PALETTE)]


@cache
def _colours() -> dict[str, str]:
    """Of the losses of the catalogue in its order: the first of the palette that no loss of a shared kind has."""
    given: dict[str, str] = {}
    task_types: dict[str, tuple[str, ...]] = {}
    for entry in catalogue.losses([CONFIGS]):
        met = {given[other] for other in given if set(task_types[other]) & set(entry.task_types)}
        task_types[entry.name] = entry.task_types
        given[entry.name] = next(one for one in PALETTE if one not in met)
    return given


@cache
def code() -> str:
    """The revision of the code, marked with a hash of the changes where there are any; a version, once installed."""
    revision = _git("rev-parse", "HEAD").strip() if (HERE.parent / ".git").exists() else ""
    if not revision:
        return f"lossbench {__version__}"
    ours = ("--", "lossbench", "configs", "hydra_plugins")  # what else lies in the checkout decides no number
    changes = _git("diff", "HEAD", *ours) + _git("status", "--porcelain", *ours)
    dirty = f"-dirty-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else ""
    return f"{revision[:12]}{dirty}"


def _git(*words: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(HERE.parent), *words],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        ).stdout
    except OSError:  # no git on this machine
        return ""


def command() -> str:
    """What was typed, ready to be typed again."""
    return shlex.join(["python", "-m", "lossbench", *map(redaction.redacted, sys.argv[1:])])
