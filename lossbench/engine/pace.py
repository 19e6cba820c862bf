"""How many CPU threads train: as many as the work is worth, and fewer while other processes use the cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from lossbench.engine import trial
from lossbench.engine.stack import Plan, Replica

SPLIT = 32_768  # elements from which torch splits an operator among threads
LOOK_S, RETURN_S, LONGEST_S = 1.0, 10.0, 600.0  # between two checks: at first, after a change, and at most
SHARE = 0.8  # of the cores' time that threads get when nothing else runs: those without work spin
FEWER, MORE = 0.6, 0.85  # of a step's time, which a change has to get below


def threads(replica: Replica, plan: Plan, most: int) -> int:
    """One thread where no operator of a step is worth splitting, else `most`; independent of other processes.

    Numbers depend on it in the last bits, since sums of parts are rounded differently from a whole sum.
    """
    try:
        return most if most > 1 and trial.largest(replica, plan) >= SPLIT else 1
    except Exception:  # training will report it in full
        return most


@contextmanager
def using(count: int | None) -> Iterator[None]:
    """`count` threads inside, as many as before if it is None; afterwards as many as before, whatever changed them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Pace:
    """Called before each step: where threads wait for their cores, it tries fewer, and later more again.

    All threads wait for the last one: beside one busy process, two take four times as long as one. Trials run on
    copies: as long as the number of threads does not change, training gives the same numbers as without them.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        plan: Plan,
        stop: Callable[[], bool],
        changed: Callable[[int, int], None],
    ) -> None:
        """A call returns what `stop` returns; `changed` is called with the steps done and the new number of threads."""
        self._replicas, self._plan, self._stop, self._changed = replicas, plan, stop, changed
        self._most = torch.get_num_threads()
        self._steps = -1
        self._patience = LOOK_S
        self._start()

    def __call__(self) -> bool:
        self._steps += 1
        if self._most > 1 and time.perf_counter() - self._wall > self._patience:
            self._look(torch.get_num_threads())
            self._start()
        return self._stop()

    def _start(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def _look(self, now: int) -> None:
        busy = (time.process_time() - self._cpu) / (time.perf_counter() - self._wall)
        if now == self._most and busy > SHARE * now:
            self._patience = LOOK_S
            return
        self._patience = min(2 * self._patience, LONGEST_S)
        counts = {max(1, self._most >> k) for k in range(self._most.bit_length())}
        took = {n: trial.mean_s(self._replicas, self._plan, threads=n) for n in sorted(counts | {now})}
        best = min(took, key=took.__getitem__)
        if took[best] < took[now] * (FEWER if best < now else MORE):
            torch.set_num_threads(best)
            self._patience = max(self._patience, RETURN_S)
            self._changed(self._steps, best)
