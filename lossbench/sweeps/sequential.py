"""Seeds until decided: losses found to be worse than the best, or equal to it, stop early; the others go on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from lossbench import terminal
from lossbench.analysis import answer, looks, records, verdict
from lossbench.analysis.looks import Look
from lossbench.analysis.verdict import Verdict
from lossbench.config import run_key
from lossbench.config.overrides import key
from lossbench.config.schema import Names
from lossbench.core import ConfigError
from lossbench.sweeps import comparison, concluding
from lossbench.sweeps.returns import raise_first

FEWEST = looks.AT[0]
Jobs = Sequence[Sequence[str]]


def checked(most: int, arguments: Sequence[str]) -> int:
    """The largest number of seeds. Raises: ConfigError for fewer than a first look needs, or where seeds are given."""
    if not isinstance(most, int) or most < FEWEST:
        raise ConfigError(f"most={most}: seeds at most, at least {FEWEST}; no test says anything of fewer")
    if own := [word for word in arguments if key(word) == "seed"]:
        raise ConfigError(f"{own[0]}: seeds are counted from 0 until losses are decided; leave it out")
    return most


def sweep(launcher: Any, jobs: Jobs, most: int) -> list[JobReturn]:
    """Train all jobs on more and more seeds while their losses are undecided. Hydra's callback concludes.

    Raises: the error of the first job that failed, once all are done. KeyboardInterrupt after Ctrl-C: the same command
        continues.
    """
    returns: list[JobReturn] = []
    taken: dict[str, list[dict[str, Any]]] = {}
    done, going = 0, [tuple(job) for job in jobs]
    for seeds in [n for n in looks.AT if n < most] + [most]:
        launcher.last = seeds == most  # read by lossbench's launcher; others conclude nothing
        new = [[*job, f"seed={seed}"] for job in going for seed in range(done, seeds)]
        found = list(launcher.launch(new, initial_job_idx=len(returns)))
        returns, done = returns + found, seeds
        keys = _keys(found)
        going = [job for job in going if job in keys]  # without losses that cannot train on these data
        try:
            undecided = _look(keys, seeds, most, taken)
        except KeyboardInterrupt:
            concluding.conclude("KILLED")
            raise
        going = [job for job in going if job in undecided]
        if not going:
            break
    launcher.last = True
    failed = [returned for returned in returns if returned.status is JobStatus.FAILED]
    if failed and comparison.RUNNING in os.environ:
        concluding.conclude("FAILED")
    raise_first(failed)
    return returns


def _keys(returns: Sequence[JobReturn]) -> dict[tuple[str, ...], str]:
    """The key under which a job's runs are recorded, by the job's overrides without its seed."""
    return {
        tuple(word for word in returned.overrides or [] if key(word) != "seed"): run_key.key(
            returned.cfg, Names.of(returned.hydra_cfg.hydra).loss
        )
        for returned in returns
        if returned.cfg is not None and returned.hydra_cfg is not None
    }


def _look(
    keys: dict[tuple[str, ...], str], seeds: int, most: int, taken: dict[str, list[dict[str, Any]]]
) -> set[tuple[str, ...]]:
    """The jobs whose losses are undecided after `seeds` seeds; the look is added to `taken` and recorded."""
    store, name = comparison.current()
    if not store.settled():
        concluding.conclude("KILLED")  # reports that the store is away
    found = _until(records.read(store.client, name), seeds)
    undecided: set[tuple[str, ...]] = set()
    by_key = {recorded: job for job, recorded in keys.items()}
    for dataset, part in found.by_dataset():
        before = taken.get(dataset, [])
        if before and not before[-1]["going"]:  # decided earlier
            continue
        judged, level = _judged(part, seeds, most, before)
        left = _undecided(judged, before[-1]["going"] if before else list(judged.chosen))
        going = [loss for loss in judged.chosen if loss in left]
        taken.setdefault(dataset, []).append({"seeds": seeds, "level": level, "going": going})
        runs = part.runs.assign(contender=_contenders(part.runs, judged))
        mine = runs[runs["contender"].isin(left) & runs["key"].isin(by_key)]
        undecided |= {by_key[recorded] for recorded in mine["key"]}
        state = f"{answer.listed(going)} go on" if going and seeds < most else answer.leaders(judged)
        terminal.out().print(f"{dataset}, {seeds} seeds: {state}")
    comparison.note({"lossbench.looks": json.dumps(taken)})
    return undecided


def _until(found: records.Records, seeds: int) -> records.Records:
    """The runs of the first seeds; a resumed comparison may hold more."""
    return found.only(found.runs[[seed.isdigit() and int(seed) < seeds for seed in found.runs["seed"]]])


def _judged(part: records.Records, seeds: int, most: int, taken: Sequence[dict[str, Any]]) -> tuple[Verdict, float]:
    """The verdict at this look, and the significance level that the look may spend."""
    planned = looks.looks(most, verdict.judge(part).population)
    level = next(look.level for look in planned if look.seeds == seeds)
    looked = [*(Look(one["seeds"], one["level"]) for one in taken), Look(seeds, level)]
    return verdict.judge(part, looked=looked), level


def _undecided(judged: Verdict, going: Sequence[str]) -> set[str]:
    """The losses that go on: of those still going, the best and all that are not decided against it.

    A loss that failed on every seed counts as decided.
    """
    alive = [loss for loss in going if judged.values[loss].notna().any()]
    if not judged.best or len(alive) < 2:
        return set()
    best = judged.best[0]
    left = looks.open_pairs(judged.differences, best, alive, higher_is_better=judged.higher_is_better)
    return {best, *left} if left else set()


def _contenders(runs: Any, judged: Verdict) -> list[str]:
    """The contender of each run: its loss at whatever setting, or with a single loss, its setting."""
    column = "label" if set(judged.chosen) <= set(runs["label"]) and runs["loss"].nunique() == 1 else "loss"
    return list(runs[column])
