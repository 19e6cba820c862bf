"""Settings: where configurations lie, what may stand in them, and what is wrong with one, all without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from lossbench import catalogue, overrides
from lossbench.core import KINDS, BadInput, demand

HERE = Path(__file__).resolve().parent
CONFIGS = HERE / "configs" if (HERE / "configs").is_dir() else HERE.parent / "configs"  # in a wheel, in a checkout


TASKS = {
    "regression": "lossbench.tasks.regression.Regression",
    "binary": "lossbench.tasks.classification.Binary",
    "multiclass": "lossbench.tasks.classification.Multiclass",
    "boxes": "lossbench.tasks.boxes.Boxes",
    "autoencoder": "lossbench.tasks.autoencoder.Autoencoder",
    "gan": "lossbench.tasks.gan.Gan",
    "embedding": "lossbench.tasks.embedding.Embedding",
    "segmentation": "lossbench.tasks.segmentation.Segmentation",
    "sequence": "lossbench.tasks.sequence.Sequence",
}
"""What training means for each kind of problem."""


BESIDE = (
    "tracking.", "train.checkpoint_s", "experiment_name", "question", "margin", "search",
    "tuning.study", "tuning.trial", "tuning.until",
)  # fmt: skip
"""Settings that decide none of a run's numbers."""

MOST = 10**12  # steps: more than any machine takes in a life

THREADS = 256  # far more than help one step; a system has an end of them
EXPERIMENT = 200  # bytes of its name: of a file's 255, less what a comparison's name adds


@dataclass
class Train:
    steps: int = MISSING
    epochs: float | None = None
    batch_size: int = MISSING
    eval_every: int | None = None
    record_every: int | None = None
    schedule: str = MISSING
    clip_norm: float | None = None
    precision: str = MISSING
    compile: str | None = None
    per_class: int | None = None
    checkpoint_s: float = MISSING
    threads: int | None = None


@dataclass
class Tuning:
    arm: str = ""
    study: str = ""
    trial: int | None = None
    until: int | None = None


@dataclass
class Tracking:
    uri: str = MISSING
    artifacts: str | None = None
    predictions: bool = True


@dataclass
class Config:
    """The settings of a run. Groups whose keys depend on what is chosen are open here and checked by `check`."""

    seed: int = MISSING
    device: str = MISSING
    experiment_name: str = MISSING
    question: str = ""
    margin: float | None = None
    dataset: Any = MISSING
    model: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    task: dict[str, Any] = field(default_factory=dict)
    train: Train = field(default_factory=Train)
    tracking: Tracking = field(default_factory=Tracking)
    search: dict[str, Any] = field(default_factory=dict)
    tuning: Tuning = field(default_factory=Tuning)


def register() -> None:
    """Make the types above known to Hydra, under the name that config.yaml starts from."""
    ConfigStore.instance().store(name="schema", node=Config)


