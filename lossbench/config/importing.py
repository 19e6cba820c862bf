"""Objects at dotted paths, imported so that torchvision loads with any torch. Nothing here imports torch itself."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lossbench.core import given, is_given


def imported(target: str) -> Any:
    """The object at a dotted path: in a module, in a class, or passed from Python; raises whatever importing raises."""
    if is_given(target):
        return given(target)
    prepare_torchvision(target)
    parent, _, name = target.rpartition(".")
    try:
        return getattr(import_module(parent), name)
    except ModuleNotFoundError as error:
        if error.name != parent or "." not in parent:
            raise
    return getattr(imported(parent), name)


def prepare_torchvision(*targets: str) -> None:
    """Let foreign modules import torchvision beside any torch, before they are imported: see `core.vision`."""
    if any(target.partition(".")[0] not in ("lossbench", "torch") for target in targets) and find_spec("torchvision"):
        import_module("lossbench.core.vision")
