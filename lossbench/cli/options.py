"""What commands share: their parser, the files that they write, the store that they read."""

from __future__ import annotations

import argparse
import difflib
import os
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


def store_uri(uri: str | None) -> str:
    """The URI of the store, by default that of MLFLOW_TRACKING_URI, else the database in this folder."""
    return uri if uri is not None else os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def existing_store(uri: str | None) -> str:
    """The resolved URI of a store that has records. Raises: ConfigError where nothing is recorded there yet."""
    from lossbench import tracking

    uri = tracking.resolve(store_uri(uri))
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ConfigError(
            f"tracking.uri={uri}: nothing is recorded there yet; train first, or give tracking.uri of another store"
        )
    tracking.check_connection(uri)
    return uri
