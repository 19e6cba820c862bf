"""The configurations that a command line chooses from, ours and those of --config-dir, and what they compose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lossbench.config import arguments, own_data, run_key, schema
from lossbench.config.arguments import Arguments
from lossbench.config.task_types import chosen
from lossbench.core import ConfigError

OPEN = ("dataset", "model", "loss", "optimizer", "task")  # groups whose keys depend on what is chosen
CHOSEN = ("dataset", "loss", "model", "optimizer", "experiment")  # groups that a word may name a file of
KNOWN = (*CHOSEN, "seed", "losses", "seeds", "tune")


def read(words: list[str]) -> Arguments:
    """A command line parsed. Raises: ConfigError for options that do not exist."""

    def offer(name: str, value: str) -> str:
        if name in KNOWN or "." in name:
            return f"{name}={value}"
        near = [key for key in keys(Arguments((), (), ())) if key.endswith(f".{name}")]
        return f"{near[0] if near else name}={value}"

    return own_data.rewritten(arguments.read(words, offer))


def of_data(asked: Arguments, places: Sequence[Path]) -> str:
    """The task type that the data of a command line decide; empty where the dataset's file decides it.

    Raises: ConfigError for data that cannot be read.
    """
    if not own_data.decided(asked, places):
        return ""
    return chosen(composed(own_data.words(asked), places))


def with_loss(asked: Arguments, places: Sequence[Path]) -> Arguments:
    """The same; where the data decide the task type and no loss is chosen, with the first loss of that type."""
    losses = ("loss", "losses", "loss._target_", "experiment")
    if any(asked.value(name) is not None for name in losses) or not (task_type := of_data(asked, places)):
        return asked
    loss = own_data.default_loss(task_type)
    return replace(asked, settings=(*asked.settings, f"loss={loss}")) if loss else asked


def one_each(asked: Arguments) -> None:
    """Raises: ConfigError for a list where a group takes one name."""
    for word in asked.settings:
        group, _, value = word.partition("=")
        if group in CHOSEN and value.startswith("[") and value.endswith("]"):
            raise ConfigError(f"{word}: {group} takes one name; for several use -m {group}={value.strip('[]')}")


def folders(asked: Arguments) -> list[Path]:
    """The folders of configurations: ours, then that of --config-dir.

    Raises: ConfigError for a folder that does not exist, and for a file in it that Hydra would ignore for one of ours.
    """
    if not asked.folder:
        return [schema.CONFIGS]
    theirs = Path(asked.folder).expanduser()
    if not theirs.is_dir():
        raise ConfigError(
            f"--config-dir {asked.folder}: no such folder; it holds folders loss, dataset, model … of YAML"
        )
    for path in sorted(theirs.glob("*/**/*.yaml")):
        ours = schema.CONFIGS / path.relative_to(theirs)
        if ours.is_file() and ours.read_bytes() != path.read_bytes():
            name = path.relative_to(theirs)
            raise ConfigError(
                f"--config-dir {asked.folder}: {name} has the name of one of ours, which Hydra reads; rename it"
            )
    return [schema.CONFIGS, theirs.resolve()]


def names(group: str, places: Sequence[Path]) -> list[str]:
    """The names of a group's files in these folders."""
    return sorted({path.stem for place in places for path in (place / group).glob("*.yaml")})


def composed(words: Sequence[str], places: Sequence[Path]) -> DictConfig:
    """A configuration as Hydra composes it from these folders, including Hydra's own part."""
    from hydra import compose, initialize_config_dir

    schema.register()
    path = [f"hydra.searchpath={json.dumps([f'file://{place}' for place in places[1:]])}"] if places[1:] else []
    with initialize_config_dir(str(places[0]), version_base="1.3"):
        return compose("config", [*path, *words], return_hydra_config=True)


def keys(asked: Arguments) -> list[str]:
    """The settings that exist under the groups that a command line chooses, as dotted keys."""
    groups = {path.name for path in schema.CONFIGS.iterdir() if path.is_dir()}
    pairs = [a.partition("=")[::2] for a in asked.settings]
    chosen = [[f"{group}={one}" for one in values.split(",")] for group, values in pairs if group in groups]
    found: dict[str, None] = {}
    try:
        for words in product(*chosen):
            cfg: Any = OmegaConf.to_container(composed(words, folders(asked)), resolve=False)
            found |= dict.fromkeys(run_key.leaves({key: value for key, value in cfg.items() if key != "hydra"}))
    except Exception:  # a choice is wrong itself: offer nothing
        return []
    return [*found, *CHOSEN]


def deletable(asked: Arguments, places: Sequence[Path]) -> Arguments:
    """The same, with a value set before each `~key` whose value is null: Hydra cannot delete those."""
    deleted = {word[1:] for word in asked.settings if word.startswith("~") and word.partition(".")[0][1:] in OPEN}
    if not deleted:
        return asked
    groups = [word for word in asked.settings if word.partition("=")[0] in CHOSEN and "," not in word]
    known: Any = OmegaConf.to_container(composed(groups, places), resolve=False)
    nulls = {key for key, value in run_key.leaves(known).items() if value is None} & deleted
    words = [w for word in asked.settings for w in ([f"{word[1:]}={{}}", word] if word[1:] in nulls else [word])]
    return replace(asked, settings=tuple(words))


def chosen_by(word: str, places: Sequence[Path]) -> str:
    """The setting that chooses what a word names, as `loss=focal`; empty where it names nothing."""
    return next((f"{group}={word}" for group in CHOSEN if word in names(group, places)), "")
