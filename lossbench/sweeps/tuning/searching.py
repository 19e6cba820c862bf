"""Trials, batch after batch: launched, read back from their records, and reported to their studies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Any

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from mlflow.entities import Run as Record
from omegaconf import DictConfig

from lossbench import terminal
from lossbench.config.words import word
from lossbench.runs.earlier import PAUSED
from lossbench.runs.identity import TRIAL
from lossbench.runs.run import Run
from lossbench.runs.signals import Stop
from lossbench.sweeps import comparison, jobs
from lossbench.sweeps.tuning import halving
from lossbench.sweeps.tuning.budget import Budget
from lossbench.sweeps.tuning.searches import Search
from lossbench.sweeps.tuning.study import SCORED, Trial

Trials = list[tuple[Search, Trial]]


class Searching:
    """Spends a budget on each of several searches, with any launcher."""

    def __init__(
        self,
        launcher: Any,
        context: HydraContext,
        config: DictConfig,
        budget: Budget,
        eta: int | None,
        board: terminal.Board,
    ) -> None:
        self._launcher, self._context, self._config = launcher, context, config
        self._budget, self._eta, self._board = budget, eta, board
        self._launched, self._counting = 0, Lock()
        self._lost: dict[str, list[Trial]] = {}  # ended by the machine; the same command tries them again

    def spend(self, searches: Sequence[Search]) -> None:
        """Run all searches together, so that their trials stack; with a budget of seconds, one after another."""
        if self._budget.trials is not None:  # so that the remaining time is right from the start
            for search in searches:
                left = max(0, self._budget.trials - len(search.study.trials))
                self._board.expect(left * len(search.seeds), left * search.steps)
        if self._budget.unit == "seconds":
            for search in searches:
                self._search([search])
        elif getattr(self._launcher, "concurrent", False):  # no search waits for the batch of another
            with Stop(), ThreadPoolExecutor(len(searches)) as beside:
                for ended in [beside.submit(self._search, [search]) for search in searches]:
                    ended.result()
        else:
            self._search(searches)
        for search in searches:
            terminal.out().print(_summary(search, self._budget.trials))

    def _search(self, searches: Sequence[Search]) -> None:
        """Train batch after batch until the budget is spent."""
        while batch := [(search, trial) for search in searches for trial in self._asked(search)]:
            self._train(batch)

    def launch(self, jobs: Sequence[Sequence[str]], steps: int) -> list[JobReturn]:
        """Launch the next jobs of the comparison, `steps` steps in total."""
        with self._counting:
            first, self._launched = self._launched, self._launched + len(jobs)
        returns = list(self._launcher.launch(jobs, first))
        if not hasattr(self._launcher, "search"):  # other launchers report nothing while they train
            self._board.advance(steps)
            self._board.count("ended", len(jobs))
        return returns

    def _asked(self, search: Search) -> list[Trial]:
        lost = self._lost.get(search.study.name, [])
        upto = self._budget.upto([*search.study.trials, *lost], search.steps, len(search.seeds))
        again = {trial.number for trial in lost}
        asked = [trial for trial in search.study.ask(upto) if trial.number not in again]
        if self._budget.trials is None:
            self._board.expect(len(asked) * len(search.seeds), len(asked) * search.steps)
        return asked

    def _train(self, batch: Trials) -> None:
        """Train a batch to its end, or as far as halving and the budget allow."""
        train = batch[0][0].cfg.train
        rest = [one for one in batch if self._left(one[0]) < one[0].steps]  # too little budget left for pauses
        batch = [one for one in batch if self._left(one[0]) >= one[0].steps]
        began = Counter(search.study.name for search, _ in batch)
        finished: Trials = []
        for rung, until in enumerate(halving.rungs(train, self._eta, max(began.values(), default=1))):
            ran = self._run(batch, until)
            finished += [one for one in ran if one[1].outcome == "finished"]
            batch = self._goes_on(ran, finished, began, rung)
        for end, some in self._paid([*batch, *rest]).items():
            ran = self._run(some, end)
            self._end([one for one in ran if one[1].outcome == PAUSED], "cut")
            self._tell([one for one in ran if one[1].outcome != PAUSED])

    def _goes_on(self, ran: Trials, finished: Trials, began: Mapping[str, int], rung: int) -> Trials:
        """The trials that paused and are among the best; the outcomes of all others are passed to their studies.

        `finished` are those of the batch that stopped early, at this rung or before.
        """
        self._tell([one for one in ran if one[1].outcome != PAUSED])
        alive: Trials = []
        for name, count in began.items():
            paused = [one for one in ran if one[0].study.name == name and one[1].outcome == PAUSED]
            ended = [one for one in finished if one[0].study.name == name]
            best = halving.survivors(paused, count, self._eta or 1, rung, ended)
            going = {trial.number for _, trial in best}
            self._end([one for one in paused if one[1].number not in going], "pruned")
            alive += best
        # counted again when they go on, those of runs that have ended too
        self._board.advance(-sum(trial.steps + trial.spared for _, trial in alive))
        return alive

    def _left(self, search: Search) -> float:
        """The steps that the budget of a search still pays for."""
        return self._budget.left(search.study.trials) if self._budget.unit == "steps" else math.inf

    def _paid(self, batch: Trials) -> dict[int | None, Trials]:
        """The trials by the step at which they end: None for the last step, or where the budget runs out before."""
        found: dict[int | None, Trials] = {}
        left: dict[str, float] = {}
        for search, trial in batch:
            pays = left.setdefault(search.study.name, self._left(search))
            end = None if pays >= search.steps else int(pays // len(search.seeds))
            found.setdefault(end, []).append((search, trial))
            left[search.study.name] -= search.steps
        return {until: some for until, some in found.items() if until is None or until > 0}

    def _run(self, batch: Trials, until: int | None) -> Trials:
        """Train these trials until a step, or to the end, on every split, and read their results from the records."""
        if not batch:
            return []
        steps = sum(until * len(search.seeds) if until else search.steps for search, _ in batch)
        self.launch([words for search, trial in batch for words in _jobs(search, trial, until)], steps)
        store = comparison.open_store(batch[0][0].cfg)
        records: dict[str, list[Record]] = {}
        for search, _ in batch:
            name = search.study.name
            if name not in records:
                records[name] = store.find({"lossbench.kind": TRIAL, "lossbench.study": name})
        return [(search, _result(search, trial, records[search.study.name])) for search, trial in batch]

    def _end(self, paused: Trials, outcome: str) -> None:
        """End paused trials for good, with this outcome."""
        for search, trial in paused:
            store = comparison.open_store(search.cfg)
            for record in _records(trial, store.find({"lossbench.study": search.study.name})):
                if record.data.tags.get("lossbench.outcome") == PAUSED:
                    store.client.set_tag(record.info.run_id, "lossbench.outcome", outcome)
                    store.client.set_terminated(record.info.run_id, "FINISHED")
            for words in _jobs(search, trial, None):
                job = jobs.composed(self._context, self._config, words, 0)
                Run(job.cfg, job.names).identity.checkpoint_path.unlink(missing_ok=True)
            self._board.advance(search.steps - trial.steps - trial.spared)
            self._board.count(outcome, len(search.seeds))
        self._tell([(search, replace(trial, outcome=outcome)) for search, trial in paused])

    def _tell(self, ended: Trials) -> None:
        for search, trial in ended:
            if trial.outcome == "error":
                self._lost.setdefault(search.study.name, []).append(trial)
            else:
                search.study.tell(trial)


def _jobs(search: Search, trial: Trial, until: int | None) -> list[list[str]]:
    """The overrides of a trial's runs, one a data split."""
    overrides = [
        *search.overrides("search"),
        f"tuning.arm={TRIAL}",
        f"tuning.study={search.study.name}",
        f"tuning.trial={trial.number}",
    ]
    overrides += [f"tuning.until={until}"] if until else []
    return [[*overrides, *words(trial.settings), f"seed={seed}"] for seed in search.seeds]


