"""Which loss should I train with, on my data, and how sure can I be?

`compare`, `tune` and `train` train, `report` and `load` read records, `losses` and `check` are about losses. Each is
imported when it is first asked for.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossbench.api import Comparison, ConfigError, Trained, check, compare, load, losses, report, train, tune

__version__ = "0.1.0"

__all__ = ["Comparison", "ConfigError", "Trained", "check", "compare", "load", "losses", "report", "train", "tune"]


class _Losses(ModuleType):
    """The package `lossbench.losses`, which as a function lists the catalogue."""

    def __call__(self, about: str | None = None) -> Any:
        return import_module("lossbench.api").losses(about)


class _Package(ModuleType):
    @property
    def losses(self) -> ModuleType:
        package = import_module("lossbench.losses")
        package.__class__ = _Losses
        return package

    @losses.setter
    def losses(self, package: ModuleType) -> None:
        """Python's import sets it; the package is found by its name."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("lossbench.api"), name)
    raise AttributeError(f"module 'lossbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
