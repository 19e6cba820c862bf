"""Stacks: those that wait, the datasets that they need, and how one trains in this process."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from omegaconf import DictConfig

from lossbench.config import run_key
from lossbench.core import Splits
from lossbench.runs.run import Run
from lossbench.runs.training import train


class Board(Protocol):
    """What shows the progress of a sweep."""

    def advance(self, steps: int, diverged: int) -> None:
        """Count optimizer steps and replicas that diverged."""

    def training(self, runs: int) -> None:
        """Add this many runs, which may be negative, to those that train now."""

    def ended(self, run: Run) -> None:
        """Show how a run ended."""

    def say(self, line: str) -> None:
        """Print a line, unless it was printed before."""


class Waiting:
    """The stacks that wait to be trained. A stack is claimed as it is handed out, so that nobody else trains it."""

    def __init__(self, stacks: Sequence[Sequence[Run]], claim: Callable[[Sequence[Run]], list[Run]]) -> None:
        self._stacks = deque(stacks)
        self._claim = claim

    def __bool__(self) -> bool:
        return bool(self._stacks)

    def next(self) -> list[Run]:
        """The claimed runs of the next stack of which any can be claimed; empty where none is left."""
        while self._stacks:
            if claimed := self._claim(self._stacks.popleft()):
                return claimed
        return []

    def put_back(self, stack: Sequence[Run]) -> None:
        """Let a stack be handed out again, before all others."""
        self._stacks.appendleft(stack)


class Datasets:
    """The datasets of a sweep, each built once while any run needs it; the last one stays for the next run."""

    def __init__(self) -> None:
        self._built: WeakValueDictionary[str, Splits] = WeakValueDictionary()
        self._last: Splits | None = None
        self._examples: dict[str, int] = {}
        self._tables: dict[str, bool] = {}

    def __call__(self, cfg: DictConfig) -> Splits:
        """The splits that a configuration asks for. Raises: ConfigError for data that cannot be trained on."""
        from lossbench.runs import builders

        key = data_key(cfg)
        self._last = self._built.get(key) or builders.splits(cfg.dataset)
        self._built[key] = self._last
        self._tables[_text(cfg.dataset, "seed")] = bool(self._last.info.columns)
        return self._last

    def add(self, built: Mapping[str, Splits]) -> None:
        """Add splits that another process has built, by `data_key`, for as long as the caller holds them."""
        self._built.update(built)

    def is_table(self, cfg: DictConfig) -> bool:
        """Whether the dataset describes columns; it is built only if it has not been under any seed."""
        key = _text(cfg.dataset, "seed")
        if key not in self._tables:
            self(cfg)
        return self._tables[key]

    def count_steps(self, cfg: DictConfig) -> None:
        """Set `train.steps` where epochs are asked for, which needs the data. Raises: ConfigError."""
        from lossbench.runs import builders

        if cfg.train.epochs is not None:
            key = data_key(cfg)
            if key not in self._examples:
                self._examples[key] = len(self(cfg).train)
            builders.count_steps(cfg.train, self._examples[key])


def data_key(cfg: DictConfig) -> str:
    """The settings of the dataset of a run, by which runs share it."""
    return _text(cfg.dataset)


def _text(dataset: DictConfig, *without: str) -> str:
    settings = {key: value for key, value in run_key.flat(dataset).items() if key not in without}
    return json.dumps(settings, sort_keys=True, default=str)


def train_in_turns(waiting: Waiting, threads: int, datasets: Datasets, board: Board, stop: Callable[[], bool]) -> None:
    """Train stacks until none is left or `stop()` is true, with `threads` torch threads; 0 leaves that to torch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        while not stop() and (stack := waiting.next()):
            take(stack, datasets, board)
    finally:
        torch.set_num_threads(before)


def take(stack: Sequence[Run], datasets: Datasets, board: Board) -> None:
    """Build and train the runs of one stack; those that resume from different steps train one after another.

    Raises: KeyboardInterrupt after Ctrl-C, once all open records have been ended.
    """
    try:
        _take(stack, datasets, board)
    except KeyboardInterrupt as error:
        for run in stack:
            run.end_early(error, run.state)  # the state of the runs that had not started
        raise


def _take(stack: Sequence[Run], datasets: Datasets, board: Board) -> None:
    at: dict[int, list[Run]] = {}
    for run in stack:
        try:
            run.open()
            run.build(datasets(run.cfg))
            step = run.resume()
        except Exception as error:
            run.end_early(error)
            board.ended(run)
        else:
            at.setdefault(step, []).append(run)
    for steps, together in at.items():
        board.training(len(together))
        board.advance(steps * len(together), 0)
        try:
            train(together, watch=board.advance)
        finally:
            board.training(-len(together))
            for run in together:
                board.ended(run)
                run.release()
