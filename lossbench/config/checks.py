"""Checks of a configuration, made before anything is imported or recorded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lossbench.config import catalogue, overrides
from lossbench.config.redaction import redacted
from lossbench.config.schema import Config, Names, Tracking, Train, Tuning
from lossbench.config.task_types import AUTO, TASK_TYPES, TASKS, chosen, fits, load, named, of_data
from lossbench.core import ConfigError, is_given, require
from lossbench.core.failures import one_line

OF_ANY_TASK = {"primary", "metrics"}
"""Settings of a task whatever its class: see `tasks.choosing`."""

MOST = 10**12  # steps: more than any machine ever takes

ARTIFACTS = ("none", "weights", "all")
"""What a run may leave as files."""

THREADS = 256  # far more than one step can use; the system's own limit lies above
EXPERIMENT = 200  # bytes of its name: the 255 of a file's name, less what a comparison adds


def check_job(cfg: DictConfig, hydra: Any) -> Names:
    """Check a configuration that Hydra composed, after removing the settings of replaced targets; the run's names."""
    overrides.replace(cfg, hydra.overrides.task)
    varied = "seed" in cfg.dataset.keys() and OmegaConf.is_interpolation(cfg.dataset, "seed")  # noqa: SIM118 resolves
    names = replace(Names.of(hydra), same_data=not varied)
    if cfg.dataset.get("task_type") == AUTO:
        cfg.dataset.task_type = of_data(cfg.dataset)  # of the data, also for a task of the user's own
    if cfg.dataset.get("name"):
        names = replace(names, dataset=str(cfg.dataset.name))
    _length(cfg, list(hydra.overrides.task))
    check(cfg, names)
    return names


