"""`compare`: a comparison of every loss that fits."""

from __future__ import annotations

from lossbench.config.arguments import Arguments
from lossbench.core import ConfigError

SEEDS = 100_000  # of a comparison, all of which are composed before the first one trains
COMPARE = """usage: python -m lossbench compare dataset=DATASET [losses=a,b] [seeds=10] [tune=TRIALS] [key=value …]
       python -m lossbench compare dataset=DATASET [losses=a,b] seeds=auto [most=40] [margin=0.01] [key=value …]

Train these losses, by default all that fit, on the same data with the same seeds; then a table and report.html.
With tune, each loss is searched with so many trials first. With seeds=auto, as many seeds as it takes, at most so
many, until each loss is worse than the best, or equal to it within the margin (in the metric's unit; by default 1 % of
the first loss's mean). Settings and options are those of a run: see --help."""


def compare(arguments: list[str]) -> list[str] | None:
    """`compare dataset=X [losses=a,b] [seeds=10] [tune=20] …`: a multirun over these losses, by default all that fit.

    With `tune`, each of them is searched with so many trials first.
    """
    from lossbench.config import choices

    asked = choices.read(arguments)
    if ("--help", "") in asked.options:
        print(COMPARE)
        return None
    if asked.bare:
        raise ConfigError(_stray_of_compare(asked))
    seeds = asked.value("seeds") or "10"
    auto = seeds == "auto"
    if not auto and asked.value("most") is not None:
        raise ConfigError(f"most={asked.value('most')}: belongs to seeds=auto, which trains as many as it takes")
    if auto and asked.value("tune") is not None:
        raise ConfigError(
            f"tune={asked.value('tune')}: tuned runs have a number of seeds; leave seeds=auto or tune out"
        )
    if not auto and not (seeds.isdigit() and 1 <= int(seeds) <= SEEDS):
        raise ConfigError(
            f"seeds={seeds}: how many paired seeds, at least 1, at most {SEEDS:,}, or auto; certain ones are 'seed=3,5'"
        )
    if asked.value("seed") == "":
        raise ConfigError("seed=: wants numbers with commas between; without it, there are ten")
    for mine, ours in (("losses", "loss"), ("seeds", "seed")):
        if None not in (asked.value(mine), asked.value(ours)):
            raise ConfigError(f"{mine}={asked.value(mine)}: and {ours}={asked.value(ours)}; give one of them")
    rest = asked.without("losses", "seeds", "tune", "loss", "seed", "most")
    losses, more = asked.value("losses") if asked.value("loss") is None else asked.value("loss"), []
    if losses == "":
        raise ConfigError("losses=: wants names with commas between; without it, every loss that fits is trained")
    if losses is None:
        losses = ",".join(_fitting(asked, rest))
        if not any(word.startswith("hydra/launcher=") for word in rest):  # others know no such setting
            more = ["hydra.launcher.leave_out=true"]
    if (tune := asked.value("tune")) is not None:
        if not tune.isdigit() or int(tune) < 1:
            raise ConfigError(f"tune={tune}: how many trials of each loss, at least 1")
        more += ["hydra/sweeper=fair", f"hydra.sweeper.trials={tune}"]
    options = [word for option in asked.options for word in option if word and option[0] != "--multirun"]
    if auto:
        chosen = ["hydra/sweeper=sequential", f"hydra.sweeper.most={asked.value('most') or 40}"]
        return ["-m", *options, *more, *chosen, *rest, f"loss={losses}"]
    seed = f"seed={asked.value('seed') or f'range({seeds})'}"
    return ["-m", *options, *more, *rest, f"loss={losses}", seed]


def _fitting(asked: Arguments, words: list[str]) -> list[str]:
    """Every loss that fits the data, what the data bring first: others are compared with it."""
    from lossbench.config import catalogue, choices
    from lossbench.config.task_types import chosen
    from lossbench.config.task_types import named as named_type

    places = choices.folders(asked)
    study = [word for word in words if word.startswith("experiment=")]
    named = asked.value("dataset")
    wanted = [[f"dataset={name}"] for name in named.split(",")] if named is not None else [[]]
    data = [choices.composed([*study, *words], places) for words in wanted]
    usual = str(data[0].hydra.runtime.choices.loss)
    own = asked.value("task._target_") or asked.value("dataset.task_type")
    task_types = {own or chosen(cfg) for cfg in data}
    fitting = [entry.name for entry in catalogue.losses(places) if all(map(entry.fits, task_types))]
    if not fitting:
        every = " and ".join(sorted(map(named_type, task_types)))
        raise ConfigError(f"dataset={named}: no loss fits {every} problems alike; compare each alone")
    return sorted(fitting, key=lambda name: name != usual)


def _stray_of_compare(asked: Arguments) -> str:
    from lossbench.config import choices

    word = asked.bare[0]
    choice = choices.chosen_by(word.split(",")[0], choices.folders(asked))
    if choice.startswith("loss="):
        return f"compare {word}: say compare losses={word}"
    if choice:
        return f"compare {word}: say compare {choice}"
    return f"compare: {word} is not understood; compare dataset=… losses=a,b seeds=10"
