"""The origin of a record: its code and its command; and the colour of its loss."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from functools import cache

from lossbench import __version__
from lossbench.config import catalogue, redaction
from lossbench.config.schema import CONFIGS, HERE

# each as far from those before it in CIE Lab as possible, without pale colours, black and grey
# fmt: off
PALETTE = (
    "#2276b8", "#ff7a00", "#00bc37", "#ff009b", "#4e4e16", "#6421b1", "#de909b", "#00b19b", "#b1a600",
    "#9b0016", "#852164", "#bc90ff", "#165959", "#c88543", "#7aa659", "#ff64f4", "#6f4343", "#ff0059",
    "#006fff", "#21b1d3", "#ff6f59", "#005900", "#4e439b", "#e96fbc", "#906f9b", "#7a3700",
)
# fmt: on


CODE = "LOSSBENCH_CODE"  # in the environment of a process that trains for another: the code of that one


@cache
def colour(loss: str) -> str:
    """The colour of a loss, the same in every chart; losses that share a task type have different ones."""
    return _colours().get(loss) or PALETTE[int(hashlib.sha256(loss.encode()).hexdigest()[:4], 16) % len(PALETTE)]


@cache
def _colours() -> dict[str, str]:
    """The colours of the catalogue: in its order, the first that no loss with a common task type has."""
    colours: dict[str, str] = {}
    task_types: dict[str, tuple[str, ...]] = {}
    for entry in catalogue.losses([CONFIGS]):
        taken = {colours[other] for other in colours if set(task_types[other]) & set(entry.task_types)}
        task_types[entry.name] = entry.task_types
        colours[entry.name] = next(one for one in PALETTE if one not in taken)
    return colours


@cache
def code() -> str:
    """The revision of the code, with a hash of uncommitted changes if any; the version where it is installed."""
    if of_leader := os.environ.get(CODE):
        return of_leader
    revision = _git("rev-parse", "HEAD").strip() if (HERE.parent / ".git").exists() else ""
    if not revision:
        return f"lossbench {__version__}"
    ours = ("--", "lossbench", "configs", "hydra_plugins")  # other files of the checkout decide no number
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
    except OSError:  # git is not installed
        return ""


def command() -> str:
    """The command line, quoted for a shell, without passwords."""
    return shlex.join(["python", "-m", "lossbench", *map(redaction.redacted, sys.argv[1:])])
