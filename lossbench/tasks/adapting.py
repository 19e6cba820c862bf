"""Losses of other packages: the form in which each is called is found by trying it, once, before training."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.config.task_types import load
from lossbench.core import ConfigError, card_of
from lossbench.tasks.calls import ALONE, MULTICLASS, Call
from lossbench.tasks.trials import Batch, Trial, batch_of

FIRST = ("target", "targets", "label", "labels", "y", "y_true", "true", "truth", "gt")
SECOND = ("prediction", "predictions", "pred", "preds", "logits", "input", "output", "outputs", "scores", "y_pred")
ONE_NUMBER = "gives one number a batch: no values of single examples, so runs of a stack are sequential"
ASTRAY = "its descent does not lead to the targets, as far as a made-up batch shows"


@dataclass(frozen=True)
class Adapted:
    """A loss as its task calls it, with notes on what was adapted.

    `call` is the form that was found, `leads` whether the loss behaves as losses of its task type do; None if no form
    was found.
    """

    loss: Any
    notes: tuple[str, ...] = ()
    call: Call = ALONE
    leads: bool | None = None

    def __str__(self) -> str:
        return "; ".join(self.notes)


def adapted(loss: Any, task_type: str, target: tuple[int, ...], outputs: int) -> Adapted:
    """A loss without a card in the form that it wants; one with a card, or of a task type without forms, as it is.

    `target` is the shape of one target, `outputs` how many numbers a net gives for it. The forms are tried in order
    on a made-up batch. The first in which the loss behaves as every loss of its task type does is taken; if there is
    none, the first in which it runs. A loss that runs in no form stays as it is, and fails on the first batch.

    Raises: ConfigError for a loss of classes on embeddings, whose axes it would take for classes.
    """
    task = load(task_type)
    if not task.forms or card_of(loss) is not None or hasattr(loss, "critic"):
        return Adapted(loss)
    batch = batch_of(task_type, target, outputs)
    calls = [call.swapped() for call in task.forms] if _target_first(loss) else task.forms
    with _quiet():
        if task.identities and _of_classes(loss, batch):
            raise ConfigError(
                f"loss: {getattr(loss, '__name__', type(loss).__name__)} reads a logit a class, which embeddings are "
                "not; use loss=cross_entropy, which learns logits from them"
            )
        trials = [(trial.rank(), trial) for call in calls if (trial := Trial(_copy(loss), call, batch)).runs()]
    if not trials:
        return Adapted(loss)
    rank, best = min(trials, key=lambda ranked: ranked[0])  # of equal rank the first
    notes = [best.call.note] if best.call.note else []
    if best.shape == ():
        notes.append(ONE_NUMBER)
    elif len(best.shape) > 1:
        notes.append(f"gives {_shape(best.shape)}, whose mean over each example is taken")
    if rank > 1:
        notes.append(ASTRAY)
    plain = best.call == ALONE and len(best.shape) < 2
    return Adapted(loss if plain else partial(called, loss, best.call), tuple(notes), best.call, rank < 2)


def called(loss: Callable[..., Any], call: Call, prediction: Tensor, target: Tensor) -> Any:
    """A loss called in another form: per-example losses [batch], or one number.

    Raises: any error of the loss.
    """
    return call.of(loss, prediction, target)


def wanted(loss: Any) -> list[str]:
    """All arguments that a loss requires, if these are more than prediction and target; else none."""
    call = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # written in another language
        return []
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in required] if len(required) > 2 else []


def _of_classes(loss: Any, batch: Batch) -> bool:
    """Whether a loss without parameters depends on how identities are numbered, and is one of class logits."""
    if isinstance(loss, nn.Module) and next(loss.parameters(), None) is not None:
        return False
    renamed = Batch(batch.task_type, batch.prediction, batch.target.max() - batch.target)
    one, other = (Trial(_copy(loss), ALONE, one_batch).mean_loss() for one_batch in (batch, renamed))
    if math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-5) or math.isnan(one + other):
        return False
    return any(Trial(_copy(loss), call, batch_of("multiclass", (), 10)).good() for call in MULTICLASS)


def _target_first(loss: Any) -> bool:
    """Whether the names of a loss's arguments say that the target comes first."""
    call = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        names = [p.name for p in inspect.signature(call).parameters.values()]
    except (TypeError, ValueError):
        return False
    return len(names) > 1 and names[0] in FIRST and names[1] in SECOND


def _copy(loss: Any) -> Any:
    """A copy of a loss, so that trying it changes nothing; the loss itself if it cannot be copied."""
    try:
        return copy.deepcopy(loss)
    except Exception:  # whatever a foreign loss holds
        return loss


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, there are no warnings; afterwards the global generator is as it was."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Using a target size")  # that broadcasts: no loss of pairs
        torch.manual_seed(0)
        yield


def _shape(shape: tuple[int, ...]) -> str:
    return f"[batch, {', '.join(map(str, shape[1:]))}]"
