"""The forms in which losses are written elsewhere: what they take for a prediction, and what for a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import LossOutput
from lossbench.core.box_offsets import decode
from lossbench.tasks.lifting import PAD

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Call:
    """A form: how prediction and target are changed before a loss gets them, by name, and a note that says so.

    `each`: the loss sees all pixels, or all tokens that are no padding, side by side. `first`: the target comes first.
    """

    prediction: str = ""
    target: str = ""
    note: str = ""
    each: str = ""
    first: bool = False

    def swapped(self) -> Call:
        """The same form with the target first."""
        return replace(self, first=True, note="; ".join(filter(None, ("takes the target first", self.note))))

    def of(self, loss: Callable[..., Any], prediction: Tensor, target: Tensor) -> Any:
        """Per-example losses [batch], or one number; values for parts of an example are averaged over it."""
        if self.each and not self.counts(target).any():  # of nothing there is no mean
            return 0 * prediction.sum()
        output = LossOutput.of(self.raw(loss, prediction, target))
        per_example = output.per_example
        if not isinstance(per_example, Tensor):
            return per_example
        if self.each and per_example.numel() > 1:
            per_example = _of_examples(per_example.reshape(per_example.shape[0], -1).mean(1), self.counts(target))
        elif per_example.dim() > 1 and len(per_example) == len(target):
            per_example = per_example.flatten(1).mean(1)
        elif per_example.shape == (1,) and len(target) > 1:
            per_example = per_example.squeeze(0)
        return output._replace(per_example=per_example) if output.parts else per_example

    def raw(self, loss: Callable[..., Any], prediction: Tensor, target: Tensor) -> Any:
        """What the loss itself returns."""
        outputs = prediction.shape[-1] if prediction.dim() > 1 else 0
        if self.each:
            counts = self.counts(target)
            prediction, target = prediction[counts], target[counts]
        prediction = PREDICTIONS[self.prediction](prediction)
        target = TARGETS[self.target](target, prediction, outputs)
        return loss(target, prediction) if self.first else loss(prediction, target)

    def counts(self, target: Tensor) -> Tensor:
        """Which pixels or tokens of each example the loss gets, if it gets each as an example."""
        return target != PAD if self.each == "token" else torch.ones_like(target, dtype=torch.bool)


def _of_examples(per_example: Tensor, counts: Tensor) -> Tensor:
    """The mean of each example's parts that count."""
    every = per_example.new_zeros(counts.shape).masked_scatter(counts, per_example)
    return every.flatten(1).sum(-1) / counts.flatten(1).sum(-1).clamp(min=1)


def _two(logits: Tensor) -> Tensor:
    """The logits (0, z) of two classes, whose softmax is the sigmoid of z."""
    return torch.stack([torch.zeros_like(logits), logits], 1)


PREDICTIONS: dict[str, Change] = {
    "": lambda z: z,
    "column": lambda z: z.unsqueeze(1),
    "flat": lambda z: z.flatten(),
    "probability": torch.sigmoid,
    "probability column": lambda z: torch.sigmoid(z).unsqueeze(1),
    "softmax": lambda z: z.softmax(-1),
    "log_softmax": lambda z: z.log_softmax(-1),
    "two": _two,
    "two softmax": lambda z: _two(z).softmax(1),
    "two log_softmax": lambda z: _two(z).log_softmax(1),
    "corners": decode,
}

TARGETS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "": lambda y, prediction, outputs: y,
    "float": lambda y, prediction, outputs: y.to(prediction.dtype),
    "flat": lambda y, prediction, outputs: y.flatten(),
    "column": lambda y, prediction, outputs: y.unsqueeze(1),
    "float column": lambda y, prediction, outputs: y.unsqueeze(1).to(prediction.dtype),
    "signs": lambda y, prediction, outputs: 2 * y.to(prediction.dtype) - 1,
    "one-hot": lambda y, prediction, outputs: F.one_hot(y, outputs).to(prediction.dtype),
    "one-hot of two": lambda y, prediction, outputs: torch.stack([1 - y, y], 1).to(prediction.dtype),
    "corners": lambda y, prediction, outputs: decode(y),
}

FLOATS = "gets targets as floats"
SIGNS = "gets targets −1 and +1"
PROBABLE = "wants probabilities: gets the sigmoid of the logits"
SOFT = "wants probabilities: gets the softmax of the logits"
LOGS = "wants log-probabilities: gets the log_softmax of the logits"
HOT = "gets targets one-hot"
TWO = "a loss of classes: gets the logits 0 and z of two"
CHANNEL = "reads [batch, channel, height, width]: gets masks with an axis for one channel"
ALONE = Call()

BINARY = (
    ALONE,
    Call("", "float", FLOATS),
    Call("two", "", TWO),
    Call("two log_softmax", "", f"{TWO}, as log-probabilities"),
    Call("probability", "float", PROBABLE),
    Call("column", "float column", "gets logits and targets as [batch, 1]"),
    Call("probability column", "float column", f"{PROBABLE}, as [batch, 1]"),
    Call("", "signs", SIGNS),
    Call("two softmax", "", f"{TWO}, as probabilities"),
    Call("two", "one-hot of two", f"{TWO}, and targets one-hot"),
    Call("two log_softmax", "one-hot of two", f"{TWO}, as log-probabilities, and targets one-hot"),
    Call("two softmax", "one-hot of two", f"{TWO}, as probabilities, and targets one-hot"),
)
MULTICLASS = (
    ALONE,
    Call("log_softmax", "", LOGS),
    Call("softmax", "", SOFT),
    Call("", "one-hot", HOT),
    Call("log_softmax", "one-hot", f"{LOGS}, and targets one-hot"),
    Call("softmax", "one-hot", f"{SOFT}, and targets one-hot"),
)
MASKS = (
    ALONE,
    Call("", "float", FLOATS),
    Call("column", "column", CHANNEL),
    Call("column", "float column", f"{CHANNEL}, and targets as floats"),
    Call("two", "", TWO),
    Call("column", "", "reads logits as [batch, channel, height, width]: gets an axis for one channel"),
    Call("two", "column", f"{TWO}, and masks with an axis for one channel"),
    Call("two log_softmax", "", f"{TWO}, as log-probabilities"),
    Call("probability", "float", PROBABLE),
    Call("probability column", "float column", f"{PROBABLE}; {CHANNEL}"),
    Call("", "signs", SIGNS),
    Call("two softmax", "", f"{TWO}, as probabilities"),
    Call("two", "one-hot of two", f"{TWO}, and targets one-hot"),
    Call("two log_softmax", "one-hot of two", f"{TWO}, as log-probabilities, and targets one-hot"),
    Call("two softmax", "one-hot of two", f"{TWO}, as probabilities, and targets one-hot"),
)
TOKENS = "gets each token that is no padding as an example"
PIXELS = "gets each pixel as an example"


def on_each(part: str, note: str, calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """These forms for each pixel or token of an example; `note` says so."""
    return tuple(replace(call, each=part, note="; ".join(filter(None, (note, call.note)))) for call in calls)
