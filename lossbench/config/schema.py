"""The schema of a configuration, the folder of its files, and the names of a run's parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from lossbench.config import overrides
from lossbench.core import stem

HERE = Path(__file__).resolve().parent.parent  # the package
CONFIGS = HERE / "configs" if (HERE / "configs").is_dir() else HERE.parent / "configs"  # in a wheel, in a checkout


@dataclass
class Train:
    """Settings of training: how long, in what batches and precision, and how often it is evaluated and saved."""

    steps: int = MISSING
    epochs: float | None = None
    batch_size: int = MISSING
    eval_every: int | None = None
    patience: int | None = None
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
    """Which arm, study and trial of a search a run belongs to, and up to which step the trial trains."""

    arm: str = ""
    study: str = ""
    trial: int | None = None
    until: int | None = None


@dataclass
class Tracking:
    """Settings of MLflow: where runs and their files are recorded, and what is among these."""

    uri: str = MISSING
    location: str | None = None
    artifacts: str | None = None
    predictions: bool = True
    model: bool = False


@dataclass
class Config:
    """The settings of a run. Groups whose keys depend on the choice are open here; `check` checks them."""

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
    """Register the types above with Hydra, under the name that config.yaml starts from, and a resolver: `stem`."""
    OmegaConf.register_new_resolver("stem", stem, replace=True)
    ConfigStore.instance().store(name="schema", node=Config)


@dataclass(frozen=True)
class Names:
    """The names of a run's parts in its record: the chosen files, or the path of a foreign `_target_`."""

    dataset: str
    model: str
    loss: str
    optimizer: str
    folders: tuple[Path, ...] = ()  # of configurations: ours, and that of --config-dir
    same_data: bool = False  # whether all seeds have the same data, as with dataset.seed=0

    @staticmethod
    def of(hydra: Any) -> Names:
        """The names and folders in Hydra's own configuration of a run."""

        def name(group: str) -> str:
            return overrides.name(group, hydra.overrides.task, str(hydra.runtime.choices[group]))

        folders = tuple(Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file")
        return Names(name("dataset"), name("model"), name("loss"), name("optimizer"), folders)