def words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as overrides of a command line."""
    return [f"{name}={word(value)}" for name, value in settings.items()]


def _result(search: Search, trial: Trial, records: Sequence[Record]) -> Trial:
    """A trial with its outcome and cost, over all its splits; one that failed on any of them has no score.

    One that stopped early on some of them and paused on others has paused.
    """
    own = _records(trial, records)
    outcomes = [record.data.tags.get("lossbench.outcome", "error") for record in own]
    outcomes += ["error"] * (len(search.seeds) - len(own))  # runs that the store has no record of
    bad = [outcome for outcome in outcomes if outcome not in (*SCORED, PAUSED)]
    unfinished = [outcome for outcome in (PAUSED, "pruned", "cut") if outcome in outcomes]
    spared = [
        search.cfg.train.steps - int(record.data.tags.get("lossbench.steps", 0))
        for record in own
        if record.data.tags.get("lossbench.outcome") == "finished"
    ]
    scores = [float(record.data.tags.get("lossbench.objective", "nan")) for record in own]
    return replace(
        trial,
        outcome=(bad or unfinished or outcomes)[0],
        score=math.nan if bad else sum(scores) / len(scores),
        steps=sum(int(record.data.tags.get("lossbench.steps", 0)) for record in own),
        seconds=sum(record.data.metrics.get("time/train_s", 0.0) for record in own),
        spared=sum(spared),
    )


def _records(trial: Trial, records: Sequence[Record]) -> list[Record]:
    """A trial's runs, the newest of each split."""
    own = [record for record in records if record.data.tags.get("lossbench.trial") == str(trial.number)]
    newest = {record.data.tags["seed"]: record for record in sorted(own, key=lambda record: record.info.start_time)}
    return list(newest.values())


def _summary(search: Search, trials: int | None) -> str:
    """The result of a search in one line."""
    known = search.study.trials
    steps = sum(trial.steps for trial in known)
    outcomes = Counter(trial.outcome for trial in known if trial.outcome != "finished")
    ended = "".join(f", {count} {outcome}" for outcome, count in outcomes.items())
    best = search.study.best(trials)
    name = f"{search.primary.name} {search.primary.arrow}"
    found = (
        f"best validation {name} {best.score:.4f} at {' '.join(words(best.settings))}" if best else "none has a score"
    )
    return f"{search.label}: {len(known)} trials{ended}, {steps:,} steps; {found}"
