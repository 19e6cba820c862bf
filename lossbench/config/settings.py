"""The settings of a run: plain values, most of them shared with runs that differ from it in numbers only."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.nodes import ValueNode

from lossbench.config import run_key

REPEATED = re.compile(r"\$\{([a-z]\w*(?:\.\w+)*)\}")


class Shared:
    """The settings of a configuration, and which of its numbers runs may differ in while they share the rest."""

    def __init__(self, cfg: DictConfig, numbers: Collection[str] = ()) -> None:
        """`numbers` are the settings in which runs differ."""
        self.tree = _plain(cfg)
        self.flat = run_key.leaves(self.tree)
        self.literal = any("${" in str(value) for value in self.flat.values())  # no interpolation, but would become one
        if self.literal:
            resolved = copy.deepcopy(cfg)
            OmegaConf.resolve(resolved)
            self.tree = _plain(resolved)
            self.flat = run_key.leaves(self.tree)
        sources = {} if self.literal or not all(map(self._may_differ, numbers)) else _repeated(cfg, numbers)
        self._converted = [(name, source, _node(cfg, name)) for name, source in sources.items()]
        self.differ = bool(sources) or not (numbers or self.literal)

    def _may_differ(self, name: str) -> bool:
        return isinstance(self.flat.get(name), int | float)

    def own(self, numbers: Mapping[str, int | float]) -> dict[str, Any] | None:
        """A run's own values for these numbers, of the settings' types; None where it cannot share the rest."""
        if not self.differ:
            return None
        try:
            return {name: node.validate_and_convert(numbers[source]) for name, source, node in self._converted}
        except OmegaConfBaseException:
            return None

    @cached_property
    def deciding(self) -> dict[str, Any]:
        """What decides the key of a run."""
        return run_key.deciding(self.flat)


class Settings:
    """The settings of one run; its configuration is made when it is first needed, and can be dropped and made again."""

    __slots__ = ("_cfg", "_given", "own", "shared")

    def __init__(self, shared: Shared, own: dict[str, Any] | None = None, cfg: DictConfig | None = None) -> None:
        self.shared, self.own, self._cfg = shared, own or {}, cfg
        self._given = cfg is not None

    @staticmethod
    def of(cfg: DictConfig) -> Settings:
        """The settings of a configuration, which is kept."""
        return Settings(Shared(cfg), cfg=cfg)

    def __getitem__(self, name: str) -> Any:
        """The value of a setting by its dotted name. Raises: KeyError for one that does not exist."""
        return self.own[name] if name in self.own else self.shared.flat[name]

    def get(self, name: str) -> Any:
        """The value of a setting by its dotted name; None for one that does not exist."""
        return self.own.get(name, self.shared.flat.get(name))

    def update(self, name: str, value: Any) -> None:
        """Set one of the settings, also in the configuration."""
        self.own[name] = value
        if self._cfg is not None:
            OmegaConf.update(self._cfg, name, value)

    @property
    def cfg(self) -> DictConfig:
        """The configuration."""
        if self._cfg is None:
            self._cfg = self.made()
        return self._cfg

    def made(self) -> DictConfig:
        """The configuration, which is not held where it is not held already."""
        return self._cfg if self._cfg is not None else OmegaConf.create(self.tree())

    def drop(self) -> None:
        """Free the configuration, unless it was given."""
        if not self._given:
            self._cfg = None

    def flat(self) -> dict[str, Any]:
        """The settings as dotted keys and plain values."""
        return {**self.shared.flat, **self.own}

    def tree(self) -> dict[str, Any]:
        """The settings as plain nested dictionaries, which other runs share in part."""
        tree = dict(self.shared.tree)
        for name, value in self.own.items():
            *groups, last = name.split(".")
            node = tree
            for group in groups:
                node[group] = dict(node[group])
                node = node[group]
            node[last] = value
        return tree

    def key(self, loss: str) -> str:
        """As `run_key.key` of the configuration."""
        deciding = self.shared.deciding
        own = {name: value for name, value in self.own.items() if name in deciding}
        return run_key.digest({**deciding, **own}, loss)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as plain nested dictionaries, resolved."""
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    return tree


def _node(cfg: DictConfig, name: str) -> ValueNode:
    """The node that holds the value of a setting, which converts values to the setting's type."""
    node: Any = cfg
    for part in name.split("."):
        node = node._get_node(part)
    return node


def _repeated(cfg: DictConfig, numbers: Collection[str]) -> dict[str, str]:
    """The settings that repeat a number, as `${seed}` does, with it; empty where one depends on it otherwise."""
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    asked = {name: str(value) for name, value in run_key.leaves(tree).items() if "${" in str(value)}
    found = {name: name for name in numbers}
    left: dict[str, str] = {}
    while len(left) != len(asked):
        left, asked = asked, {}
        for name, text in left.items():
            repeats = REPEATED.fullmatch(text)
            if repeats and repeats[1] in found:
                found[name] = found[repeats[1]]
            else:
                asked[name] = text
    return {} if any(_depends(text, found) for text in asked.values()) else found


def _depends(text: str, numbers: Collection[str]) -> bool:
    """Whether an interpolation may depend on one of these settings; in doubt, it does."""
    if re.search(r"hydra:(?!runtime\.choices)", text):
        return True
    words = [word.strip(".") for word in re.findall(r"[\w.]+", text)]
    return any(
        number == word or number.startswith(f"{word}.") or number.rpartition(".")[2] == word.rpartition(".")[2]
        for number in numbers
        for word in words
    )
