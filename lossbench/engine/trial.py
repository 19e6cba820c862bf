"""Trials: what a step of some replicas costs, measured on copies so that nothing has been trained afterwards."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lossbench.core import Outputs, tensors_of
from lossbench.engine.predict import predict
from lossbench.engine.randomness import seeded
from lossbench.engine.stack import Plan, Replica, Stack

WARM, TIMED = 2, 5  # steps
MEAN_S = 0.2  # at least, of which a mean is taken
FEW = 16  # examples of validation that are predicted to compare
COMPARED = 2  # steps of a stack and of its replicas alone
ROUNDING, TINY = 1e-3, 1e-6  # up to which they are the same, relative to the largest number of its kind and absolutely


def step_s(replicas: Sequence[Replica], plan: Plan, *, threads: int = 0) -> float:
    """Seconds of one step of these replicas together: the least of a few, since what disturbs only adds.

    `threads` of a CPU, 0 for as many as torch uses now. Raises: whatever keeps the replicas from training together.
    """
    with _trying(replicas, plan, threads) as step:
        return min([step() for _ in range(WARM + TIMED)][WARM:])


def mean_s(replicas: Sequence[Replica], plan: Plan, *, threads: int) -> float:
    """Seconds of one step of these replicas together in the mean: with all that disturbs now."""
    with _trying(replicas, plan, threads) as step:
        took = [step() for _ in range(WARM)]
        while len(took) < WARM + TIMED or sum(took[WARM:]) < MEAN_S:
            took.append(step())
    return sum(took[WARM:]) / len(took[WARM:])


def largest(replica: Replica, plan: Plan) -> int:
    """Elements of the largest tensor that a step trains or keeps for its gradients."""
    sizes = [parameter.numel() for parameter in replica.nets.parameters()]

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with seeded(replica.seed, "trial"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        Stack([_copy(replica)], [None], plan).step()
    return max(sizes, default=0)


def difference(replicas: Sequence[Replica], plan: Plan) -> str:
    """How a stack of these replicas trains otherwise than each of them alone; empty where it does not.

    A stack runs a model once for all replicas. That is not the same where a model or a loss draws random numbers of
    its own, mixes what is in a batch with what was in others, or keeps something that is no buffer. Losses and norms
    of gradients of the first steps, and all buffers, are compared, up to rounding; then predictions. Raises: whatever
    keeps them from being stacked, operators among it that vmap would call once a replica.
    """
    with seeded(replicas[0].seed, "trial"), warnings.catch_warnings():
        warnings.filterwarnings("error", "There is a performance drop because we have not yet implemented the batching")
        together = [_copy(replica) for replica in replicas]
        stack = Stack(together, [None] * len(replicas), plan)
        _few_steps(stack)
        recorded = {name: torch.stack(values) for name, values in stack.window.items()}  # [step, replica]
        for place, (replica, member) in enumerate(zip(replicas, together, strict=True)):
            single = _copy(replica)
            alone = Stack([single], [None], plan)
            _few_steps(alone)
            for name, values in alone.window.items():
                if not _close(torch.stack(values)[:, 0], recorded[name][:, place]):
                    return f"{name.removeprefix('train/')} differs"
            buffers = dict(member.nets.named_buffers())
            for name, buffer in single.nets.named_buffers():
                if not _close(buffer, buffers[name]):
                    return f"the buffer {name.removeprefix('model.')} differs"
            member.nets.restore(single.nets.snapshot())  # what is left is kept outside of parameters and buffers
            few = next(single.validation.chunks(FEW))
            found, expected = (predict(one.task, one.nets, few, one.seed) for one in (member, single))
            if not all(map(_close, _tensors(expected), _tensors(found))):
                return "it keeps something that is neither parameter nor buffer"
    return ""


def nbytes(replica: Replica, plan: Plan) -> int:
    """Memory that one more replica takes: its data, its weights with all that goes with them, its activations.

    Activations are what autograd keeps in a step, twice, since their gradients take as much.
    """
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with seeded(replica.seed, "trial"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alone = Stack([_copy(replica)], [None], plan)
        alone.step()
    weights = sum(p.nbytes for p in alone.nets.parameters())
    kept = sum(
        value.nbytes
        for mover in alone.optimizer_steps.values()
        for state in mover.states()[0].values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
    splits = (replica.train, replica.train, replica.validation)  # train once more, in the stack's pool
    data = sum(tensor.nbytes for split in splits for tensor in (split.inputs, *tensors_of(split.targets)))
    own = {tensor.untyped_storage().data_ptr() for tensor in (*alone.nets.parameters(), replica.train.inputs)}
    activations = sum(size for pointer, size in held.items() if pointer not in own)
    return data + 3 * weights + kept + 2 * activations  # weights: themselves, their gradients, the best step's


def _few_steps(stack: Stack) -> None:
    """Two, since what a model keeps of the first shows in the second."""
    for _ in range(COMPARED):
        stack.step()


def _tensors(outputs: Outputs) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [outputs[name] for name in sorted(outputs)]


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.double(), b.double()
    return bool(((a - b).abs() <= ROUNDING * b.abs().max() + TINY).all() | (a.isnan() & b.isnan()).all())


@contextmanager
def _trying(replicas: Sequence[Replica], plan: Plan, threads: int) -> Iterator[Callable[[], float]]:
    """A step of copies with so many threads, in seconds; 0 for as many as torch uses now."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with seeded(replicas[0].seed, "trial"):
            stack = Stack([_copy(replica) for replica in replicas], [None] * len(replicas), plan)
            yield partial(_timed, stack, replicas[0].train.inputs.device)
    finally:
        torch.set_num_threads(before)


def _timed(stack: Stack, device: torch.device) -> float:
    start = time.perf_counter()
    stack.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _copy(replica: Replica) -> Replica:
    # at once, so that one moves the other; a loss may learn, too
    nets, optimizers, loss = copy.deepcopy((replica.nets, dict(replica.optimizers), replica.task.loss))
    task: Any = replica.task
    return replace(
        replica, task=replace(task, loss=loss), nets=nets, optimizers=optimizers, record=lambda step, values: None
    )
