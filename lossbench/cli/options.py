"""What commands share: a parser that refuses in a line, files that they write, the store that they read."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from pathlib import Path
from typing import NoReturn

from lossbench.core import ConfigError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        verb = self.prog.split()[-1]
        if found := re.match(r"unrecognized arguments: --?([\w.]+)(?:=| |$)(.*)", message):
            near = difflib.get_close_matches(f"--{found[1]}", self._option_string_actions, n=1, cutoff=0.75)
            hint = f"nearest: {near[0]}" if near else f"settings have no dashes; perhaps {found[1]}={found[2] or '…'}"
            raise ConfigError(f"{verb}: --{found[1]}: no such option; {hint}\n{self.prog} --help says what there is")
        raise ConfigError(f"{verb}: {message}\n{self.prog} --help says what there is")


def write(path: str, text: str, setting: str, mode: str = "w") -> None:
    """Raises: ConfigError for a file that cannot be written."""
    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{setting} {path}: cannot be written: {error.strerror}") from error


def store_uri(asked: str | None) -> str:
    """The address that was asked for, or the default one."""
    return asked if asked is not None else os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def recorded(asked: str | None) -> str:
    """The store that was asked for, or the default one. Raises: ConfigError where nothing is recorded there yet."""
    from lossbench import tracking

    uri = tracking.resolve(store_uri(asked))
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ConfigError(f"tracking.uri={uri}: nothing is recorded there yet; train something first, or name a store")
    tracking.check_connection(uri)
    return uri
