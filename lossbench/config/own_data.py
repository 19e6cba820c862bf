"""A command line about data of the user's own: a file for a dataset, a function, and the task type that follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lossbench.config import overrides
from lossbench.config.arguments import Arguments
from lossbench.config.schema import CONFIGS
from lossbench.config.task_types import AUTO, load
from lossbench.core import is_table

LOAD = "dataset.load"
PATHS = ("dataset.path", "dataset.test_path")
COLUMNS = ("target", "group_on", "time_on", "stratify_on", "split", "weight", "positive", "name", "separator")
QUOTED = {*PATHS, *(f"dataset.{name}" for name in COLUMNS)}
SHORT = {"target": "dataset.target", "dataset.type": "dataset.task_type"}
TEXT = re.compile(r"[\w./:@%-]+", re.ASCII)


def rewritten(asked: Arguments) -> Arguments:
    """The same command line as Hydra reads it.

    `dataset=FILE` and a word that is a table's file mean `dataset=table dataset.path=FILE`; under `dataset=own`,
    `dataset._target_` is the function that loads the data, and other settings are passed to it. Names of files and
    columns are quoted where Hydra would not take them for a text.
    """
    bare = [word for word in asked.bare if not is_table(word)]
    files = [word for word in asked.bare if is_table(word)]
    settings: list[str] = []
    for word in asked.settings:
        name, _, value = word.partition("=")
        if name == "dataset" and is_table(value):
            files.append(value)
        else:
            settings.append(word)
    if len(files) == 1 and not any(word.startswith("dataset=") for word in settings):
        settings = ["dataset=table", *_quoted("dataset.path", files[0]), *settings]
        files = []
    dataset = next((word.partition("=")[2] for word in reversed(settings) if word.startswith("dataset=")), "")
    known = set(_settings(CONFIGS / "dataset" / "own.yaml")) if dataset == "own" else set()
    found = [_word(word, dataset, known) for word in settings]
    return replace(asked, settings=tuple(found), bare=(*bare, *files))


def _word(word: str, dataset: str, known: set[str]) -> str:
    """A setting as Hydra reads it; `known` are the settings of `dataset=own`, the others are its function's."""
    name, equals, value = word.partition("=")
    if dataset in ("table", "own"):
        name = SHORT.get(name, name)
    if dataset == "own" and name == "dataset._target_":
        name = LOAD
    elif dataset == "own" and name.startswith("dataset.") and name.split(".")[1] not in known:
        name = f"++{name}"
    return _quoted(name, value)[0] if equals and name in QUOTED else f"{name}{equals}{value}"


def _quoted(name: str, value: str) -> list[str]:
    """A setting whose value is a text, quoted where that is necessary; lists, quoted texts and sweeps stay."""
    file = name in PATHS and Path(value).expanduser().exists()
    several = "," in value and not file and not re.search(r"[()\s]", value)
    if TEXT.fullmatch(value) or not value or several or (value[0] in "[{'\"" and not file):
        return [f"{name}={value}"]
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return [f'{name}="{escaped}"']


def decided(asked: Arguments, places: Sequence[Path]) -> bool:
    """Whether a command line chooses a dataset whose data decide the task type."""
    dataset = asked.value("dataset")
    files = [path for place in places if (path := place / "dataset" / f"{dataset}.yaml").is_file()]
    return bool(files) and _settings(files[0]).get("task_type") == AUTO


def _settings(file: Path) -> dict[str, Any]:
    """The settings of a dataset, as its file has them."""
    content: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    return dict(content.get("dataset") or {})


def words(asked: Arguments) -> list[str]:
    """The settings that say what the data are; of a sweep over data, its first values."""
    found = [_first(word) for word in asked.settings if re.match(r"[+~]*(dataset[.=]|task\.)", word)]
    return overrides.free(found)


def _first(word: str) -> str:
    name, _, value = word.partition("=")
    return word if value[:1] in "[{'\"" else f"{name}={value.partition(',')[0]}"


def default_loss(task_type: str) -> str:
    """The loss of the catalogue that a task type begins with; empty where there is none."""
    return str(load(task_type).default_loss)
