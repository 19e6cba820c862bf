"""Trials: time and memory of a step of some replicas, measured on copies, so that nothing is trained."""

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

from lossbench.core import Outputs, Split, tensors_of
from lossbench.engine.predict import predict
from lossbench.engine.randomness import seeded
from lossbench.engine.stack import Plan, Replica, Stack

WARM, TIMED = 2, 5  # steps
MEAN_S = 0.2  # seconds, at least, over which a mean is taken
FEW = 16  # examples of validation that are predicted to compare
COMPARED = 2  # steps of a stack and of its replicas alone
ROUNDING, TINY = 1e-3, 1e-6  # tolerances: relative to the largest number of a tensor, and absolute


def step_s(replicas: Sequence[Replica], plan: Plan, *, threads: int = 0) -> float:
    """Seconds of one step of these replicas together: the least of a few, since disturbances only add time.

    `threads` is the number of CPU threads, 0 for as many as torch uses now. Raises: any error that keeps the replicas
    from training together.
    """
    with _trial_step(replicas, plan, threads) as step:
        return min([step() for _ in range(WARM + TIMED)][WARM:])


def mean_s(replicas: Sequence[Replica], plan: Plan, *, threads: int) -> float:
    """Mean seconds of one step of these replicas together, with whatever else the machine does now."""
    with _trial_step(replicas, plan, threads) as step:
        seconds = [step() for _ in range(WARM)]
        while len(seconds) < WARM + TIMED or sum(seconds[WARM:]) < MEAN_S:
            seconds.append(step())
    return sum(seconds[WARM:]) / len(seconds[WARM:])


def largest(replica: Replica, plan: Plan) -> int:
    """Elements of the largest tensor that a step trains or saves for its gradients."""
    sizes = [parameter.numel() for parameter in replica.nets.parameters()]

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with seeded(replica.seed, "trial"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        Stack([_copy(replica)], [None], plan).step()
    return max(sizes, default=0)


def difference(replicas: Sequence[Replica], plan: Plan) -> str:
    """How training in a stack differs from training each of these replicas alone; empty where it does not.

    A stack runs a model once for all replicas. That differs where a model or a loss draws random numbers of
    its own, mixes a batch with others, or has state that is not a buffer. Losses and norms of gradients of the
    first steps, and all buffers, are compared up to rounding; then predictions. Raises: any error that keeps them from
    being stacked, such as an operator that `vmap` would call once per replica.
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
            member.nets.restore(
                single.nets.snapshot()
            )  # so that a difference now comes from state outside parameters and buffers
            few = next(single.validation.chunks(FEW))
            stacked, expected = (predict(one.task, one.nets, few, one.seed) for one in (member, single))
            if not all(map(_close, _tensors(expected), _tensors(stacked))):
                return "it has state that is neither parameter nor buffer"
    return ""


def nbytes(replica: Replica, plan: Plan) -> int:
    """Bytes that one more replica takes: its data, weights, gradients, optimizer state and activations.

    Activations are what autograd saves in a step, counted twice, since their gradients take as much.
    """
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with seeded(replica.seed, "trial"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alone = Stack([_copy(replica)], [None], plan)
        alone.step()
    weights = sum(p.nbytes for p in alone.nets.parameters())
    state = sum(
        value.nbytes
        for step in alone.optimizer_steps.values()
        for of_parameter in step.states()[0].values()
        for value in of_parameter.values()
        if isinstance(value, Tensor)
    )
    splits = (replica.train, replica.train, replica.validation)  # train once more, in the stack's pool
    data = sum(tensor.nbytes for split in splits for tensor in _tensors_of(split))
    own = {tensor.untyped_storage().data_ptr() for tensor in (*alone.nets.parameters(), replica.train.inputs)}
    activations = sum(size for pointer, size in saved.items() if pointer not in own)
    return data + 3 * weights + state + 2 * activations  # weights: themselves, their gradients, the best step's


def _tensors_of(split: Split) -> list[Tensor]:
    weights = [] if split.weights is None else [split.weights]
    return [split.inputs, *tensors_of(split.targets), *weights]


def _few_steps(stack: Stack) -> None:
    """Two steps, since the state that a model has after the first shows in the second."""
    for _ in range(COMPARED):
        stack.step()


def _tensors(outputs: Outputs) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [outputs[name] for name in sorted(outputs)]


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.double(), b.double()
    return bool(((a - b).abs() <= ROUNDING * b.abs().max() + TINY).all() | (a.isnan() & b.isnan()).all())


@contextmanager
def _trial_step(replicas: Sequence[Replica], plan: Plan, threads: int) -> Iterator[Callable[[], float]]:
    """A function that makes one step of copies and returns its seconds; with 0 threads, as many as torch uses now."""
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
    # copied together, so that the copied optimizers update the copied nets; a loss may have parameters, too
    nets, optimizers, loss = copy.deepcopy((replica.nets, dict(replica.optimizers), replica.task.loss))
    task: Any = replica.task
    return replace(
        replica, task=replace(task, loss=loss), nets=nets, optimizers=optimizers, record=lambda step, values: None
    )
