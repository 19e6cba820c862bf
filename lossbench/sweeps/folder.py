"""The folder that Hydra's launchers write to: private, and deleted with the sweep unless the user named it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lossbench.config import redaction
from lossbench.core import ConfigError, machine
from lossbench.sweeps.comparison import OURS

DAY_S = 86_400  # after which a folder that names no process of this machine counts as abandoned


def own() -> Path:
    """The folder of this process, in the cache."""
    return Path(os.environ["LOSSBENCH_SWEEP"])


@contextmanager
def folder(config: DictConfig) -> Iterator[None]:
    """Create the folder of this sweep, if anything writes to it, and delete those of killed sweeps.

    Raises: ConfigError where the folder cannot be written.
    """
    _sweep_up(own().parent)
    path = Path(str(config.hydra.sweep.dir))
    try:
        if path != own():
            path.mkdir(parents=True, exist_ok=True)
            asked = redaction.hidden(OmegaConf.to_container(config, resolve=False))
            OmegaConf.save(OmegaConf.create(asked), path / "multirun.yaml")
        elif not str(config.hydra.launcher._target_).startswith(OURS):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(exist_ok=True, mode=0o700)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"hydra.sweep.dir={path}: cannot be written: {why}; name a folder that can") from error
    try:
        yield
    finally:
        if path == own():
            shutil.rmtree(path, ignore_errors=True)


def _sweep_up(sweeps: Path) -> None:
    with suppress(OSError):
        for left in sweeps.iterdir():
            here, _, number = left.name.rpartition("-")
            if here == machine.name() and number.isdecimal():
                over = not machine.started(int(number))
            else:
                over = left.stat().st_mtime < time.time() - DAY_S
            if over:
                shutil.rmtree(left, ignore_errors=True)
