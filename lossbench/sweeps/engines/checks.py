"""Whether runs can be trained and recorded on other machines: what cannot is refused before anything trains."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from lossbench import tracking
from lossbench.config import run_key
from lossbench.config.redaction import redacted
from lossbench.core import ConfigError, without_digest

SERVER = "docker compose -f docker/compose.yaml up -d --wait starts one; then tracking.uri=http://HOST:5000"


def importable(cfgs: Sequence[DictConfig], launcher: str) -> None:
    """Raises: ConfigError for objects of this process, which no other can import."""
    for cfg in cfgs:
        if paths := run_key.given_paths(run_key.flat(cfg)):
            raise ConfigError(
                f"hydra/launcher={launcher}: {without_digest(paths[0])} was passed from Python and exists in this "
                "process only; put it into a module, and give its path: loss._target_=my_module.my_loss"
            )


def shared(cfgs: Sequence[DictConfig], why: str) -> None:
    """Raises: ConfigError for a store, or a place of artifacts, that only this machine can write."""
    for uri, place in dict.fromkeys((str(cfg.tracking.uri), cfg.tracking.location) for cfg in cfgs):
        if uri.startswith("sqlite:"):
            raise ConfigError(f"{why}, and tracking.uri={uri} is a file of one; record to an MLflow server\n{SERVER}")
        if not tracking.resolve(uri).startswith("http") and (place is None or "://" not in str(place)):
            raise ConfigError(
                f"{why}, and files go to {place or 'mlruns'}, a folder of one; record to an MLflow server, which "
                f"takes files, not to {redacted(uri)}, or give a bucket\n{SERVER}"
            )
