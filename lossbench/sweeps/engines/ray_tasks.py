"""Ray: each stack is a task, which Ray places on a node that has enough free cores and GPUs.

The splits of a dataset are built by a task as well, and stay in Ray's object store: once on each node that needs them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lossbench.core import ConfigError, require
from lossbench.core.failures import MachineFault, one_line
from lossbench.runs.run import Run
from lossbench.sweeps import planning
from lossbench.sweeps.engines import Claim, Group, checks, remote
from lossbench.sweeps.engines.wire import hear, packed
from lossbench.sweeps.planning import Schedule
from lossbench.sweeps.stacks import Board, Datasets, Waiting, data_key

POLL_S = 0.3
INSTALL = "pip install 'lossbench[ray]'"


class Mail:
    """An actor that collects what tasks report until the process that leads asks for it."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, Any]] = []

    def put(self, task: int, messages: Sequence[Any]) -> None:
        """Add messages of a task."""
        self._messages += [(task, message) for message in messages]

    def drain(self) -> list[tuple[int, Any]]:
        """The messages since the last call."""
        messages, self._messages = self._messages, []
        return messages


@dataclass
class _Task:
    number: int
    stack: list[Run]


class Ray:
    """Trains on a Ray cluster."""

    def __init__(
        self,
        address: str,
        num_cpus: float,
        num_gpus: float,
        slots: int | None,
        retries: int,
        runtime_env: Mapping[str, Any] | None,
    ) -> None:
        """`num_cpus` and `num_gpus` are what a stack needs; `slots` is how many train at once, by default what fits.

        A stack whose node or process is lost starts again, from its last checkpoint, `retries` times at most.
        """
        require("hydra.launcher.num_cpus", num_cpus, lambda n: n > 0, "above 0")
        require("hydra.launcher.num_gpus", num_gpus, lambda n: n >= 0, "0 or above")
        require("hydra.launcher.retries", retries, lambda n: n >= 0, "0 or above")
        if slots is not None:
            require("hydra.launcher.slots", slots, lambda n: n >= 1, "at least 1, or null")
        self._address, self._num_cpus, self._num_gpus = address, num_cpus, num_gpus
        self._asked_slots, self._retries, self._runtime_env = slots, retries, dict(runtime_env or {})
        self._threads = max(1, int(num_cpus))
        self._numbers = iter(range(sys.maxsize))
        self._lost: dict[str, int] = {}  # how often a run's node was lost, by key
        self._place = remote.Place.here()
        self._calls, self._counting = 0, threading.Lock()  # searches train beside each other
        self._data: dict[str, Any] = {}  # references to splits, by the key of their dataset

    def check(self, cfgs: Sequence[DictConfig]) -> None:
        """Connect to the cluster. Raises: ConfigError where that fails, or runs cannot be trained or recorded there."""
        checks.importable(cfgs, "ray")
        ray = self._connected()
        nodes = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if len(nodes) > 1:
            checks.shared(cfgs, f"hydra/launcher=ray: this cluster has {len(nodes)} machines")
        if not self._slots(ray):
            raise ConfigError(
                f"hydra.launcher.num_cpus={self._num_cpus}, num_gpus={self._num_gpus}: no node has as many; "
                "ask for less, or give hydra.launcher.slots where nodes start on demand"
            )

    def _connected(self) -> Any:
        """The module ray, connected to the cluster. Raises: ConfigError."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise ConfigError(f"hydra/launcher=ray: needs {INSTALL}") from None
        if ray.is_initialized():
            return ray
        main = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=self._runtime_env)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"hydra.launcher.address={self._address}: no Ray cluster answers: {one_line(error)}\n"
                "ray start --head starts one; hydra.launcher.address=local uses one of this process"
            ) from error
        finally:
            if main and handler is not None:  # Ray's own would end this process without its records
                signal.signal(signal.SIGTERM, handler)
        return ray

    def _slots(self, ray: Any) -> int:
        """How many stacks train at once: as many as the nodes have room for, if nothing is asked for."""
        if self._asked_slots is not None:
            return self._asked_slots
        fitting = 0
        for node in ray.nodes():
            has = node["Resources"] if node["Alive"] else {}
            cores = int(has.get("CPU", 0) / self._num_cpus)
            gpus = int(has.get("GPU", 0) / self._num_gpus) if self._num_gpus else cores
            fitting += min(cores, gpus)
        return fitting

    def train(
        self, groups: Sequence[Group], claim: Claim, datasets: Datasets, board: Board, stop: Callable[[], bool]
    ) -> None:
        """Train these runs as tasks. Raises: KeyboardInterrupt after Ctrl-C, once all tasks have ended."""
        ray = self._connected()
        tasks: dict[Any, _Task] = {}
        with self._data_held(), _mail(ray) as mail:
            waiting = Waiting(self._stacks(ray, groups, board, stop), claim)
            try:
                while not stop():
                    while len(tasks) < max(1, self._slots(ray)) and (stack := waiting.next()):
                        task = _Task(next(self._numbers), stack)
                        tasks[self._begun(ray, task, mail)] = task
                    if not tasks:
                        return
                    self._settle(ray, tasks, mail, waiting, board)
                self._cancel(ray, tasks, mail, waiting, board)
            finally:
                for reference in tasks:
                    ray.cancel(reference, force=True)

    def _cancel(self, ray: Any, tasks: dict[Any, _Task], mail: Any, waiting: Waiting, board: Board) -> None:
        """Interrupt all tasks and wait for their records. Raises: KeyboardInterrupt, once these have ended."""
        cancelled = list(tasks.values())
        for reference in tasks:
            ray.cancel(reference, force=False)  # raises KeyboardInterrupt there
        while tasks:
            self._settle(ray, tasks, mail, waiting, board)
        for task in cancelled:  # what was lost before it could end its records
            self._abandon(task, KeyboardInterrupt(), board)
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def _data_held(self) -> Iterator[None]:
        """Inside, splits stay in the object store; several threads may train."""
        with self._counting:
            self._calls += 1
        try:
            yield
        finally:
            with self._counting:
                self._calls -= 1
                if not self._calls:
                    self._data.clear()

    def _stacks(self, ray: Any, groups: Sequence[Group], board: Board, stop: Callable[[], bool]) -> list[list[Run]]:
        """The stacks of these groups, as large as was measured to be fastest."""
        stacks = []
        for group, schedule in zip(groups, self._fastest(ray, groups, max(1, self._slots(ray)), stop), strict=True):
            if schedule.alone:
                board.say(f"{group[0].names.model} trains one run at a time: in a stack, {schedule.alone}")
            stacks += planning.parts(group, schedule.size)
        return stacks

    def _fastest(self, ray: Any, groups: Sequence[Group], slots: int, stop: Callable[[], bool]) -> list[Schedule]:
        """The schedule of each group, measured on the cluster. Raises: KeyboardInterrupt after Ctrl-C."""
        measure = ray.remote(remote.fastest).options(**self._needs())
        measured = [measure.remote(packed(group), self._place, slots, self._threads) for group in groups]
        found, waiting = [], measured
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_S)
            if stop():
                for reference in waiting:
                    ray.cancel(reference, force=True)
                raise KeyboardInterrupt
        for reference in measured:
            try:
                found.append(ray.get(reference))
            except ray.exceptions.RayError:  # training reports what is wrong
                found.append(Schedule(1, self._threads, slots))
        return found

    def _needs(self) -> dict[str, Any]:
        return {"num_cpus": self._num_cpus, "num_gpus": self._num_gpus, "max_retries": 0}

    def _begun(self, ray: Any, task: _Task, mail: Any) -> Any:
        """Start the task of a stack: a reference to its outcomes."""
        datasets = {data_key(run.cfg): run.cfg.dataset for run in task.stack}
        for key, dataset in datasets.items():
            if key not in self._data:
                build = ray.remote(remote.splits).options(num_cpus=self._num_cpus, max_retries=self._retries)
                self._data[key] = build.remote(OmegaConf.to_container(dataset, resolve=True), self._place)
        train = ray.remote(remote.train).options(**self._needs())
        send, data = remote.ByMail(mail, task.number), [self._data[key] for key in datasets]
        return train.remote(packed(task.stack), self._place, self._threads, send, list(datasets), *data)

    def _settle(self, ray: Any, tasks: dict[Any, _Task], mail: Any, waiting: Waiting, board: Board) -> None:
        """Show what the tasks report, and take the outcomes of those that have ended."""
        ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=POLL_S)
        by_number = {task.number: task for task in tasks.values()}
        for number, message in ray.get(mail.drain.remote()):
            if number in by_number:
                hear(message, by_number[number].stack, board)
        for reference in ended:
            task = tasks.pop(reference)
            try:
                for message in ray.get(reference):
                    hear(message, task.stack, board)
            except ray.exceptions.TaskCancelledError:
                pass  # before it began: its runs have no records
            except ray.exceptions.RayTaskError as error:
                self._abandon(task, MachineFault(one_line(error.cause or error)), board)
            except ray.exceptions.RayError as error:
                self._again(task, error, waiting, board)

    def _abandon(self, task: _Task, error: BaseException, board: Board) -> None:
        for run in _unended(task.stack):
            run.abandon(error)
            board.ended(run)

    def _again(self, task: _Task, error: BaseException, waiting: Waiting, board: Board) -> None:
        """Let the runs of a lost task start again, from their checkpoints, unless they were lost too often."""
        left = _unended(task.stack)
        for run in left:
            run.result = run.earlier.finished(run.store())  # notes the record that is to be resumed
            if run.result is not None:
                board.ended(run)
        left = [run for run in left if run.result is None]
        for run in left:
            self._lost[run.identity.key] = self._lost.get(run.identity.key, 0) + 1
        again = [run for run in left if self._lost[run.identity.key] <= self._retries]
        if again:
            board.say(f"Ray lost a process that trained {len(again)} runs ({type(error).__name__}); they start again")
            waiting.put_back(again)
        rest = [run for run in left if run not in again]
        self._abandon(_Task(task.number, rest), MachineFault(f"lost too often: {one_line(error)}"), board)


@contextlib.contextmanager
def _mail(ray: Any) -> Iterator[Any]:
    """A Mail on the node of this process, where its messages are read."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    mail = ray.remote(Mail).options(num_cpus=0, scheduling_strategy=here).remote()
    try:
        yield mail
    finally:
        ray.kill(mail)


def _unended(stack: Sequence[Run]) -> list[Run]:
    return [run for run in stack if run.result is None and run.error is None]
