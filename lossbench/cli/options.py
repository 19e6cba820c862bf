"""What commands share: their parser and the files that they write."""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path
from typing import NoReturn

from lossbench.core import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors and suggest the nearest option."""

    def error(self, message: str) -> NoReturn:
        """Raises: ConfigError, with a hint."""
        command = self.prog.split()[-1]
        if found := re.match(r"unrecognized arguments: --?([\w.]+)(?:=| |$)(.*)", message):
            near = difflib.get_close_matches(f"--{found[1]}", self._option_string_actions, n=1, cutoff=0.75)
            hint = f"nearest: {near[0]}" if near else f"settings have no dashes: {found[1]}={found[2] or '…'}"
            raise ConfigError(f"{command}: --{found[1]}: no such option; {hint}\n{self.prog} --help lists the options")
        raise ConfigError(f"{command}: {message}\n{self.prog} --help lists the options")


def write(path: str, text: str, setting: str, mode: str = "w") -> None:
    """Write a text file. Raises: ConfigError, which names `setting`, where that fails."""
    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{setting} {path}: cannot be written: {error.strerror}") from error
