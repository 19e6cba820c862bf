"""Clauses on the interface of a loss: how it is called, what it returns, and that it changes nothing else."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.config.task_types import load
from lossbench.contract.calling import Broken, NotAsked, Trial, for_player
from lossbench.contract.samples import DTYPES, at_random
from lossbench.core import LossOutput
from lossbench.core.failures import one_line
from lossbench.runs.builders import PARAMETER_NAMES
from lossbench.tasks.samples import Sample

LOOKS = "loss(prediction, target, *, hyper-parameters)"
TARGETS = ("target", "targets", "label", "labels", "y", "y_true", "true", "truth")
PREDICTIONS = ("prediction", "predictions", "pred", "preds", "logits", "input", "output", "outputs", "scores", "y_pred")
PROBABILITIES = "it seems to want probabilities; take logits, and log_softmax or logsigmoid inside"


def signature(trial: Trial) -> str:
    """Prediction and target by position, hyper-parameters by keyword and with defaults."""
    loss, several = trial.loss, len(trial.players) > 1
    calls = [getattr(loss, name) for name in trial.players] if several else [_callable(loss)]
    needed = 3 if several else 2
    for call in calls:
        try:
            parameters = [p for p in inspect.signature(call).parameters.values() if p.name != "self"]
        except (TypeError, ValueError):
            raise NotAsked("written in another language: it has no signature to read") from None
        _positional(parameters, needed, trial)
    if isinstance(loss, type):
        _defaults(list(inspect.signature(loss).parameters.values()), trial)
    return f"{' and '.join(trial.players)} of (D, real, fake)" if several else LOOKS


def _callable(loss: Any) -> Callable[..., Any]:
    if isinstance(loss, type):
        return loss.forward if issubclass(loss, nn.Module) else loss.__call__
    return loss.forward if isinstance(loss, nn.Module) else loss


def _positional(parameters: list[inspect.Parameter], needed: int, trial: Trial) -> None:
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = f"takes ({', '.join(p.name for p in parameters)})"
    looks = "critic(D, real, fake) and generator(D, real, fake)" if needed == 3 else LOOKS
    if len(positional) < needed and not any(p.kind == p.VAR_POSITIONAL for p in parameters):
        raise Broken(f"{names}: it is called with {needed} positional arguments", f"make it {looks}")
    if needed == 2 and positional[1:] and positional[0].name in TARGETS and positional[1].name in PREDICTIONS:
        raise Broken(f"{names}: the target first", f"swap the first two: {looks}")
    beyond = [p.name for p in positional[needed:] if not (needed == 3 and p.name == "noise")]
    if beyond:
        raise Broken(f"{names}: {', '.join(beyond)} by position", f"put a * before {beyond[0]}: {looks}")
    _defaults([p for p in parameters if p.kind == p.KEYWORD_ONLY], trial)


def _defaults(settings: list[inspect.Parameter], trial: Trial) -> None:
    needs = trial.card.needs if trial.card else [name for names in PARAMETER_NAMES.values() for name in names]
    named = [p for p in settings if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    bare = [p.name for p in named if p.default is p.empty and p.name not in needs]
    if bare:
        raise Broken(f"no default for {', '.join(bare)}", "give every hyper-parameter the default of its paper")


def callable_(trial: Trial) -> str:
    """On a batch of the task's tensors it returns a tensor."""
    sample = at_random(trial.task_type, trial.outputs_per_target).to(torch.float32)
    for player in trial.players:
        try:
            output = LossOutput.of(trial.raw(sample, player)).per_example
        except Exception as error:  # whatever a foreign loss does
            raise Broken(f"raised {one_line(error)}{for_player(player)}", _why(trial, sample)) from error
        if not isinstance(output, Tensor):
            raise Broken(
                f"returned a {type(output).__name__}{for_player(player)}", "return the per-example losses as a tensor"
            )
        if not trial.task.logits and not output.isfinite().all():  # logits: see numbers.logits
            raise Broken(
                f"not finite at ordinary predictions{for_player(player)}", "look for a log, root or quotient of them"
            )
    return f"on prediction {list(sample.prediction.shape)} and target {list(sample.target.shape)}"


def _why(trial: Trial, sample: Sample) -> str:
    takes = f"take prediction {list(sample.prediction.shape)} and target {list(sample.target.shape)}"
    return hint(trial, sample) or takes


def hint(trial: Trial, sample: Sample) -> str:
    """Which other predictions or targets the loss would take, for a message; empty if none is found."""
    signs, floats = replace(sample, target=2 * sample.target - 1), sample.target.to(sample.prediction.dtype)
    if trial.task.logits and _takes(trial, probable(sample)):
        return PROBABILITIES
    if trial.task.one_logit and _takes(trial, replace(sample, target=floats)):
        return "labels are whole numbers: begin with target.to(prediction.dtype)"
    if trial.task.one_logit and _takes(trial, signs):
        return "it seems to want targets −1 and +1; say so by card(signed_targets=True), or take 0 and 1"
    if len(trial.players) == 1 and _takes(trial, replace(sample, prediction=sample.target, target=sample.prediction)):
        return f"it works with the two swapped: make it {LOOKS}"
    return ""


