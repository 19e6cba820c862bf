"""The nets of a run or a stack: one module a player, or many replicas of it stacked behind the same call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

CHUNK = 4096  # examples that one forward pass takes at evaluation


class Nets(nn.Module):
    """Players by name, as attributes: `nets.model(inputs)`."""

    def __init__(self, **players: nn.Module) -> None:
        super().__init__()
        for name, player in players.items():
            self.add_module(name, player)

    @staticmethod
    def stack(replicas: Sequence[Nets]) -> Nets:
        """Replicas of the same nets as one: parameters [replica, …], calls on inputs [replica, batch, …]."""
        names = [name for name, _ in replicas[0].named_children()]
        return Nets(**{name: Stacked([getattr(nets, name) for nets in replicas]) for name in names})

    def snapshot(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}


class Stacked(nn.Module):
    """Modules of one architecture as a single module over a leading replica axis."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(list(modules))
        for path, tensor in parameters.items():
            self.register_parameter(path.replace(".", "/"), nn.Parameter(tensor.detach()))
        for path, tensor in buffers.items():
            self.register_buffer(path.replace(".", "/"), tensor)
        self._skeleton = (copy.deepcopy(modules[0]).to("meta"),)  # in a tuple: its parameters are not this module's

    def forward(self, inputs: Tensor) -> Tensor:
        def call(state: dict[str, Tensor], batch: Tensor) -> Tensor:
            return functional_call(self._skeleton[0], state, (batch,))

        tensors = (*self.named_parameters(), *self.named_buffers())
        return vmap(call)({name.replace("/", "."): tensor for name, tensor in tensors}, inputs)


@torch.inference_mode()
def predict(call: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """`call` over inputs [n, …] in chunks, so that memory stays bounded; result [n, …]."""
    return torch.cat([call(chunk) for chunk in inputs.split(CHUNK)])