@dataclass(frozen=True)
class Names:
    """What the parts of a run are called in its record: the chosen files, or the path of a foreign `_target_`."""

    dataset: str
    model: str
    loss: str
    optimizer: str
    folders: tuple[Path, ...] = ()  # where configurations are: ours, and those of --config-dir
    same_data: bool = False  # every seed has the same, as with dataset.seed=0

    @staticmethod
    def of(hydra: Any) -> Names:
        def name(group: str) -> str:
            return overrides.name(group, hydra.overrides.task, str(hydra.runtime.choices[group]))

        folders = tuple(Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file")
        return Names(name("dataset"), name("model"), name("loss"), name("optimizer"), folders)


def check_job(cfg: DictConfig, hydra: Any) -> Names:
    """`check` for a configuration that Hydra composed, of which replaced targets keep nothing; the names of the run."""
    overrides.replace(cfg, hydra.overrides.task)
    varied = "seed" in cfg.dataset.keys() and OmegaConf.is_interpolation(cfg.dataset, "seed")  # noqa: SIM118 resolves
    names = replace(Names.of(hydra), same_data=not varied)
    _length(cfg, list(hydra.overrides.task))
    check(cfg, names)
    return names


def check(cfg: DictConfig, names: Names) -> None:
    """Refuse what cannot train, before anything is imported or recorded.

    Raises: BadInput that names the setting, its value, and what would work.
    """
    for group, schema in (("", Config), ("train", Train), ("tracking", Tracking), ("tuning", Tuning)):
        _fields(group, cfg[group] if group else cfg, schema)
    _experiment(cfg.experiment_name)
    train = cfg.train
    demand("seed", cfg.seed, lambda v: v >= 0, "0 or above")
    for key in ("steps", "batch_size"):
        demand(f"train.{key}", train[key], lambda v: 1 <= v <= MOST, f"at least 1, and at most {MOST:,}")
    if train.epochs is not None:
        demand("train.epochs", train.epochs, lambda v: 0 < v <= MOST, f"above 0, and at most {MOST:,}, or null")
    for key in ("eval_every", "record_every"):
        if train[key] is not None:
            demand(f"train.{key}", train[key], lambda v: v >= 1, "at least 1, or null")
    if train.per_class is not None:
        demand("train.per_class", train.per_class, lambda v: v >= 2, "at least 2, or null")
        if train.batch_size % train.per_class:
            raise BadInput(f"train.batch_size={train.batch_size}: no multiple of train.per_class={train.per_class}")
    if cfg.margin is not None:
        demand("margin", cfg.margin, lambda v: v >= 0, "0 or above, in the metric's unit, or null")
    demand("train.checkpoint_s", train.checkpoint_s, lambda v: v > 0, "above 0, such as 10")
    if train.threads is not None:
        demand("train.threads", train.threads, lambda v: 1 <= v <= THREADS, f"1 to {THREADS}, or null")
    if train.clip_norm is not None:
        demand("train.clip_norm", train.clip_norm, lambda v: v > 0, "above 0, or null")
    _choice("train.schedule", train.schedule, ("constant", "cosine"))
    _choice("train.precision", train.precision, ("float32", "bfloat16"))
    if train.compile is not None:
        _choice("train.compile", train.compile, ("default", "reduce-overhead", "max-autotune"))
    _choice("device", cfg.device.partition(":")[0], ("auto", "cpu", "cuda"))
    if "lr" in cfg.optimizer:
        demand("optimizer.lr", cfg.optimizer.lr, lambda v: v > 0, "above 0")
    for key in ("weight_decay", "momentum"):
        if key in cfg.optimizer:
            demand(f"optimizer.{key}", cfg.optimizer[key], lambda v: v >= 0, "0 or above")
    _choice("dataset.kind", cfg.dataset.kind, KINDS)
    if "prior" in cfg.model:
        _prior(cfg.model.prior, cfg.dataset.kind)
    _keys("dataset", cfg.dataset, {"kind"})
    _keys("task", OmegaConf.create({"_target_": TASKS[cfg.dataset.kind], **cfg.task}), set())
    _keys("model", cfg.model, {"prior"})
    _sizes(cfg.model)
    _keys("loss", cfg.loss, set())
    kinds = _loss_kinds(cfg.loss._target_)
    if cfg.dataset.kind not in kinds:
        fitting = [entry.name for entry in catalogue.losses(names.folders) if cfg.dataset.kind in entry.kinds]
        raise BadInput(
            f"loss={names.loss}: fits {' and '.join(kinds)} problems, "
            f"and dataset={names.dataset} is {cfg.dataset.kind}\n"
            f"losses that fit: {', '.join(fitting)}"
        )


def flat(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dotted keys and plain values; lists stay whole."""
    return leaves(OmegaConf.to_container(cfg, resolve=True))


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """A tree of settings as dotted keys and plain values; lists stay whole."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {k: v for key, value in node.items() for k, v in leaves(value, f"{prefix}.{key}".strip(".")).items()}


def key(cfg: DictConfig, loss: str = "") -> str:
    """A hash of what decides a run's numbers: the configuration without where it is recorded, and the user's own code.

    And of what the loss is called: under two names it is compared with itself. Our code is named by its revision
    beside this; a foreign `_target_` by the bytes of its module.
    """
    deciding = {k: v for k, v in flat(cfg).items() if not k.startswith(BESIDE)} | {"loss": loss}
    if deciding.get("train.epochs") is not None:  # steps follow, once the data are there
        del deciding["train.steps"]
    for name in [name for name in deciding if name.endswith("_target_")]:
        spec = catalogue.find(str(deciding[name]).rpartition(".")[0])
        if spec and spec.origin and spec.origin.endswith(".py"):
            deciding[f"source of {name}"] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _length(cfg: DictConfig, overrides: list[str]) -> None:
    """What the command line says of steps or epochs wins over what a file says of the other."""
    asked = {word.lstrip("+").partition("=")[0]: word for word in overrides}
    if "train.steps" not in asked:
        return
    if "train.epochs" in asked and cfg.train.epochs is not None:
        raise BadInput(f"{asked['train.epochs']}: and {asked['train.steps']}; give one of them")
    cfg.train.epochs = None


def _fields(group: str, settings: DictConfig, schema: type) -> None:
    """Refuse what `+` added to a group whose settings are fixed."""
    known = {field.name for field in fields(schema)} | {"hydra"}
    unknown = sorted(set(map(str, settings)) - known)
    if unknown:
        raise BadInput(
            f"{group}.{unknown[0]}".lstrip(".") + f": no such setting; there are {', '.join(sorted(known - {'hydra'}))}"
        )


def _experiment(name: str) -> None:
    """An experiment is a name in the store, and a folder of artifacts beside it."""
    fits = bool(name.strip()) and len(name.encode(errors="replace")) <= EXPERIMENT
    if not fits or not name.isprintable() or name == "." or ".." in name:
        shown = name if len(name) <= 40 else f"{name[:40]}…"
        raise BadInput(
            f"experiment_name={shown}: has to be a printable name of 1 to {EXPERIMENT} bytes without '..', "
            "such as mnist-3"
        )


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadInput(f"{name}={value}: unknown; choose {', '.join(choices)}")


def _prior(prior: Any, kind: str) -> None:
    if prior is None or prior == "auto":
        if prior and kind in ("regression", "boxes"):
            raise BadInput("model.prior=auto: a prior belongs to classes, and this is a regression; leave it null")
        return
    if kind not in ("binary", "segmentation"):
        raise BadInput(f"model.prior={prior}: one probability fits a binary problem, this is {kind}; auto or null")
    demand("model.prior", prior, lambda v: 0 < v < 1, "between 0 and 1, auto or null")


def _sizes(model: DictConfig) -> None:
    """Whatever is counted in our own models is counted from 1."""
    if not str(model._target_).startswith("lossbench.models."):
        return
    settings: Any = OmegaConf.to_container(model)
    for key, value in settings.items():
        counts = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int | float)]
        if key != "prior" and not all(one >= 1 and one % 1 == 0 for one in counts):
            raise BadInput(f"model.{key}={value}: whole numbers, at least 1")


def _keys(group: str, settings: DictConfig, ours: set[str]) -> None:
    """Refuse keys that the target does not take; what its source does not tell is left to the call."""
    target = str(settings.get("_target_", ""))
    module = target.rpartition(".")[0]
    if not module or (catalogue.find(module) is None and catalogue.find(module.rpartition(".")[0]) is None):
        raise BadInput(f"{group}._target_={target}: no such module; a dotted path to something importable works")
    described = catalogue.describe(target)
    if described is None or described.takes_any:
        return
    brought = set(described.card.get("needs", ()))  # by the run, from its data and model
    unknown = sorted(set(settings) - {"_target_"} - ours - (described.parameters - brought))
    if unknown:
        takes = ", ".join(sorted((set(settings) - set(unknown) - {"_target_"}) | ours)) or "no settings"
        if near := get_close_matches(str(unknown[0]), sorted(described.parameters - brought)):
            takes = near[0]
        raise BadInput(f"{group}.{unknown[0]}: unknown; {target.rpartition('.')[2]} takes {takes}")


def _loss_kinds(target: str) -> tuple[str, ...]:
    described = catalogue.describe(target)
    return tuple(described.card.get("kinds", KINDS)) if described else KINDS
