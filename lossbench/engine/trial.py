"""Trials: what a step of some replicas costs, measured on copies so that nothing has been trained afterwards."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossbench.engine.stack import Plan, Replica, Stack

WARM, TIMED = 2, 5  # steps


def step_s(replicas: Sequence[Replica], plan: Plan, *, threads: int = 0) -> float:
    """Seconds of one step of these replicas together: the least of a few, since what disturbs only adds.

    `threads` of a CPU, 0 for as many as torch uses now. Raises: whatever keeps the replicas from training together.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        stack = Stack([_copy(replica) for replica in replicas], [None] * len(replicas), plan)
        device = replicas[0].train.inputs.device
        return min([_timed(stack, device) for _ in range(WARM + TIMED)][WARM:])
    finally:
        torch.set_num_threads(before)


def nbytes(replica: Replica, plan: Plan) -> int:
    """Memory that one more replica takes: its data, its weights with all that goes with them, its activations.

    Activations are what autograd keeps in a step, twice, since their gradients take as much.
    """
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    alone = Stack([_copy(replica)], [None], plan)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alone.step()
    weights = sum(p.nbytes for p in alone.nets.parameters())
    kept = sum(
        value.nbytes
        for mover in alone.movers.values()
        for state in mover.states()[0].values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
    splits = (replica.train, replica.train, replica.validation)  # train once more, in the stack's pool
    data = sum(split.inputs.nbytes + split.targets.nbytes for split in splits)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*alone.nets.parameters(), replica.train.inputs)}
    activations = sum(size for pointer, size in held.items() if pointer not in own)
    return data + 3 * weights + kept + 2 * activations  # weights: themselves, their gradients, the best step's


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
