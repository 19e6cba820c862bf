"""A configuration as flat settings, and the hash of those that decide a run's numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lossbench.config import catalogue
from lossbench.config.checks import metrics_of
from lossbench.core import is_given, stamp

BESIDE = (
    "tracking.", "train.checkpoint_s", "experiment_name", "question", "margin", "search",
    "tuning.study", "tuning.trial", "tuning.until",
)  # fmt: skip
"""Settings that do not affect a run's numbers."""


FILES = ("dataset.path", "dataset.test_path")
"""Settings that name files, whose changes decide too."""


def flat(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dotted keys and plain values; lists stay whole."""
    return leaves(OmegaConf.to_container(cfg, resolve=True))


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """A tree of settings as dotted keys and plain values; lists stay whole."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, value in node.items() for k, v in leaves(value, f"{prefix}.{key}".strip(".")).items()}


def given_paths(settings: Mapping[str, Any]) -> list[str]:
    """The paths among flat settings of objects that were passed from Python to this process."""
    values = (one for value in settings.values() for one in (value if isinstance(value, list) else [value]))
    return [value for value in values if isinstance(value, str) and is_given(value)]


def key(cfg: DictConfig, loss: str = "") -> str:
    """A hash of what decides a run's numbers: the configuration, without where it is recorded, and the user's own code.

    It covers the loss's name too, since a loss under two names is compared with itself. Our own code is recorded by
    its revision elsewhere; a foreign `_target_` enters by the bytes of its module.
    """
    return digest(deciding(flat(cfg)), loss)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of flat settings that a key covers, with the bytes of the user's own code and the stamps of files."""
    deciding = {k: v for k, v in settings.items() if not k.startswith(BESIDE)}
    if deciding.get("train.epochs") is not None:  # steps follow from it once the data are loaded
        del deciding["train.steps"]
    own = {name: path for name, path in deciding.items() if name.endswith("_target_") or name == "dataset.load"}
    own |= {f"task.metrics.{path}": path for path in metrics_of(deciding.get("task.metrics"))}
    for name, path in own.items():
        spec = catalogue.find(str(path).rpartition(".")[0])
        if spec and spec.origin and spec.origin.endswith(".py"):
            deciding[f"source of {name}"] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    deciding |= {
        f"file of {name}": found for name in FILES if (path := deciding.get(name)) and (found := stamp(str(path)))
    }
    return deciding


def digest(deciding: Mapping[str, Any], loss: str) -> str:
    """The key that `deciding` settings and the name of a loss give."""
    text = json.dumps({**deciding, "loss": loss}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
