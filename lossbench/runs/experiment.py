"""The objects that one run trains, built from its configuration."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench.config import catalogue
from lossbench.config.task_types import TASKS, chosen, load
from lossbench.core import Sampling, Split, Splits

if TYPE_CHECKING:
    import torch

    from lossbench.engine import Replica


class Experiment:
    """The objects of one run: data, nets, loss, task, optimizers and the training plan."""

    def __init__(self, cfg: DictConfig, splits: Splits | None = None, *, same_data: bool = False) -> None:
        """`splits` is the dataset, if it is loaded already; `same_data`: it is the same for every seed.

        Raises: ConfigError for a configuration that cannot train.
        """
        from lossbench.engine.randomness import seeded
        from lossbench.runs import builders

        self.cfg = cfg
        given, task_type = splits or builders.splits(cfg.dataset), chosen(cfg)
        self.splits = (
            given
            if given.info.task_type == task_type
            else replace(given, info=replace(given.info, task_type=task_type))
        )
        self._given = given  # whoever shares the dataset finds it as long as somebody holds it
        if self.splits is not given or task_type not in TASKS:
            builders.check_for_task(self.splits)
        self.sampling = _sampling(self.splits, same_data)
        with seeded(cfg.seed, "building"):  # trial calls of the model and the loss must not shift later draws
            self._build()

    def _build(self) -> None:
        import torch

        from lossbench.runs import builders, sanity_checks
        from lossbench.runs.features import Features
        from lossbench.tasks.adapting import adapted

        cfg, info = self.cfg, self.splits.info
        self.device = builders.device(cfg.device)
        if self.device.type == "cuda":  # on a CPU the operators in use are deterministic; asking loads the compiler
            torch.use_deterministic_algorithms(True, warn_only=True)
        size, per_class = cfg.train.batch_size, cfg.train.per_class
        builders.check_batch(size, per_class, self.splits)
        self.outputs_per_target = catalogue.card_at(cfg.loss._target_).outputs_per_target
        self.nets = builders.nets(cfg.model, info, cfg.seed, self.outputs_per_target).to(self.device)
        sanity_checks.model(
            self.nets, info, self.splits.train, self.device, cfg.model._target_, self.outputs_per_target
        )
        loss = builders.loss_of_run(cfg.loss, info, self.nets, cfg.seed)
        task = load(info.task_type)
        outputs = builders.dimensions(self.nets, info) if task.free_outputs else task.outputs(info)
        adaptation = adapted(loss, info.task_type, info.targets, outputs)
        loss, self.adapted = adaptation.loss, str(adaptation)
        self.learning = builders.module_of(loss)
        if self.learning is not None:
            self.learning.to(self.device)
        self.features = Features(self.splits, self.device)
        settings: Any = OmegaConf.to_container(cfg.task, resolve=True)
        self.task = builders.task(info.task_type, loss, info, settings, self.features)
        self.optimizers = builders.optimizers(cfg.optimizer, self.nets, self.learning)
        if (
            self.learning is not None
        ):  # saved, selected and resumed with the players, though it has no optimizer of its own
            self.nets.add_module("loss", self.learning)
        self.plan = builders.plan(cfg.train)
        sanity_checks.loss(
            self.task, self.nets, self.splits.train, self.device, size, per_class, str(cfg.loss._target_)
        )

    @property
    def stackable(self) -> bool:
        """Whether other runs may share its stack: not if its loss has state."""
        return self.learning is None

    def replica(self, record: Callable[[int, Mapping[str, float]], None]) -> Replica:
        """This run as a replica for the engine; `record` gets its metrics by step."""
        from lossbench.engine import Replica

        train, validation = (on_device(split, self.device) for split in (self.splits.train, self.splits.validation))
        return Replica(self.task, self.nets, self.optimizers, train, validation, self.cfg.seed, record)

    @property
    def loss_parameters(self) -> int:
        """How many parameters the loss itself learns."""
        return sum(p.numel() for p in self.learning.parameters()) if self.learning is not None else 0

    def probe(self) -> str:
        """`cross_loss.probe` of this run's loss, by which a report finds losses that are the same."""
        from lossbench.engine import predict
        from lossbench.runs import cross_loss

        train = self.splits.train
        outputs = predict(self.task, self.nets, next(train.chunks(1)), 0)
        prediction = cross_loss.prediction(outputs)
        return "" if prediction is None else cross_loss.probe(self.task, prediction.shape[1:], train, self.device)


def _sampling(splits: Splits, same_data: bool) -> Sampling:
    """What differs between seeds. A dataset that does not say is taken to split one pool anew for each seed."""
    sampling = splits.info.sampling
    if same_data:
        sampling = replace(sampling, variation="fixed", candidates=0)
    if not sampling.train:  # else the sizes are known, and no test split is read before its time
        train, validation, test = (len(split) for split in (splits.train, splits.validation, splits.test))
        sampling = replace(sampling, train=train, validation=validation, test=test)
    total = sampling.train + sampling.validation + sampling.test
    return replace(sampling, variation=sampling.variation or "resplit", candidates=sampling.candidates or total)


_splits_on_devices: weakref.WeakValueDictionary[tuple[int, str], Split] = weakref.WeakValueDictionary()


def on_device(split: Split, device: torch.device) -> Split:
    """The split on a device, as one copy for all runs that share it."""
    if split.inputs.device == device:
        return split
    key = (id(split), str(device))  # not by the inputs, which two splits may share
    moved = _splits_on_devices.get(key)
    if moved is None:
        moved = _splits_on_devices[key] = split.to(device)
        weakref.finalize(split, _splits_on_devices.pop, key, None)  # before the id can be reused
    return moved
