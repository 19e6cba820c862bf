"""A call from Python leaves the process as it was: Hydra, `sys.argv`, logging, warnings, threads, the environment.

Calls take turns, since all of this belongs to the whole process.
"""

from __future__ import annotations

import io
import logging
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lossbench.core import machine

_TURN = threading.RLock()
VARIABLES = ("LOSSBENCH_SWEEP", "LOSSBENCH_COMPARISON", "HYDRA_FULL_ERROR")


@contextmanager
def undisturbed(words: Sequence[str]) -> Iterator[None]:
    """Inside, this process is that of the command line `python -m lossbench` with these words."""
    with _TURN, ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, which nothing of ours displays
        for restore in (_hydra(), _logging(), _streams(), _torch(), _random(), _environment(), _arguments(words)):
            stack.callback(restore)
        yield


def _arguments(words: Sequence[str]) -> Callable[[], None]:
    """The command line, which records name as their command."""
    before = list(sys.argv)

    def restore() -> None:
        sys.argv[:] = before

    sys.argv[1:] = words
    return restore


def _random() -> Callable[[], None]:
    """Python's own stream, which imports may draw from."""
    before = random.getstate()
    return lambda: random.setstate(before)


def _environment() -> Callable[[], None]:
    before = {name: os.environ.pop(name, None) for name in VARIABLES}

    def restore() -> None:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return restore


def _hydra() -> Callable[[], None]:
    """What Hydra keeps of one application for the whole process; the caller may be one, too."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime
    from hydra.version import VersionBase
    from omegaconf.basecontainer import BaseContainer

    kinds = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
    instances: dict[Any, Any] = Singleton._instances
    before = {kind: instances.pop(kind) for kind in kinds if kind in instances}
    store, resolvers = ConfigStore.instance().repo, dict(BaseContainer._resolvers)
    known = {name: store[name] for name in ("schema.yaml",) if name in store}

    def restore() -> None:
        for kind in kinds:
            instances.pop(kind, None)
        instances.update(before)
        store.pop("schema.yaml", None)
        store.update(known)
        BaseContainer._resolvers.clear()
        BaseContainer._resolvers.update(resolvers)

    return restore


def _logging() -> Callable[[], None]:
    every = [
        logging.root,
        *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)),
    ]
    before = [(one, one.level, one.disabled, one.propagate, list(one.handlers)) for one in every]
    least = logging.root.manager.disable

    def restore() -> None:
        logging.disable(least)
        for logger, level, disabled, propagate, handlers in before:
            logger.setLevel(level)
            logger.disabled, logger.propagate, logger.handlers[:] = disabled, propagate, handlers

    return restore


def _streams() -> Callable[[], None]:
    """Print ? for characters that the encoding of standard output lacks, as the command line does."""
    before = [(one, one.errors) for one in (sys.stdout, sys.stderr) if isinstance(one, io.TextIOWrapper)]
    for stream, _ in before:
        stream.reconfigure(errors="replace")

    def restore() -> None:
        for stream, errors in before:
            if not stream.closed:
                stream.reconfigure(errors=errors)

    return restore


def _torch() -> Callable[[], None]:
    """The number of threads, and whether only deterministic algorithms may run."""
    import torch

    threads = torch.get_num_threads()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if (cores := machine.cores()) < threads:  # a quota, which torch ignores
        torch.set_num_threads(cores)

    def restore() -> None:
        torch.set_num_threads(threads)
        if strict != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(strict, warn_only=warns)

    return restore
