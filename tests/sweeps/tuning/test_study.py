"""Studies: what was told stays told, the rest is handed out again, and a search that was stopped goes on as if not."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from random import Random

import optuna
import pytest

from lossbench import tracking
from lossbench.core import ConfigError
from lossbench.sweeps.tuning import draws
from lossbench.sweeps.tuning.space import choices, interval
from lossbench.sweeps.tuning.study import SCORED, Study, Trial, open_storage

SPACE = {
    "loss.kind": choices("loss.kind", ["a", "b"]),
    "optimizer.lr": interval("optimizer.lr", 1e-4, 1e-1),
    "optimizer.weight_decay": interval("optimizer.weight_decay", 0, 1),
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty storage; a copy of it saves each test the second that making one takes."""
    path = tmp_path_factory.mktemp("storage") / "tuning.db"
    open_storage(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def url(empty, tmp_path):
    shutil.copy(empty, tmp_path / "tuning.db")
    return f"sqlite:///{tmp_path}/tuning.db"


def opened(storage=None, *, name="huber-0", higher_is_better=False, learns_after=None, seed=0, space=SPACE):
    return Study(
        storage or optuna.storages.InMemoryStorage(),
        name,
        space,
        draws.random(space, seed),
        higher_is_better=higher_is_better,
        learns_after=learns_after,
        seed=seed,
    )


def score(settings):
    """Best at a learning rate of 0.01, no decay and kind a."""
    rate, decay = settings["optimizer.lr"], settings["optimizer.weight_decay"]
    return (math.log10(rate) + 2) ** 2 + decay + (settings["loss.kind"] == "b")


def trained(trial):
    if trial.number % 7 == 3:
        return Trial(trial.number, trial.settings, "diverged", steps=3, seconds=0.5)
    outcome = "pruned" if trial.number % 7 == 5 else "finished"
    return Trial(trial.number, trial.settings, outcome, score(trial.settings), 100, 2.5)


def told(scores, higher_is_better=False, outcomes=()):
    study = opened(higher_is_better=higher_is_better)
    for trial, value in zip(study.ask(len(scores)), scores, strict=True):
        outcome = dict(enumerate(outcomes)).get(trial.number, "finished")
        study.tell(Trial(trial.number, trial.settings, outcome, value, 10, 1.0))
    return study


def test_trials_are_numbered_as_they_are_drawn():
    study, draw = opened(), draws.random(SPACE, 0)
    assert study.ask(5) == [Trial(number, draw(number)) for number in range(5)]
    assert study.trials == []


def test_what_was_told_survives(url):
    study = opened(open_storage(url))
    ended = [trained(trial) for trial in study.ask(8)]
    for trial in ended:
        study.tell(trial)
    again = opened(open_storage(url)).trials
    assert len(again) == 8
    for now, before in zip(again, ended, strict=True):
        assert (now.number, now.settings, now.outcome) == (before.number, before.settings, before.outcome)
        assert (now.steps, now.seconds) == (before.steps, before.seconds)
        assert now.score == before.score or (math.isnan(now.score) and math.isnan(before.score))
        assert now.scored == (now.outcome in SCORED)


@pytest.mark.parametrize("learns_after", [None, 3])
def test_what_was_not_told_is_handed_out_again(learns_after, url):
    study = opened(open_storage(url), learns_after=learns_after)
    for trial in study.ask(5):
        study.tell(trained(trial))
    asked = study.ask(10)
    for trial in asked[1::2]:
        study.tell(trained(trial))
    again = opened(open_storage(url), learns_after=learns_after)
    assert again.ask(10) == asked[0::2]
    assert len(again.ask(12)) == len(asked[0::2]) + 2
    assert [trial.number for trial in again.trials] == [0, 1, 2, 3, 4, 6, 8]


def test_nothing_is_asked_beyond_what_there_may_be():
    study = opened()
    study.ask(5)
    assert [trial.number for trial in study.ask(3)] == [0, 1, 2]
    for trial in study.ask(5):
        study.tell(trained(trial))
    assert study.ask(5) == study.ask(2) == []
    assert [trial.number for trial in study.ask(7)] == [5, 6]


def test_studies_of_one_storage_keep_apart():
    storage = optuna.storages.InMemoryStorage()
    one, other = opened(storage), opened(storage, name="mse-0")
    for trial in one.ask(3):
        one.tell(trained(trial))
    assert (len(one.trials), other.trials) == (3, [])
    assert [trial.number for trial in other.ask(2)] == [0, 1]


def test_more_trials_go_on_where_fewer_ended():
    once, twice = opened(), opened()
    assert twice.ask(4) + [trial for trial in twice.ask(9) if trial.number > 3] == once.ask(9)


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_is_the_best_by_its_direction(higher):
    study = told([3.0, 1.0, 2.0, 5.0, 4.0], higher_is_better=higher)
    assert study.best().number == (3 if higher else 1)
    assert study.best(trials=3).number == (0 if higher else 1)
    assert study.best(trials=1).number == 0


@pytest.mark.parametrize("higher", [True, False])
def test_of_equals_the_first_is_best(higher):
    assert told([1.0] * 6, higher_is_better=higher).best().number == 0
    assert told([2.0, 1.0, 1.0, 2.0], higher_is_better=higher).best().number == (0 if higher else 1)


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("outcome", ["diverged", "failed", "collapsed"])
def test_what_failed_is_never_best(outcome, higher):
    """Not even with a score that is better than any."""
    sign = 1 if higher else -1
    study = told([sign * 1e9, 1.0, math.nan, sign * 2.0], higher, [outcome, "finished", outcome])
    assert study.best().number == 3
    assert [trial.scored for trial in study.trials] == [False, True, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_never_best(value):
    study = told([value, 1.0])
    assert study.best().number == 1
    assert told([value, value]).best() is None


def test_the_best_is_told_as_it_was_trained():
    """With what it was asked for, to the last digit: the final runs are to be of the trial that won."""
    study, asked = opened(learns_after=4), []
    for upto in (4, 8, 12):
        batch = study.ask(upto)
        asked += batch
        for trial in batch:
            study.tell(Trial(trial.number, trial.settings, "finished", score(trial.settings), 1, 1.0))
    assert [trial.settings for trial in study.trials] == [trial.settings for trial in asked]
    best = min(asked, key=lambda trial: score(trial.settings))
    assert study.best().settings == best.settings


def searched(study, upto=25, batch=5, order=None):
    """A search of so many trials, five together; what each was asked for."""
    for end in range(batch, upto + 1, batch):
        asked = study.ask(end)
        for trial in Random(order).sample(asked, len(asked)) if order else asked:
            study.tell(trained(trial))
    return [dict(trial.settings) for trial in study.trials]


@pytest.fixture(scope="module")
def in_one_go():
    return searched(opened(learns_after=10))


def test_the_same_seed_asks_the_same(in_one_go):
    assert searched(opened(learns_after=10)) == in_one_go
    assert searched(opened(learns_after=10, seed=1)) != in_one_go
    assert in_one_go[:10] == searched(opened(), upto=10)
    assert len({str(one) for one in in_one_go}) == 25


def test_in_which_order_a_batch_ends_changes_nothing(in_one_go):
    assert searched(opened(learns_after=10), order=4) == in_one_go


@pytest.mark.parametrize("asked", [2, 10, 13, 17])
def test_a_search_that_was_stopped_while_it_asked_goes_on(asked, in_one_go):
    storage = optuna.storages.InMemoryStorage()
    searched(opened(storage, learns_after=10), upto=asked // 5 * 5)
    opened(storage, learns_after=10).ask(asked)
    assert searched(opened(storage, learns_after=10)) == in_one_go


@pytest.mark.parametrize(("begun", "ended"), [(5, 3), (15, 0), (15, 1), (20, 4), (25, 2)])
def test_a_search_that_was_stopped_while_it_trained_goes_on(begun, ended, in_one_go):
    storage = optuna.storages.InMemoryStorage()
    searched(opened(storage, learns_after=10), upto=begun - 5)
    study = opened(storage, learns_after=10)
    for trial in study.ask(begun)[5 - ended :]:
        study.tell(trained(trial))
    assert searched(opened(storage, learns_after=10)) == in_one_go


def test_a_search_that_was_stopped_inside_optuna_goes_on(in_one_go, monkeypatch):
    """Ctrl-C while TPE thinks about the third trial of a batch: none is left without settings."""
    storage, calls = optuna.storages.InMemoryStorage(), []
    searched(opened(storage, learns_after=10), upto=15)
    think = optuna.samplers.TPESampler.sample_relative

    def stopped(self, *arguments):
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return think(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.samplers.TPESampler, "sample_relative", stopped)
        with pytest.raises(KeyboardInterrupt):
            opened(storage, learns_after=10).ask(20)
    assert all(trial.settings.keys() == SPACE.keys() for trial in opened(storage, learns_after=10).ask(20))
    assert searched(opened(storage, learns_after=10)) == in_one_go


def test_a_search_that_was_stopped_between_cost_and_score_goes_on():
    """What a trial cost is noted before its score; a kill between the two leaves it to be trained and told again."""
    storage = optuna.storages.InMemoryStorage()
    study = opened(storage)
    (trial,) = study.ask(1)
    number = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study.name), 0)
    storage.set_trial_user_attr(number, "spent", {"outcome": "finished", "steps": 9, "seconds": 9.0, "score": 9.0})
    again = opened(storage)
    assert again.trials == []
    assert again.ask(1) == [trial]
    again.tell(Trial(0, trial.settings, "finished", 1.0, 5, 1.0))
    assert again.trials == [Trial(0, trial.settings, "finished", 1.0, 5, 1.0)]


def test_what_learns_comes_closer_than_what_draws():
    """Over three seeds, the later half of the trials is better by far than independent draws, as their median says."""
    learned, drawn = [], []
    for seed in range(3):
        for found, learns_after in ((learned, 10), (drawn, None)):
            study = opened(learns_after=learns_after, seed=seed)
            for end in range(5, 41, 5):
                for trial in study.ask(end):
                    study.tell(Trial(trial.number, trial.settings, "finished", score(trial.settings), 1, 1.0))
            found += [trial.score for trial in study.trials[20:]]
    assert sorted(learned)[len(learned) // 2] < 0.6 * sorted(drawn)[len(drawn) // 2]


def test_trials_stay_in_their_ranges():
    study = opened(learns_after=5)
    for settings in searched(study, upto=40):
        assert settings["loss.kind"] in ("a", "b")
        for name in ("optimizer.lr", "optimizer.weight_decay"):
            assert SPACE[name].low <= settings[name] <= SPACE[name].high


OTHER = """
import sys, time
sys.path.insert(0, {here!r})
from test_study import opened
from lossbench.sweeps.tuning.study import open_storage
study = opened(open_storage({url!r}))
print([dict(trial.settings) for trial in study.ask(3)], flush=True)
time.sleep({stays})
"""


@contextmanager
def another(url, stays=60):
    """A live process that searches in this storage, three trials begun, and what they were asked for."""
    code = OTHER.format(here=os.path.dirname(__file__), url=url, stays=stays)  # noqa: PTH120
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        yield process, eval(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_a_live_process_is_left_alone_and_the_trials_of_a_dead_one_are_taken_over(url):
    storage = open_storage(url)
    with another(url) as (process, asked):
        with pytest.raises(ConfigError, match=rf"huber-0: process {process.pid} is searching here"):
            opened(storage)
        opened(storage, name="mse-0").ask(2)  # a study of its own beside it
        process.kill()
        process.wait()
        study = opened(storage)
        assert [dict(trial.settings) for trial in study.ask(3)] == asked
    for trial in study.ask(3):
        study.tell(trained(trial))
    assert len(opened(open_storage(url)).trials) == 3


def test_a_process_that_has_told_all_is_no_company(url):
    study = opened(open_storage(url))
    for trial in study.ask(3):
        study.tell(trained(trial))
    with another(url) as (_, asked):
        assert asked == []
        assert len(opened(open_storage(url)).trials) == 3


def test_whoever_comes_second_is_refused_though_both_opened_it_before(url):
    """Two calls of one command at the same time: each opens the study, and then loads its data."""
    study = opened(open_storage(url))
    with another(url), pytest.raises(ConfigError, match="is searching here"):
        study.ask(3)


@pytest.mark.parametrize("told", ["nonsense", "mysql://a/b", "tuning.db", "sqlite://", "http://127.0.0.1:9"])
def test_a_storage_of_nonsense(told):
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.storage="):
        open_storage(told)


def test_the_database_of_mlflow_is_refused_and_stays_as_it_is(migrated, tmp_path):
    path = tmp_path / "mlflow.db"
    shutil.copy(migrated, path)

    def schema():
        with closing(sqlite3.connect(path)) as connection:
            return sorted(connection.execute("SELECT name, sql FROM sqlite_master").fetchall(), key=str)

    before = schema()
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.storage=.*another program"):
        open_storage(f"sqlite:///{path}")
    assert schema() == before
    tracking.Store(f"sqlite:///{path}").find({})


def test_a_password_is_not_said():
    with pytest.raises(ConfigError) as refused:
        open_storage("postgresql://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(refused.value)
    assert "tracking.uri" not in str(refused.value)