def check(cfg: DictConfig, names: Names) -> None:
    """Reject what cannot train, before anything is recorded or any of our own losses, models and datasets is imported.

    Raises: ConfigError that names the setting, its value, and what would work.
    """
    for group, schema in (("", Config), ("train", Train), ("tracking", Tracking), ("tuning", Tuning)):
        _fields(group, cfg[group] if group else cfg, schema)
    _experiment(cfg.experiment_name)
    train = cfg.train
    _choice("train.schedule", train.schedule, ("constant", "cosine"))
    _choice("train.precision", train.precision, ("float32", "bfloat16"))
    if train.compile is not None:
        _choice("train.compile", train.compile, ("default", "reduce-overhead", "max-autotune"))
    _artifacts(cfg.tracking)
    _choice("device", cfg.device.partition(":")[0], ("auto", "cpu", "cuda"))
    _numbers(cfg)
    task_type = chosen(cfg)
    if not cfg.task.get("_target_"):
        _choice("dataset.task_type", task_type, TASK_TYPES)
    _keys("dataset", cfg.dataset, {"task_type"})
    _task(task_type, cfg.task)
    _keys("model", cfg.model, {"prior"})
    _sizes(cfg.model)
    _keys("loss", cfg.loss, set())
    described = catalogue.describe(cfg.loss._target_)
    task_types = described.card.task_types if described and described.card else None
    if task_types is not None and not fits(task_types, task_type):
        fitting = [entry.name for entry in catalogue.losses(names.folders) if entry.fits(task_type)]
        raise ConfigError(
            f"loss={names.loss}: fits {' and '.join(task_types)} problems, "
            f"and dataset={names.dataset} is {named(task_type)}\n"
            f"losses that fit: {', '.join(fitting) or 'none of the catalogue; loss._target_=my_module.my_loss works'}"
        )


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Check plain settings that differ in numbers from some that `check` has passed. Raises: ConfigError."""
    _numbers(settings)
    _sizes(settings["model"])


def _numbers(cfg: Mapping[str, Any]) -> None:
    train, optimizer, model = cfg["train"], cfg["optimizer"], cfg["model"]
    require("seed", cfg["seed"], lambda v: v >= 0, "0 or above")
    for key in ("steps", "batch_size"):
        require(f"train.{key}", train[key], lambda v: 1 <= v <= MOST, f"at least 1, and at most {MOST:,}")
    if train["epochs"] is not None:
        require("train.epochs", train["epochs"], lambda v: 0 < v <= MOST, f"above 0, and at most {MOST:,}, or null")
    for key in ("eval_every", "record_every", "patience"):
        if train[key] is not None:
            require(f"train.{key}", train[key], lambda v: v >= 1, "at least 1, or null")
    if train["per_class"] is not None:
        require("train.per_class", train["per_class"], lambda v: v >= 2, "at least 2, or null")
        if train["batch_size"] % train["per_class"]:
            raise ConfigError(
                f"train.batch_size={train['batch_size']}: not a multiple of train.per_class={train['per_class']}"
            )
    if cfg["margin"] is not None:
        require("margin", cfg["margin"], lambda v: v >= 0, "0 or above, in the metric's unit, or null")
    require("train.checkpoint_s", train["checkpoint_s"], lambda v: v > 0, "above 0, such as 10")
    if train["threads"] is not None:
        require("train.threads", train["threads"], lambda v: 1 <= v <= THREADS, f"1 to {THREADS}, or null")
    if train["clip_norm"] is not None:
        require("train.clip_norm", train["clip_norm"], lambda v: v > 0, "above 0, or null")
    if "lr" in optimizer:
        require("optimizer.lr", optimizer["lr"], lambda v: v > 0, "above 0")
    for key in ("weight_decay", "momentum"):
        if key in optimizer:
            require(f"optimizer.{key}", optimizer[key], lambda v: v >= 0, "0 or above")
    if model.get("prior") not in (None, "auto"):
        require("model.prior", model["prior"], lambda v: 0 < v < 1, "between 0 and 1, auto or null")


def metrics_of(setting: Any) -> list[str]:
    """The dotted paths of task.metrics, which may be a list, a single path or null."""
    return [setting] if isinstance(setting, str) else list(setting or [])


def _length(cfg: DictConfig, overrides: list[str]) -> None:
    """Steps or epochs on the command line win over the other one in a file."""
    asked = {word.lstrip("+").partition("=")[0]: word for word in overrides}
    if "train.steps" not in asked:
        return
    if "train.epochs" in asked and cfg.train.epochs is not None:
        raise ConfigError(f"{asked['train.epochs']}: {asked['train.steps']} is set too; set only one of them")
    cfg.train.epochs = None


def _fields(group: str, settings: DictConfig, schema: type) -> None:
    """Reject what `+` added to a group whose settings are fixed."""
    known = {field.name for field in fields(schema)} | {"hydra"}
    unknown = sorted(set(map(str, settings)) - known)
    if unknown:
        raise ConfigError(
            f"{group}.{unknown[0]}".lstrip(".") + f": no such setting; there are {', '.join(sorted(known - {'hydra'}))}"
        )


def _experiment(name: str) -> None:
    """Reject names that do not work for an experiment in the store and for a folder of artifacts beside it."""
    fits = bool(name.strip()) and len(name.encode(errors="replace")) <= EXPERIMENT
    if not fits or not name.isprintable() or name == "." or ".." in name:
        short = name if len(name) <= 40 else f"{name[:40]}…"
        raise ConfigError(
            f"experiment_name={short}: must be a printable name of 1 to {EXPERIMENT} bytes without '..', "
            "such as mnist-3"
        )


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value}: unknown; choose {', '.join(choices)}")


def _artifacts(tracking: DictConfig) -> None:
    """Reject a place, which the setting was before, and a model that is to be stored where no weights are."""
    asked = tracking.artifacts
    if asked is not None and asked not in ARTIFACTS:
        place = redacted(asked)
        raise ConfigError(
            f"tracking.artifacts={place}: choose {', '.join(ARTIFACTS)} or null; a place for files is "
            f"tracking.location={place}"
        )
    if asked == "none" and tracking.model:
        raise ConfigError("tracking.artifacts=none: leaves no model; tracking.model=true needs weights, all or null")


def _task(task_type: str, settings: DictConfig) -> None:
    """Reject settings that the task does not have."""
    if task_type in TASKS:
        _keys("task", OmegaConf.create({**settings, "_target_": TASKS[task_type]}), OF_ANY_TASK)
        return
    known = set(inspect.signature(load(task_type)).parameters) - {"loss", "info", "features"} | OF_ANY_TASK
    for name in sorted(set(map(str, settings)) - {"_target_"} - known):
        near = get_close_matches(name, sorted(known), n=1)
        raise ConfigError(f"task.{name}: unknown; {task_type} takes {near[0] if near else ', '.join(sorted(known))}")


SHARES = ("prior", "dropout")  # settings of our models that are no sizes


def _sizes(model: Mapping[str, Any]) -> None:
    """Reject sizes of our own models that are not whole numbers from 1."""
    if not str(model.get("_target_")).startswith("lossbench.models."):
        return
    settings: Any = OmegaConf.to_container(model) if isinstance(model, DictConfig) else model
    for key, value in settings.items():
        counts = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int | float)]
        if key not in SHARES and not all(one >= 1 and one % 1 == 0 for one in counts):
            raise ConfigError(f"model.{key}={value}: whole numbers, at least 1")


def _keys(group: str, settings: DictConfig, ours: set[str]) -> None:
    """Reject a target that cannot be imported, and keys that its signature does not take."""
    target = str(settings.get("_target_", ""))
    module = target.rpartition(".")[0]
    somewhere = is_given(target) or any(map(catalogue.find, filter(None, (module, module.rpartition(".")[0]))))
    if not somewhere:
        raise ConfigError(f"{group}._target_={target}: no such module; use the dotted path of something importable")
    try:
        described = catalogue.ask(target)
    except (Exception, SystemExit) as error:  # importing a foreign module may raise anything
        raise ConfigError(f"{group}._target_={target}: cannot be imported: {one_line(error)}") from error
    if described is None or described.takes_any:
        return
    brought = set(described.card.needs if described.card else ())  # which the run passes, from its data and model
    unknown = sorted(set(settings) - {"_target_"} - ours - (described.parameters - brought))
    if unknown:
        takes = ", ".join(sorted((set(settings) - set(unknown) - {"_target_"}) | ours)) or "no settings"
        if near := get_close_matches(str(unknown[0]), sorted(described.parameters - brought)):
            takes = near[0]
        raise ConfigError(f"{group}.{unknown[0]}: unknown; {target.rpartition('.')[2]} takes {takes}")