def probable(sample: Sample) -> Sample:
    """Probabilities where there were logits."""
    return replace(sample, prediction=load(sample.task_type).probabilities(sample.prediction))


def _takes(trial: Trial, sample: Sample) -> bool:
    try:
        per_example = trial.per_example(sample)
        return per_example.shape[:1] in ((), (len(sample),)) and bool(per_example.isfinite().all())
    except Exception:  # whatever a foreign loss does
        return False


def shape(trial: Trial) -> str:
    """One loss per example; one number only where its card says that it takes the whole batch at once."""
    sample = at_random(trial.task_type, trial.outputs_per_target)
    for player in trial.players:
        per_example = trial.per_example(sample, player)
        if tuple(per_example.shape) == (len(sample),) or (not per_example.dim() and trial.batch):
            continue
        if not per_example.dim():
            raise Broken(
                f"one number for a batch of {len(sample)}{for_player(player)}: it reduces silently",
                "leave out the mean or sum over the batch; if it needs the whole batch, say so by card(batch=True)",
            )
        raise Broken(
            f"{list(per_example.shape)} for a batch of {len(sample)}{for_player(player)}", f"return [{len(sample)}]"
        )
    return "one number per batch, as its card says" if not per_example.dim() else f"[{len(sample)}]"


def dtype(trial: Trial) -> str:
    """Per-example losses in the floating type of the prediction."""
    for wanted in DTYPES:
        for player in trial.players:
            found = trial.per_example(at_random(trial.task_type, trial.outputs_per_target).to(wanted), player).dtype
            if found != wanted:
                raise Broken(
                    f"{name(found)} of a prediction in {name(wanted)}{for_player(player)}",
                    "return losses.to(prediction.dtype), and make tensors by prediction.new_tensor(…)",
                )
    return ", ".join(map(name, DTYPES))


def name(dtype: torch.dtype) -> str:
    """The name of a floating type, without `torch.`."""
    return str(dtype).removeprefix("torch.")


def generator(trial: Trial) -> str:
    """The loss leaves the global random generators alone; only its initial parameters may be drawn from them."""
    sample, fresh = at_random(trial.task_type, trial.outputs_per_target), trial.at()
    original = _states()
    fresh.built_for(sample)
    before = _moved_states()
    try:
        for player in trial.players:
            fresh.per_example(sample, player)
        moved = [whose for whose, state in _states().items() if _comparable(state) != _comparable(before[whose])]
    finally:
        torch.random.set_rng_state(original["torch's"])
        random.setstate(original["Python's"])
        np.random.set_state(original["NumPy's"])  # noqa: NPY002
    if moved:
        raise Broken(
            f"{' and '.join(moved)} global generator has moved",
            "draw from a torch.Generator: card(needs=('generator',)) gives the loss one that follows the seed",
        )
    return "where they were"


def _moved_states() -> dict[str, Any]:
    """The states of the generators, moved first to where no loss would have set them."""
    torch.rand(1), random.random(), np.random.random()  # noqa: NPY002
    return _states()


def _states() -> dict[str, Any]:
    return {
        "torch's": torch.random.get_rng_state(),
        "Python's": random.getstate(),
        "NumPy's": np.random.get_state(),  # noqa: NPY002
    }


def _comparable(state: Any) -> list[Any]:
    """The numbers of a state, in a form that can be compared."""
    return [part.tolist() if hasattr(part, "tolist") else part for part in state]


def inputs(trial: Trial) -> str:
    """The loss does not write to prediction and target."""
    for player in trial.players:
        sample = at_random(trial.task_type, trial.outputs_per_target)
        tensors = {"prediction": sample.prediction, "target": sample.target, "critic": sample.weights}
        before = {name: (t.clone(), t._version) for name, t in tensors.items() if t is not None}
        trial.raw(sample, player)
        for name, (values, version) in before.items():
            tensor: Any = tensors[name]
            if not torch.equal(tensor, values) or tensor._version != version:
                raise Broken(
                    f"the {name} was written to{for_player(player)}",
                    "use operations without _ at their end, and no x[…] = …",
                )
    return "untouched"


def repeat(trial: Trial) -> str:
    """Two calls return the same."""
    sample = at_random(trial.task_type, trial.outputs_per_target)
    for player in trial.players:
        first, second = (trial.per_example(sample, player) for _ in range(2))
        if not torch.allclose(first, second, rtol=0, atol=0, equal_nan=True):
            apart = (first - second).abs().max().item()
            raise Broken(
                f"{apart:.3g} apart in two calls{for_player(player)}",
                "keep no state between calls, and draw no random numbers",
            )
    return "the same to the bit"
