"""What runs in a process on another machine: a stack that it gets as plain data, and what it sends back."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from lossbench import __version__
from lossbench.core import Splits, machine, tensors_of
from lossbench.core.failures import MachineFault
from lossbench.runs import provenance
from lossbench.runs.signals import Stop
from lossbench.sweeps import timing
from lossbench.sweeps.engines.wire import Packed, Send, Wire, unpacked
from lossbench.sweeps.planning import Schedule
from lossbench.sweeps.stacks import Datasets, take
from lossbench.terminal import encoding

if TYPE_CHECKING:
    import torch

SHARE = 0.1  # of free memory that a dataset in Ray's object store may take
SEND_S = 0.5  # between two reports of progress
PASSED_ON = ("MLFLOW_", "LOSSBENCH_CACHE", "LOSSBENCH_STORAGE", "PGPASSWORD")
"""Settings in the environment that hold there too, passwords among them."""


@dataclass(frozen=True)
class Place:
    """Where a comparison was begun: the folder, the code and the environment that its runs need."""

    folder: str
    version: str
    code: str
    environment: tuple[tuple[str, str], ...]

    @staticmethod
    def here() -> Place:
        """This process's."""
        environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        return Place(str(Path.cwd()), __version__, provenance.code(), tuple(environment.items()))

    def enter(self) -> None:
        """Work as if the comparison had been begun here. Raises: MachineFault where another version is installed."""
        if self.version != __version__:
            raise MachineFault(f"lossbench {__version__} is installed there, {self.version} leads the comparison")
        os.environ.update(self.environment)
        os.environ[provenance.CODE] = self.code
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        if self.folder not in sys.path:
            sys.path.insert(0, self.folder)
        encoding.lenient()


class ByMail:
    """Sends messages to an actor, several at a time."""

    def __init__(self, mail: Any, task: int) -> None:
        self._mail, self._task = mail, task
        self._waiting: list[tuple[Any, ...]] = []
        self._steps = self._diverged = 0
        self._sent = 0.0

    def __call__(self, message: tuple[Any, ...]) -> None:
        if message[0] == "advance":
            self._steps, self._diverged = self._steps + message[1], self._diverged + message[2]
        else:
            self._waiting.append(message)
        if message[0] == "ended" or time.monotonic() > self._sent + SEND_S:
            messages = [*self._waiting, ("advance", self._steps, self._diverged)]
            self._mail.put.remote(self._task, messages)
            self._waiting, self._steps, self._diverged, self._sent = [], 0, 0, time.monotonic()


@cache
def _datasets() -> Datasets:
    """Those of this process, which may train several stacks."""
    return Datasets()


def train(
    stack: Sequence[Packed], place: Place, threads: int, send: Send, keys: Sequence[str] = (), *data: Splits | None
) -> list[tuple[Any, ...]]:
    """Train a stack: how each run ended, as `wire.hear` understands it. `data` are splits by the keys of datasets."""
    import torch

    from lossbench.datasets import remarks

    place.enter()
    if data:
        _share_tensors()
    torch.set_num_threads(threads)
    remarks.mute()
    runs = unpacked(stack)
    datasets = _datasets()
    datasets.add({key: splits for key, splits in zip(keys, data, strict=True) if splits is not None})
    ended: list[tuple[Any, ...]] = []

    def report(message: tuple[Any, ...]) -> None:
        if message[0] == "ended":
            ended.append(message)
        send(message)

    with suppress(KeyboardInterrupt), Stop():  # an interrupt waits until all records have ended
        take(runs, datasets, Wire(runs, report))
    return ended


def fastest(stack: Sequence[Packed], place: Place, slots: int, threads: int) -> Schedule:
    """The fastest schedule for these runs in `slots` processes like this one."""
    from lossbench.datasets import remarks

    place.enter()
    remarks.mute()
    beside = max(1, machine.cores() // threads)
    return timing.on_workers(unpacked(stack), _datasets(), slots, threads, beside)


def splits(dataset: dict[str, Any], place: Place) -> Splits | None:
    """The splits of a dataset, to share between processes; None for one so large that each builds or maps its own."""
    place.enter()
    _share_tensors()
    built = _datasets()(OmegaConf.create({"dataset": dataset}))
    return built if _nbytes(built) <= SHARE * machine.memory() else None


def _nbytes(built: Splits) -> int:
    found: list[torch.Tensor] = []
    for _, split in built:
        found += [split.inputs, *tensors_of(split.targets), *split.metadata.values()]
        found += [] if split.weights is None else [split.weights]
    return sum(tensor.nbytes for tensor in found)


@cache
def _share_tensors() -> None:
    """Let Ray's object store hand out tensors without a copy, as it does arrays."""
    import ray
    import torch

    ray.util.register_serializer(torch.Tensor, serializer=_array, deserializer=_tensor)


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().numpy()


def _tensor(array: Any) -> torch.Tensor:
    import torch

    with warnings.catch_warnings(action="ignore"):  # the store's memory is read-only, and nothing writes to examples
        return torch.from_numpy(array)
