"""Chosen settings ready for use: as a command, and as an experiment file."""

from __future__ import annotations

import re
import shlex
from typing import Any

from lossbench.analysis.searches import Search
from lossbench.config.words import word

GROUPS = ("dataset", "loss", "model", "optimizer", "train", "tracking")  # overrides of these choose a file
NOT_SETTINGS = ("hydra.", "hydra/")  # how a search ran does not belong to what it chose


def command(search: Search) -> str:
    """The command that trains one loss at its chosen setting."""
    alone = ["hydra.mode=RUN"] if any(one.startswith("experiment=") for one in search.words) else []
    words = [*search.words, *alone, *(f"{name}={word(value)}" for name, value in search.settings.items())]
    return shlex.join(["python", "-m", "lossbench", *words])


def name(search: Search, dataset: str) -> str:
    """The name of an experiment file, safe in any shell and file system."""
    return re.sub(r"[^\w.-]+", "_", f"{search.loss}_on_{dataset}")


def experiment(search: Search) -> str:
    """The same as a file for the folder experiment/ below one that --config-dir names."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    defaults: list[Any] = []
    nested: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(search.words)):
        key = str(override.key_or_group)
        value = override.value()
        if key == "experiment":
            defaults.insert(0, value)
            nested["hydra"] = {"mode": "RUN"}  # one run of a study of many
        elif key in GROUPS:
            defaults.append({f"override /{key}": value})
        elif not override.is_delete() and not key.startswith(NOT_SETTINGS):
            _put(nested, key, value)
    for key, value in search.settings.items():
        _put(nested, key, value)
    settings = {"defaults": [*defaults, "_self_"], **nested}
    heading = f"# @package _global_\n# {search.loss} at the settings that {_searched(search)} chose.\n"
    return heading + OmegaConf.to_yaml(OmegaConf.create(settings))


def _searched(search: Search) -> str:
    (what, amount), *_ = search.budget.items() or [("trials", 0)]
    return f"a {search.sampler} search over {amount:g} {what}" if amount else f"a {search.sampler} search"


def _put(nested: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        nested = nested.setdefault(part, {})
    nested[last] = value
