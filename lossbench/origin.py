"""What a record says of where it came from: the code, the command, the colour of its loss."""

from __future__ import annotations

import colorsys
import hashlib
import os
import shlex
import socket
import subprocess
import sys
from functools import cache

from lossbench import __version__, catalogue, tracking
from lossbench.settings import CONFIGS, HERE


@cache
def colour(loss: str) -> str:
    """The colour of a loss, the same in every chart: far hues follow each other, light and dark in turn."""
    known = [entry.name for entry in catalogue.losses([CONFIGS])]
    index = known.index(loss) if loss in known else int(hashlib.sha256(loss.encode()).hexdigest()[:4], 16)
    red, green, blue = colorsys.hls_to_rgb((0.58 + index * 0.697) % 1, (0.45, 0.28)[index % 2], 0.7)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


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
            ["git", "-C", str(HERE.parent), *words], capture_output=True, text=True, check=False
        ).stdout
    except OSError:  # no git on this machine
        return ""


def process() -> str:
    """This process, as `gone` can ask about it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def gone(process: str) -> bool:
    """Whether a process has ended. One of another machine cannot be asked, so it counts as going on."""
    host, _, number = process.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, so it is there
        return False
    return False


def command() -> str:
    """What was typed, ready to be typed again."""
    return tracking.shown(shlex.join(["python", "-m", "lossbench", *sys.argv[1:]]))
