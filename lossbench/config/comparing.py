"""The words of a comparison, `dataset=… losses=a,b seeds=10 tune=20`, as those of a multirun."""

from __future__ import annotations

from itertools import islice

from lossbench.config import catalogue, choices, own_data
from lossbench.config.arguments import Arguments
from lossbench.config.task_types import chosen
from lossbench.config.task_types import named as named_type
from lossbench.core import ConfigError

OURS = ("lossbench", "ray", "slurm")  # launchers
MOST = 20  # losses that are tried before a comparison is submitted
SEEDS = 100_000  # at most; all runs are composed before the first one trains


def words(parsed: Arguments) -> list[str]:
    """The words of the multirun over these losses and seeds; without losses, over all that fit.

    With `tune`, each loss is first searched with that many trials. Raises: ConfigError for values that cannot work.
    """
    seeds = parsed.value("seeds") or "10"
    auto = seeds == "auto"
    if not auto and parsed.value("most") is not None:
        raise ConfigError(f"most={parsed.value('most')}: needs seeds=auto, which adds seeds up to it")
    if auto and parsed.value("tune") is not None:
        raise ConfigError(f"tune={parsed.value('tune')}: cannot be combined with seeds=auto; leave one of them out")
    if not auto and not (seeds.isdigit() and 1 <= int(seeds) <= SEEDS):
        raise ConfigError(
            f"seeds={seeds}: has to be a number of seeds from 1 to {SEEDS:,}, or auto; for given seeds, 'seed=3,5'"
        )
    if parsed.value("seed") == "":
        raise ConfigError("seed=: has to be numbers separated by commas; without it, there are ten")
    for plural, singular in (("losses", "loss"), ("seeds", "seed")):
        if None not in (parsed.value(plural), parsed.value(singular)):
            raise ConfigError(
                f"{plural}={parsed.value(plural)}: and {singular}={parsed.value(singular)}; give one of them"
            )
    rest = parsed.without("losses", "seeds", "tune", "loss", "seed", "most")
    losses, more = parsed.value("losses") if parsed.value("loss") is None else parsed.value("loss"), []
    if losses == "":
        raise ConfigError("losses=: has to be names separated by commas; without it, every loss that fits is trained")
    if losses is None:
        losses = ",".join(_fitting(parsed, rest))
        launcher = parsed.value("hydra/launcher") or OURS[0]
        if launcher in OURS:  # others have no such setting
            more = ["hydra.launcher.leave_out=true"]
    if (tune := parsed.value("tune")) is not None:
        if not tune.isdigit() or int(tune) < 1:
            raise ConfigError(f"tune={tune}: has to be a number of trials per loss, at least 1")
        more += ["hydra/sweeper=fair", f"hydra.sweeper.trials={tune}"]
    options = [word for option in parsed.options for word in option if word and option[0] != "--multirun"]
    if auto:
        sweeper = ["hydra/sweeper=sequential", f"hydra.sweeper.most={parsed.value('most') or 40}"]
        return ["-m", *options, *more, *sweeper, *rest, f"loss={losses}"]
    seed = f"seed={parsed.value('seed') or f'range({seeds})'}"
    return ["-m", *options, *more, *rest, f"loss={losses}", seed]


def samples(parsed: Arguments) -> list[list[str]]:
    """The words of one run of each loss, with the first value of whatever else is swept."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    losses, fixed = [""], []
    for one in OverridesParser.create().parse_overrides(list(parsed.settings)):
        values = [one.input_line or ""]
        if one.is_sweep_override():
            name = (one.input_line or "").partition("=")[0]
            values = [f"{name}={value}" for value in islice(one.sweep_string_iterator(), MOST)]
        if one.key_or_group in ("loss", "loss._target_") and len(values) > 1:
            losses = values
        else:
            fixed += values[:1]
    return [[*fixed, *filter(None, [loss])] for loss in losses]


def _fitting(parsed: Arguments, words: list[str]) -> list[str]:
    """Every loss that fits the data; the dataset's default loss comes first, as the baseline."""
    folders = choices.folders(parsed)
    study = [word for word in words if word.startswith("experiment=")]
    datasets = parsed.value("dataset")
    settings = [[f"dataset={name}"] for name in datasets.split(",")] if datasets is not None else [[]]
    data = [choices.composed([*study, *words], folders) for words in settings]
    decided = choices.of_data(parsed, folders)
    default = own_data.default_loss(decided) if decided else str(data[0].hydra.runtime.choices.loss)
    given = parsed.value("task._target_") or parsed.value("dataset.task_type") or decided
    task_types = {given or chosen(cfg) for cfg in data}
    fitting = [entry.name for entry in catalogue.losses(folders) if all(map(entry.fits, task_types))]
    if not fitting:
        every = " and ".join(sorted(map(named_type, task_types)))
        raise ConfigError(f"dataset={datasets}: no loss fits {every} problems; compare each dataset alone")
    return sorted(fitting, key=lambda name: name != default)
