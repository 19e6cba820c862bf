"""A loss called on samples as its task calls it, with the arguments that a run would give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lossbench.config.task_types import load
from lossbench.contract.samples import at_random, players
from lossbench.core import Card, ConfigError, LossOutput, card_of, stream
from lossbench.runs import builders
from lossbench.tasks.adapting import Adapted, adapted, called
from lossbench.tasks.calls import ALONE, Call
from lossbench.tasks.lifting import lifted
from lossbench.tasks.samples import DIMENSIONS, Sample

EXAMPLES = 64  # that have noise of their own, at most


class Broken(Exception):
    """A loss breaks a clause: what was seen, and how to fix it."""

    def __init__(self, seen: str, fix: str) -> None:
        super().__init__(seen)
        self.seen, self.fix = seen, fix


class NotAsked(Exception):
    """A clause does not apply to this loss, and why."""


@dataclass
class Noise:
    """Noise that belongs to examples: each gets the same numbers in any batch, at any position."""

    ids: tuple[int, ...]
    dtype: torch.dtype
    done: int = 0
    drawn: int = 0

    def own(self) -> Noise:
        """The noise that only the loss draws: the same examples, drawn from the start."""
        return Noise(self.ids, self.dtype)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of this shape."""
        return self._of_each("normal", torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers of this shape in [0, 1)."""
        return self._of_each("uniform", torch.rand, shape)

    def _of_each(self, name: str, draw: Any, shape: tuple[int, ...]) -> Tensor:
        self.drawn += 1
        random = stream(self.drawn, f"contract/{name}")
        if shape[:1] != (len(self.ids),):
            return draw(shape, generator=random, dtype=torch.float64).to(self.dtype)
        table = draw((EXAMPLES, *shape[1:]), generator=random, dtype=torch.float64)
        return table[list(self.ids)].to(self.dtype)


@dataclass
class Trial:
    """A loss on one task type: the object at a dotted path, and the settings and the form in which it is tried."""

    target: str
    task_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    loss: Any = None
    call: Call = ALONE
    built: dict[object, Any] = field(default_factory=dict)

    @property
    def card(self) -> Card | None:
        """The card of the loss, None where it has none."""
        return card_of(self.loss)

    @property
    def task(self) -> Any:
        """The class of its task type."""
        return load(self.task_type)

    @property
    def outputs_per_target(self) -> int:
        """How many numbers the loss takes for each target."""
        return self.card.outputs_per_target if self.card else 1

    @property
    def batch(self) -> bool:
        """Whether its card says that it needs the whole batch."""
        return bool(self.card and self.card.batch)

    @property
    def players(self) -> tuple[str, ...]:
        """The players that the loss is called for."""
        return players(self.task_type)

    def at(self, **settings: Any) -> Trial:
        """The same loss with some settings changed."""
        return replace(self, settings={**self.settings, **settings}, built={})

    def parts(self, sample: Sample, player: str = "model") -> LossOutput:
        """What the loss returns on copies of this sample."""
        return LossOutput.of(self.raw(_copied(sample), player))

    def per_example(self, sample: Sample, player: str = "model") -> Tensor:
        """The per-example losses of this sample, without parts."""
        return self.parts(sample, player).per_example

    def raw(self, sample: Sample, player: str = "model") -> Any:
        """What the loss returns on the tensors of this sample themselves."""
        try:
            return self._called(sample, player)
        except SystemExit as end:
            raise RuntimeError(f"it ended the program: exit {end.code}") from end

    def _called(self, sample: Sample, player: str) -> Any:
        loss, noise = self.built_for(sample), Noise(sample.ids, sample.prediction.dtype)
        return self.task.on_sample(loss, sample, player, noise)

    def pull(self, sample: Sample, player: str = "model") -> tuple[Tensor, Tensor]:
        """Per-example losses, and the gradient of their sum. Raises: Broken where there is none."""
        leaf = sample.leaf(player).detach().clone().requires_grad_()
        per_example = self.per_example(sample.moved(player, leaf), player)
        if not per_example.requires_grad:
            raise Broken(
                f"what it returns{for_player(player)} has no gradient",
                "use no detach, item, numpy or no_grad between the prediction and the per-example losses",
            )
        (gradient,) = torch.autograd.grad(per_example.sum(), leaf, allow_unused=True)
        return per_example.detach(), torch.zeros_like(leaf) if gradient is None else gradient

    @property
    def learns(self) -> bool:
        """Whether it has parameters of its own, such as centres of classes, that are still as they were initialised."""
        module = builders.module_of(self.built_for(at_random(self.task_type, self.outputs_per_target)))
        return self.card is None and module is not None and next(module.parameters(), None) is not None

    def built_for(self, sample: Sample) -> Any:
        """The loss built for samples of this shape and type; built once and kept."""
        key = (sample.counts, sample.prediction.dtype, sample.prediction.shape[1:])
        if key not in self.built:
            with torch.random.fork_rng(devices=[]):  # its parameters are to be the same in every floating type
                torch.manual_seed(0)
                self.built[key] = self.build(sample)
        return self.built[key]

    def build(self, sample: Sample) -> Any:
        """The loss as a run builds it; what it learns is in double precision if the sample is, else in single."""
        brings: dict[str, Any] = {
            "classes": lambda: len(sample.counts),
            "class_counts": lambda: sample.counts,
            "dimensions": lambda: DIMENSIONS,
            "generator": lambda: stream(0, "loss"),
        }
        loss: Any = builders.loss(OmegaConf.create({"_target_": self.target, **self.settings}), self.task_type, brings)
        completed = self.task.completed(loss, brings)
        if completed is not loss:
            loss = completed.to(sample.prediction.dtype)  # as autocast would
        if isinstance(loss, nn.Module) and sample.prediction.dtype == torch.float64:
            loss = loss.double()
        if self.call != ALONE:
            return partial(called, loss, self.call)
        return lifted(loss, self.task_type)

    def adapted(self) -> Adapted:
        """The loss in the form in which a run would call it."""
        sample = at_random(self.task_type, self.outputs_per_target).to(torch.float32)
        outputs = 1 if self.task.one_logit or sample.prediction.dim() < 2 else sample.prediction.shape[-1]
        return adapted(self.build(sample), self.task_type, tuple(sample.target.shape[1:]), outputs)


class Replay(TorchFunctionMode):
    """Replays in later calls what a loss detached, or computed without gradients, in its first."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []
        self.next: int | None = None

    def again(self) -> Replay:
        """Replay the recorded values from the first on."""
        self.next = 0
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or (torch.is_grad_enabled() and getattr(func, "__name__", "") != "detach"):
            return result
        if self.next is None:
            self.values.append(result.detach().clone())
            return result
        self.next += 1
        return self.values[self.next - 1].clone()


def loss_at(target: str) -> Any:
    """The loss at a dotted path. Raises: ConfigError where there is none."""
    loss = builders.import_target(target, "check: ")
    if not callable(loss):
        raise ConfigError(f"check: {target}: a {type(loss).__name__}, which cannot be called")
    return loss


def for_player(player: str) -> str:
    """Words that name the player in a message; empty where there is only one."""
    return "" if player == "model" else f" for the {player}"


def _copied(sample: Sample) -> Sample:
    """The sample with copies of its tensors, so that a loss cannot change it; gradients still reach the originals."""
    weights = None if sample.weights is None else sample.weights.clone()
    return replace(sample, prediction=sample.prediction.clone(), target=sample.target.clone(), weights=weights)
