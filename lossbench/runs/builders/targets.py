"""Import and call of what a `_target_` names; errors in it become ConfigErrors of one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lossbench.config.importing import imported, prepare_torchvision
from lossbench.config.run_key import leaves
from lossbench.core import ConfigError, given, is_given, without_digest
from lossbench.core.failures import one_line


def import_target(target: str, prefix: str) -> Any:
    """The object at a dotted path. Raises: ConfigError, which begins with `prefix`, where it cannot be imported."""
    try:
        return imported(target)
    except (Exception, SystemExit) as error:  # a foreign module may raise anything on import
        raise ConfigError(f"{prefix}{target}: cannot be imported: {one_line(error)}") from error


def plain(cfg: DictConfig, drop: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a group as a dict of plain values, without those in `drop`."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    return {key: value for key, value in settings.items() if key not in drop}


def called(group: str, cfg: DictConfig, objects: Mapping[str, Any], drop: tuple[str, ...] = (), **more: Any) -> Any:
    """Like `call`, with further arguments as they are: of `more`, Hydra turns data classes into dicts."""
    bound = call(group, cfg, drop=drop, _partial_=True, **more)
    try:
        return bound(**objects)
    except ConfigError:
        raise
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"{group}: {cfg._target_}: {_last_line(error)}") from error


def call(group: str, cfg: DictConfig, *arguments: Any, drop: tuple[str, ...] = (), **more: Any) -> Any:
    """Call the `_target_` of a group with its settings. Raises: ConfigError for errors of the target itself."""
    target = str(cfg._target_)
    if not is_given(target):
        return instantiated(group, target, OmegaConf.create(plain(cfg, drop)), *arguments, **more)
    settings = instantiated(group, target, OmegaConf.create(plain(cfg, (*drop, "_target_"))))
    try:
        return given(target)(*arguments, **settings, **more)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"{group}: {without_digest(target)}: {_last_line(error)}") from error


def instantiated(group: str, target: str, cfg: DictConfig, *arguments: Any, **more: Any) -> Any:
    """Call every `_target_` in a tree of settings. Raises: ConfigError for errors of the targets themselves."""
    settings: Any = OmegaConf.to_container(cfg)
    prepare_torchvision(target, *(str(value) for key, value in leaves(settings).items() if key.endswith("_target_")))
    try:
        return instantiate(cfg, *arguments, _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | ImportError) or cause is None:
            raise ConfigError(f"{group}: {target}: {_last_line(cause or error)}") from error
        raise cause from error


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
