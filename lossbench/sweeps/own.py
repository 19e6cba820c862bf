"""Settings of one loss in a sweep over several losses: swept for the losses that have them, left out for the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from lossbench import terminal
from lossbench.config import catalogue, overrides
from lossbench.config.overrides import TARGET, key
from lossbench.core import ConfigError

VALUES = 100_000  # of one setting in a sweep, at most: all are composed before the first run trains


def discrete(asked: Sequence[Override]) -> None:
    """Raises: ConfigError for a sweep that has no values, too many, or an interval instead of values."""
    for one in asked:
        if one.is_sweep_override() and not one.is_discrete_sweep():
            raise ConfigError(
                f"{one.input_line}: a sweep takes single values, as in {one.key_or_group}=1,2; "
                "hydra/sweeper=fair searches an interval"
            )
        values = sum(1 for _ in islice(one.sweep_iterator(), VALUES + 1)) if one.is_sweep_override() else 1
        if not 1 <= values <= VALUES:
            count = f"more than {VALUES:,} values" if values else "no values; seed=range(3) is 0, 1, 2"
            raise ConfigError(f"{one.input_line}: has {count}")


def distribute(loader: ConfigLoader, config: DictConfig, jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The jobs, each once, without the settings that another loss has but theirs does not; prints what is left out.

    A setting that no loss has stays, and is refused later. A loss that brings settings of its own keeps them.
    """
    losses = {_loss(job): job for job in jobs}
    own = dict.fromkeys(word_key for job in jobs for word in job if (word_key := _own(word)))
    if len(losses) < 2 or not own:
        return [list(job) for job in dict.fromkeys(tuple(overrides.expanded(job)) for job in jobs)]
    lacks = {loss: [name for name in own if not _has(loader, config, job, name)] for loss, job in losses.items()}
    for name in own:
        without = [loss for loss in losses if name in lacks[loss]]
        if len(without) == len(losses):
            for loss in losses:
                lacks[loss].remove(name)
        elif without:
            names = ", ".join(loss[-1].partition("=")[2] for loss in without if loss)
            terminal.out().print(f"{name.lstrip('+')}: not of {names}, trained without it")
    distributed = ([word for word in job if _own(word) not in lacks[_loss(job)]] for job in jobs)
    return [list(job) for job in dict.fromkeys(tuple(overrides.expanded(job)) for job in distributed)]


def _loss(job: Sequence[str]) -> tuple[str, ...]:
    """The words that choose a job's loss."""
    return tuple(word for word in job if key(word) in ("loss", f"loss{TARGET}"))


def _own(word: str) -> str:
    """The loss setting that an override sets, with its + if it has one; empty for any other override."""
    name = word.partition("=")[0]
    return name if key(word).startswith("loss.") and not key(word).endswith(TARGET) and not name.startswith("~") else ""


def _has(loader: ConfigLoader, config: DictConfig, job: Sequence[str], name: str) -> bool:
    """Whether a job's loss has a setting: in its file, or where + adds one, in its signature."""
    words = overrides.expanded([word for word in job if not _own(word)])
    composed = loader.load_sweep_config(config, words)
    overrides.replace(composed, words)
    setting = key(name).removeprefix("loss.").partition(".")[0]
    described = catalogue.describe(str(composed.loss.get("_target_")))
    added = name.startswith("+") and (described is None or described.takes_any or setting in described.parameters)
    return setting in composed.loss or added
