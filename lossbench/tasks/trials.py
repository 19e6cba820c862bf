"""Whether a foreign loss, called in some form on a made-up batch, behaves as every loss of its task type does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.config.task_types import load, named
from lossbench.core import LossOutput, stream
from lossbench.tasks.calls import Call
from lossbench.tasks.samples import same

SIZES = (6, 7, 9, 11, 13)  # of a batch; the first that no other axis has, so that a shape shows which axis is which
STEPS, STRIDE = 10, 0.1
FAR = 1000.0  # logits of which a loss, however sure, must not fall without bound
PROFIT = -50.0


@dataclass(frozen=True)
class Batch:
    """Random predictions (logits or numbers) and targets, as a task has them."""

    task_type: str
    prediction: Tensor
    target: Tensor


def batch_of(task_type: str, target: tuple[int, ...], outputs: int) -> Batch:
    """A batch of this task type whose targets each have this shape; the same one at every call."""
    random = stream(0, f"adapting/{named(task_type)}")
    n = next(size for size in SIZES if size not in (*target, outputs))
    return Batch(task_type, *load(task_type).made_up(n, target, outputs, random))


@dataclass
class Trial:
    """A loss called in one form on one batch."""

    loss: Any
    call: Call
    batch: Batch
    shape: tuple[int, ...] = field(default=(), init=False)

    @property
    def _task(self) -> Any:
        return load(self.batch.task_type)

    def runs(self) -> bool:
        """Whether it gives finite per-example losses, or one number, with a gradient; for images also on their side."""
        batch = self.batch
        try:
            raw = LossOutput.of(self.call.raw(self.loss, batch.prediction, batch.target)).per_example
            per_example, pull = self._pull(batch.prediction, batch.target)
        except (Exception, SystemExit):  # whatever a foreign loss raises
            return False
        size = int(self.call.counts(batch.target).sum()) if self.call.each else len(batch.target)
        self.shape = () if raw.numel() == 1 else tuple(raw.shape)
        fits = self.shape[:1] in ((), (size,)) and per_example.shape in ((), (len(batch.target),))
        return bool(fits and per_example.isfinite().all() and pull.isfinite().all() and pull.any() and self._upright())

    def mean_loss(self) -> float:
        """The mean loss of the batch; NaN where the loss fails."""
        try:
            torch.manual_seed(0)
            return self._mean_loss(self.batch.prediction, self.batch.target).item()
        except (Exception, SystemExit):  # whatever a foreign loss raises
            return math.nan

    def good(self) -> bool:
        """Whether it runs and behaves as every loss of its task type does."""
        return self.runs() and self.rank() == 0

    def rank(self) -> int:
        """0 if the loss behaves as all of its task type do; higher for a form to take only if none is better."""
        for rank, does in ((2, self._prefers), (2, self._leads), (1, self._single)):
            try:
                if not does():
                    return rank
            except (Exception, SystemExit):  # whatever a foreign loss raises
                return rank
        return 0

    def _mean_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return LossOutput.of(self.call.of(self.loss, prediction, target)).per_example.mean()

    def _pull(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        leaf = prediction.detach().clone().requires_grad_()
        per_example = LossOutput.of(self.call.of(self.loss, leaf, target)).per_example
        (pull,) = torch.autograd.grad(per_example.mean(), leaf)
        return per_example.detach(), pull

    def _upright(self) -> bool:
        """In another position, such as images on their side, the batch has the same mean loss."""
        transposed = self._task.transposed(self.batch.prediction, self.batch.target)
        return transposed is None or same(
            self._mean_loss(self.batch.prediction, self.batch.target), self._mean_loss(*transposed)
        )

    def _prefers(self) -> bool:
        """Right predictions have the lower mean loss; for logits, it does not fall without bound as they grow."""
        prediction, target = self.batch.prediction, self.batch.target
        right = self._task.right(prediction, target)
        if right is None:
            return True
        if not self._task.logits:
            others = (target + 0.3, target - 0.3, 1.3 * target, 0.7 * target, prediction)
            least = self._mean_loss(right, target)
            nearest = not any(bool(least > self._mean_loss(other, target)) for other in others)
            return nearest and (
                bool(self.call.prediction) or not self._task.mistaken(self._mean_loss, prediction, target)
            )
        surer, undecided, far = (self._mean_loss(size * right, target) for size in (1.0, 0.0, FAR))
        return bool(surer < undecided - 1e-6 and not far < PROFIT)

    def _leads(self) -> bool:
        """Some steps of descent bring predictions nearer their targets; not asked of centres that are still random."""
        learns = isinstance(self.loss, nn.Module) and next(self.loss.parameters(), None) is not None
        if self._task.identities and learns:
            return True
        target = self.batch.target
        start = prediction = 0.1 * self.batch.prediction if self._task.logits else self.batch.prediction
        for _ in range(STEPS):
            _, pull = self._pull(prediction, target)
            prediction = prediction - STRIDE * pull / pull.abs().max().clamp(min=1e-12)
        return bool((self._task.apart(prediction, target) < self._task.apart(start, target)).all())

    def _single(self) -> bool:
        """A single example has a gradient, whichever its class."""
        if not self._task.logits or self._task.filler is not None:
            return True
        for row in range(2):
            one = slice(row, row + 1)
            per_example, pull = self._pull(0.1 * self.batch.prediction[one], self.batch.target[one])
            if not (per_example.isfinite().all() and pull.isfinite().all() and pull.any()):
                return False
        return True
