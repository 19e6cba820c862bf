"""A loss as its task calls it, on samples: with what a run would bring, and what it returns looked into."""

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
    """A clause is not kept: what was seen, and how to mend it."""

    def __init__(self, seen: str, mend: str) -> None:
        super().__init__(seen)
        self.seen, self.mend = seen, mend


class NotAsked(Exception):
    """A clause does not concern this loss, and why."""


@dataclass
class Noise:
    """Noise that belongs to examples: the same for each, in whatever batch, at whatever place."""

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
    """A loss on one task type: the object at a dotted path, and the settings and the form that it is tried in."""

    target: str
    task_type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    loss: Any = None
    call: Call = ALONE
    made: dict[object, Any] = field(default_factory=dict)

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
        return replace(self, settings={**self.settings, **settings}, made={})

    def parts(self, sample: Sample, player: str = "model") -> LossOutput:
        """What the loss returns on copies of this sample."""
        return LossOutput.of(self.raw(_copied(sample), player))

    def per_example(self, sample: Sample, player: str = "model") -> Tensor:
        """The per-example losses of this sample, without parts."""
        return self.parts(sample, player).per_example

    def raw(self, sample: Sample, player: str = "model") -> Any:
        """What the loss returns on the very tensors of this sample."""
        try:
            return self._called(sample, player)
        except SystemExit as end:
            raise RuntimeError(f"it ended the program: exit {end.code}") from end

    def _called(self, sample: Sample, player: str) -> Any:
        loss, noise = self.made_for(sample), Noise(sample.ids, sample.prediction.dtype)
        return self.task.on_sample(loss, sample, player, noise)

    def pull(self, sample: Sample, player: str = "model") -> tuple[Tensor, Tensor]:
        """Terms, and the gradient of their sum. Raises: Broken where there is none."""
        leaf = sample.leaf(player).detach().clone().requires_grad_()
        per_example = self.per_example(sample.moved(player, leaf), player)
        if not per_example.requires_grad:
            raise Broken(
                f"what it returns{told(player)} has no gradient",
                "keep detach, item, numpy and no_grad out of the way from the prediction to the terms",
            )
        (gradient,) = torch.autograd.grad(per_example.sum(), leaf, allow_unused=True)
        return per_example.detach(), torch.zeros_like(leaf) if gradient is None else gradient

    @property
    def learns(self) -> bool:
        """Whether it has parameters of its own that nothing but chance has set yet, as centres of classes."""
        made = builders.module_of(self.made_for(at_random(self.task_type, self.outputs_per_target)))
        return self.card is None and made is not None and next(made.parameters(), None) is not None

    def made_for(self, sample: Sample) -> Any:
        """The loss built for samples of this shape and type; built once and kept."""
        key = (sample.counts, sample.prediction.dtype, sample.prediction.shape[1:])
        if key not in self.made:
            with torch.random.fork_rng(devices=[]):  # parameters of its own are the same in every type
                torch.manual_seed(0)
                self.made[key] = self.build(sample)
        return self.made[key]

    def build(self, sample: Sample) -> Any:
        """As a run does. What it learns is in double precision where the sample is, else in single."""
        brings: dict[str, Any] = {
            "classes": lambda: len(sample.counts),
            "class_counts": lambda: sample.counts,
            "dimensions": lambda: DIMENSIONS,
            "generator": lambda: stream(0, "loss"),
        }
        made: Any = builders.loss(OmegaConf.create({"_target_": self.target, **self.settings}), self.task_type, brings)
        whole = self.task.completed(made, brings)
        if whole is not made:
            made = whole.to(sample.prediction.dtype)  # as autocast would
        if isinstance(made, nn.Module) and sample.prediction.dtype == torch.float64:
            made = made.double()
        if self.call != ALONE:
            return partial(called, made, self.call)
        return lifted(made, self.task_type)

    def adapted(self) -> Adapted:
        """How a run would call it."""
        sample = at_random(self.task_type, self.outputs_per_target).to(torch.float32)
        outputs = 1 if self.task.one_logit or sample.prediction.dim() < 2 else sample.prediction.shape[-1]
        return adapted(self.build(sample), self.task_type, tuple(sample.target.shape[1:]), outputs)


class Held(TorchFunctionMode):
    """What a loss detaches, or works out without gradients, kept as it was at the first call, in later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []
        self.next: int | None = None

    def again(self) -> Held:
        """Replay the recorded values from the first on."""
        self.next = 0
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if not isinstance(given, Tensor) or (torch.is_grad_enabled() and getattr(func, "__name__", "") != "detach"):
            return given
        if self.next is None:
            self.kept.append(given.detach().clone())
            return given
        self.next += 1
        return self.kept[self.next - 1].clone()


def found(target: str) -> Any:
    """The loss at a dotted path. Raises: ConfigError where there is none."""
    loss = builders.found(target, "check: ")
    if not callable(loss):
        raise ConfigError(f"check: {target}: a {type(loss).__name__}, which cannot be called")
    return loss


def told(player: str) -> str:
    """A player's name, where there is more than one."""
    return "" if player == "model" else f" for the {player}"


def _copied(sample: Sample) -> Sample:
    """Tensors of their own that lead back to the sample's, so that whatever is done to them stays with them."""
    weights = None if sample.weights is None else sample.weights.clone()
    return replace(sample, prediction=sample.prediction.clone(), target=sample.target.clone(), weights=weights)
