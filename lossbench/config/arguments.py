"""A command line parsed into Hydra's options, wherever they stand, and settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lossbench.core import ConfigError

JOIN = "--comparison"  # ours: the comparison that a multirun works on
FLAGS = {
    **{"--help": "-h", "--hydra-help": "", "--resolve": "", "--run": "-r", "--multirun": "-m"},
    **{"--shell-completion": "-sc"},
}
VALUED = {
    **{"--cfg": "-c", "--package": "-p", "--config-path": "-cp", "--config-name": "-cn", "--config-dir": "-cd"},
    **{"--experimental-rerun": "", JOIN: ""},
}
BOTH = {"--info": "-i"}  # with a value or without
CONFIGURATIONS = ("job", "hydra", "all")  # values of --cfg
INFO_KINDS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")  # values of --info


@dataclass(frozen=True)
class Arguments:
    """Options by Hydra's long names, settings (`key=value`, `~key`) and words that are neither, in order."""

    options: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]
    bare: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The folder of --config-dir; empty without that option."""
        return dict(self.options).get("--config-dir", "")

    @property
    def multirun(self) -> bool:
        """Whether several runs are asked for: by --multirun, or by hydra.mode=MULTIRUN."""
        return ("--multirun", "") in self.options or "hydra.mode=MULTIRUN" in self.settings

    def value(self, key: str) -> str | None:
        """The value of the last setting of a key; None where there is none."""
        found = [word.partition("=")[2] for word in self.settings if word.partition("=")[0] == key]
        return found[-1] if found else None

    def without(self, *keys: str) -> list[str]:
        """The settings of other keys."""
        return [word for word in self.settings if word.partition("=")[0] not in keys]

    def words(self) -> list[str]:
        """All words in an order that Hydra reads: it takes no setting after an option that follows a setting."""
        options = [option for option in self.options if option[0] != JOIN]  # which Hydra does not know
        return [*(word for option in options for word in option if word), *self.bare, *self.settings]


def read(words: Sequence[str], offer: Callable[[str, str], str]) -> Arguments:
    """The words of a command line, parsed.

    `offer` suggests a setting for the name and value of an option that does not exist.

    Raises: ConfigError for options that do not exist, and for those that lack a value.
    """
    short = {letter: name for name, letter in {**FLAGS, **VALUED, **BOTH}.items() if letter}
    options: list[tuple[str, str]] = []
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        name = short.get(name, name)
        if not word.startswith("-"):
            rest.append(word)
        elif name in FLAGS and not equals:
            options.append((name, ""))
        elif name in BOTH:
            options.append((name, value or (left.pop(0) if left and left[0] in INFO_KINDS else INFO_KINDS[0])))
        elif name in VALUED:
            if not equals and (not left or left[0].startswith("-") or "=" in left[0]):
                raise ConfigError(f"{word}: needs a value after it")
            options.append((name, value if equals else left.pop(0)))
            if name == "--cfg" and options[-1][1] not in CONFIGURATIONS:
                raise ConfigError(
                    f"--cfg {options[-1][1]}: unknown; choose {', '.join(CONFIGURATIONS)}; job is the run's own"
                )
        else:
            raise ConfigError(_no_option(word, left[0] if left and not left[0].startswith("-") else "", offer))
    is_setting = [("=" in word and not word.startswith("=")) or word.startswith("~") for word in rest]
    return Arguments(
        tuple(dict.fromkeys(options)),
        tuple(word for word, one in zip(rest, is_setting, strict=True) if one),
        tuple(word for word, one in zip(rest, is_setting, strict=True) if not one),
    )


def _no_option(word: str, after: str, offer: Callable[[str, str], str]) -> str:
    name, equals, value = word.partition("=")
    near = difflib.get_close_matches(name, [*FLAGS, *VALUED, *BOTH, "--version"], n=1, cutoff=0.75)
    if near:
        return f"{word}: no such option; nearest: {near[0]}"
    if not equals and "=" not in after:
        value = after
    option = f"{word} {value}" if value and not equals else word
    return f"{option}: settings have no dashes; use {offer(name.lstrip('-').replace('-', '_'), value or '…')}"
