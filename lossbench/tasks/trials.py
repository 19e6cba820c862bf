"""What any loss of a task type does, asked of a foreign one on a made-up batch, in a form that it may want."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossbench.core import LossOutput, stream
from lossbench.tasks.calls import Call
from lossbench.tasks.lifting import PAD

SIZES = (6, 7, 9, 11, 13)  # of a batch: one that no other axis has, so that a shape says what it is
LOGITS = ("binary", "multiclass", "segmentation", "sequence")
STEPS, STRIDE = 10, 0.1
FAR = 1000.0  # logits of which a loss, however sure, must not make a profit without end
PROFIT = -50.0


@dataclass(frozen=True)
class Batch:
    """Predictions at random and targets, as a task has them: logits, or numbers."""

    task_type: str
    prediction: Tensor
    target: Tensor


def made(task_type: str, target: tuple[int, ...], outputs: int) -> Batch:
    """A batch of this task type whose targets have this shape each; the same one every time."""
    random = stream(0, f"adapting/{task_type}")
    n = next(size for size in SIZES if size not in (*target, outputs))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    if task_type in ("regression", "boxes"):
        return Batch(task_type, 0.7 * normal(n, *target), 0.7 * normal(n, *target))
    if task_type == "binary":
        return Batch(task_type, normal(n), torch.arange(n) % 2)
    if task_type == "multiclass":
        return Batch(task_type, normal(n, outputs), torch.arange(n) % outputs)
    if task_type == "segmentation":
        down = torch.linspace(0, 1, target[0])[:, None]  # more object further down, so that rows are unlike columns
        masks = (torch.rand(n, *target, generator=random) < 0.6 * down).long()  # and less object than background
        masks[:, 0, 0], masks[:, -1, -1] = 0, 1
        return Batch(task_type, normal(n, *target) + down, masks)
    if task_type == "sequence":
        tokens = torch.randint(1, max(2, outputs), (n, *target), generator=random)
        return Batch(
            task_type, normal(n, *target, outputs), tokens * (torch.arange(target[0]) <= torch.arange(n)[:, None])
        )
    return Batch(task_type, normal(8, outputs), torch.arange(8) % 4)


@dataclass
class Trial:
    """A loss called in one form on one batch."""

    loss: Any
    call: Call
    batch: Batch
    shape: tuple[int, ...] = field(default=(), init=False)

    def runs(self) -> bool:
        """Whether it gives finite terms, or one number, with a gradient; of an image whichever way it lies."""
        batch = self.batch
        try:
            raw = LossOutput.of(self.call.raw(self.loss, batch.prediction, batch.target)).per_example
            given, pull = self._pull(batch.prediction, batch.target)
        except (Exception, SystemExit):  # whatever a foreign loss does
            return False
        size = int(self.call.counts(batch.target).sum()) if self.call.each else len(batch.target)
        self.shape = () if raw.numel() == 1 else tuple(raw.shape)
        fits = self.shape[:1] in ((), (size,)) and given.shape in ((), (len(batch.target),))
        return bool(fits and given.isfinite().all() and pull.isfinite().all() and pull.any() and self._upright())

    def mean_loss(self) -> float:
        """What the batch costs; not a number where the loss fails."""
        try:
            torch.manual_seed(0)
            return self._cost(self.batch.prediction, self.batch.target).item()
        except (Exception, SystemExit):  # whatever a foreign loss does
            return math.nan

    def good(self) -> bool:
        return self.runs() and self.rank() == 0

    def rank(self) -> int:
        """0 for a loss that does what all of their kind do; higher for one that is taken for want of a better form."""
        for rank, does in ((2, self._prefers), (2, self._leads), (1, self._single)):
            try:
                if not does():
                    return rank
            except (Exception, SystemExit):  # whatever a foreign loss does
                return rank
        return 0

    def _cost(self, prediction: Tensor, target: Tensor) -> Tensor:
        return LossOutput.of(self.call.of(self.loss, prediction, target)).per_example.mean()

    def _pull(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        leaf = prediction.detach().clone().requires_grad_()
        per_example = LossOutput.of(self.call.of(self.loss, leaf, target)).per_example
        (pull,) = torch.autograd.grad(per_example.mean(), leaf)
        return per_example.detach(), pull

    def _upright(self) -> bool:
        """An image on its side costs the same: rows are no channels."""
        if self.batch.task_type != "segmentation":
            return True
        prediction, target = self.batch.prediction, self.batch.target
        lying = self._cost(prediction.transpose(1, 2).contiguous(), target.transpose(1, 2).contiguous())
        return _same(self._cost(prediction, target), lying)

    def _prefers(self) -> bool:
        """What is right costs less than what is not; of logits, being ever surer makes no profit without end."""
        target = self.batch.target
        if self.batch.task_type not in LOGITS:
            if self.batch.task_type == "embedding":
                return True
            right = self._cost(target.clone(), target)
            others = (target + 0.3, target - 0.3, 1.3 * target, 0.7 * target, self.batch.prediction)
            nearest = not any(bool(right > self._cost(other, target)) for other in others)
            return nearest and not (self.batch.task_type == "boxes" and self._mistakes_corners())
        right = _right(self.batch)
        surer, undecided, far = (self._cost(size * right, target) for size in (1.0, 0.0, FAR))
        return bool(surer < undecided - 1e-6 and not far < PROFIT)

    def _mistakes_corners(self) -> bool:
        """Offsets cost what they would as corners seen in a mirror, and otherwise once moved: a loss of IoU."""
        if self.call.prediction:
            return False
        given, target = self.batch.prediction, self.batch.target
        mirror = torch.tensor([-1.0, 1.0, -1.0, 1.0])
        seen = [(mirror * boxes)[:, [2, 1, 0, 3]] for boxes in (given, target)]
        moved = [boxes + torch.tensor([0.1, -0.2, 0.3, 0.4]) for boxes in (given, target)]
        mean_loss = self._cost(given, target)
        return _same(mean_loss, self._cost(*seen)) and not _same(mean_loss, self._cost(*moved))

    def _leads(self) -> bool:
        """Some steps of descent bring predictions nearer their targets; centres of classes may be anywhere yet."""
        if (
            self.batch.task_type == "embedding"
            and isinstance(self.loss, nn.Module)
            and next(self.loss.parameters(), None) is not None
        ):
            return True
        start = prediction = 0.1 * self.batch.prediction if self.batch.task_type in LOGITS else self.batch.prediction
        for _ in range(STEPS):
            _, pull = self._pull(prediction, self.batch.target)
            prediction = prediction - STRIDE * pull / pull.abs().max().clamp(min=1e-12)
        return bool((_far(self.batch, prediction) < _far(self.batch, start)).all())

    def _single(self) -> bool:
        """An example alone has a pull, whichever class it is of."""
        if self.batch.task_type not in ("binary", "segmentation", "multiclass"):
            return True
        for row in range(2):
            one = slice(row, row + 1)
            per_example, pull = self._pull(0.1 * self.batch.prediction[one], self.batch.target[one])
            if not (per_example.isfinite().all() and pull.isfinite().all() and pull.any()):
                return False
        return True


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def _right(batch: Batch) -> Tensor:
    """Logits of size 1 that are right."""
    if batch.task_type in ("binary", "segmentation"):
        return 2.0 * batch.target - 1
    return F.one_hot(batch.target, batch.prediction.shape[-1]).float()


def _far(batch: Batch, prediction: Tensor) -> Tensor:
    """How far predictions are from their targets: of each of two classes, or of all."""
    target = batch.target
    if batch.task_type in ("binary", "segmentation"):
        return torch.stack([-prediction[target == 1].mean(), prediction[target == 0].mean()])
    if batch.task_type in ("multiclass", "sequence"):
        right = F.one_hot(target, prediction.shape[-1])
        margins = (prediction * (1 - right)).sum(-1) / max(1, prediction.shape[-1] - 1) - (prediction * right).sum(-1)
        return (margins * (target != PAD)).sum() if batch.task_type == "sequence" else margins.mean()
    if batch.task_type == "embedding":
        near, same = F.normalize(prediction) @ F.normalize(prediction).T, target[:, None] == target
        return near[~same].mean() - near[same].mean()
    return (prediction - target).abs().mean()
