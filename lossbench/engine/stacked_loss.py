"""Per-example losses of a stack: a loss is written for one batch, a stack has one batch per replica."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.core import LossOutput, card_of, each_tensor
from lossbench.engine.batches import Noise
from lossbench.engine.nets import FunctionalModule, PrecisionWrapper, Stacked

Loss = Callable[..., Any]


class StackedLoss:
    """The losses of a stack's replicas as one, on arguments [replica, batch, …]; per-example losses [replica, batch].

    Neighbours with the same loss share a call: as one flat batch where its card promises that examples do not depend
    on each other, or unchanged where it says replica_batched. Any other is called replica by replica; if it returns
    one number, that counts for every example of its batch. Methods of the losses are methods of this, called alike.
    Tensors, nets and noise are sliced to the replicas of a call, also inside data classes; all else is passed on.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        self._parts: list[tuple[slice, Loss, str]] = []
        for _, same in groupby(range(len(losses)), key=lambda replica: _identity(losses[replica])):
            replicas = list(same)
            loss = losses[replicas[0]]
            self._parts.append((slice(replicas[0], replicas[-1] + 1), loss, _call_mode(loss, len(replicas))))

    def __call__(self, *arguments: Any) -> Tensor | LossOutput:
        return self._joined([loss for _, loss, _ in self._parts], arguments)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Raises: AttributeError where none of the losses has such a method; those that lack it are skipped."""
        methods = [getattr(loss, name, None) for _, loss, _ in self._parts]
        if name.startswith("_") or not any(methods):
            raise AttributeError(name)
        return lambda *arguments: self._joined(methods, arguments)

    def _joined(self, calls: Sequence[Loss | None], arguments: Sequence[Any]) -> Any:
        results = [
            _called(call, mode, part, arguments)
            for (part, _, mode), call in zip(self._parts, calls, strict=True)
            if call is not None
        ]
        if all(result is None for result in results):  # of a method that changes something
            return None
        outputs = [LossOutput.of(result) for result in results if result is not None]
        per_example = torch.cat([one.per_example for one in outputs]) if len(outputs) > 1 else outputs[0].per_example
        names = dict.fromkeys(name for one in outputs for name in one.parts)
        if not names:
            return per_example
        return LossOutput(per_example, {name: torch.cat([_recorded(one, name) for one in outputs]) for name in names})


def _call_mode(loss: Loss, replicas: int) -> str:
    card = card_of(loss)
    if card is not None and card.replica_batched:  # also if it needs the whole batch: it knows which axis that is
        return "replica_batched"
    return "flat" if replicas > 1 and card is not None and not card.batch else "sequential"


def _called(call: Loss, mode: str, part: slice, arguments: Sequence[Any]) -> Tensor | LossOutput | None:
    """Per-example losses [replica, batch], and parts [replica], of the replicas of a part."""
    if mode == "replica_batched":
        return _of_replicas(call(*(_cut(argument, part) for argument in arguments)))
    if mode == "flat":
        cut = [_cut(argument, part) for argument in arguments]
        shape = next(argument.shape[:2] for argument in cut if isinstance(argument, Tensor))
        result = call(*map(_flat, cut))
        if isinstance(result, LossOutput):
            return _of_replicas(LossOutput(*(each_tensor(what, lambda t: t.unflatten(0, shape)) for what in result)))
        return result.unflatten(0, shape)
    singly = [call(*(_cut(argument, replica) for argument in arguments)) for replica in range(part.start, part.stop)]
    if singly[0] is None:
        return None
    size = next((len(a[0]) for a in arguments if isinstance(a, Tensor)), 1)
    outputs = [LossOutput.of(one) for one in singly]
    per_example = torch.stack([one.per_example.expand(size) for one in outputs])
    return LossOutput(
        per_example, {name: torch.stack([one.parts[name].mean() for one in outputs]) for name in outputs[0].parts}
    )


def _flat(argument: Any) -> Any:
    """Tensors [replica, batch, …] as one batch, also inside a mapping."""
    if isinstance(argument, Mapping):
        return {name: _flat(one) for name, one in argument.items()}
    return argument.flatten(0, 1) if isinstance(argument, Tensor) else argument


def _of_replicas(result: Any) -> Any:
    """A result with each part averaged to one number per replica."""
    if not isinstance(result, LossOutput):
        return result
    return LossOutput(result.per_example, {name: part.flatten(1).mean(1) for name, part in result.parts.items()})


def _recorded(one: LossOutput, name: str) -> Tensor:
    """A part [replica]; NaN where this loss has no such part."""
    return one.parts.get(name, one.per_example.new_full((len(one.per_example),), torch.nan)).detach()


def _cut(argument: Any, part: slice | int) -> Any:
    """The slice of an argument that belongs to some replicas, or to one."""
    if isinstance(argument, Tensor):
        return argument[part]
    if isinstance(argument, Mapping):
        return {name: _cut(one, part) for name, one in argument.items()}
    if isinstance(argument, Stacked | FunctionalModule | PrecisionWrapper | Noise):
        return argument.only(part)
    if is_dataclass(argument) and not isinstance(argument, type):
        return replace(argument, **{f.name: _cut(getattr(argument, f.name), part) for f in fields(argument)})
    return argument


def _identity(loss: Any) -> object:
    """Equal for losses that may be called as one; a module may have state, so it equals only itself."""
    if isinstance(loss, nn.Module):
        return id(loss)
    if isinstance(loss, partial):
        settings = [*loss.args, *(pair for named in sorted(loss.keywords.items()) for pair in named)]
        return _identity(loss.func), tuple(map(_setting_identity, settings))
    if is_dataclass(loss) and not isinstance(loss, type):
        return type(loss), tuple(_setting_identity(getattr(loss, field.name)) for field in fields(loss))
    return loss


def _setting_identity(value: Any) -> object:
    """The same for a setting; not by `repr` for callables, since two modules may have the same."""
    return _identity(value) if callable(value) or is_dataclass(value) else repr(value)
