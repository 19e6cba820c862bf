"""From the words of a command line to what Hydra needs to run them."""

from __future__ import annotations

import os

from lossbench.config import choices, overrides, schema
from lossbench.config.arguments import JOIN, Arguments
from lossbench.core import cache_folder, machine

JOINED = "LOSSBENCH_JOINED"  # likewise: the name of the comparison that --comparison joins
SWEEP = "LOSSBENCH_SWEEP"  # in the environment, where config.yaml and worker processes read it


def prepared(parsed: Arguments) -> list[str]:
    """The words as Hydra reads them; the schema is registered, and the folder of this process's sweeps is set.

    Raises: ConfigError for choices that cannot work.
    """
    os.environ.pop(JOINED, None)
    if name := dict(parsed.options).get(JOIN):
        os.environ[JOINED] = name
    os.environ[SWEEP] = str(cache_folder() / "sweeps" / f"{machine.name()}-{os.getpid()}")
    schema.register()
    folders = choices.folders(parsed)
    return overrides.free(choices.with_loss(choices.deletable(parsed, folders), folders).words())
