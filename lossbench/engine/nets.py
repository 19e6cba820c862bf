"""The nets of a run or a stack: one module a player, or many replicas of it stacked behind the same call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.fx
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
        """Replicas of the same nets as one: parameters [replica, …], calls on inputs [replica, batch, …].

        The replicas stay what they were, as views: each always holds its own slice of what the stack has learned.
        """
        names = [name for name, _ in replicas[0].named_children()]
        return Nets(**{name: Stacked([getattr(nets, name) for nets in replicas]) for name in names})

    def snapshot(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}


class Stacked(nn.Module):
    """Modules of one architecture as a single module over a leading replica axis.

    All numbers that learn lie in `rows` [replica, numbers], one contiguous row a replica, in the order of `names`.
    """

    rows: Tensor

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(list(modules))
        self.names = list(parameters)
        self._shapes = [tensor.shape[1:] for tensor in parameters.values()]
        self.register_buffer(
            "rows", torch.cat([tensor.detach().reshape(len(modules), -1) for tensor in parameters.values()], 1)
        )
        for name, tensor in zip(self.names, self.split(self.rows), strict=True):
            self.register_parameter(name.replace(".", "/"), nn.Parameter(tensor, parameters[name].requires_grad))
            for module, view in zip(modules, tensor, strict=True):
                module.get_parameter(name).data = view
        self._fixed = buffers
        self._skeleton = (copy.deepcopy(modules[0]).to("meta"),)  # in a tuple: its parameters are not this module's
        self._layers = _chain(self._skeleton[0])

    def split(self, rows: Tensor) -> list[Tensor]:
        """Numbers [..., numbers] as one tensor [..., *shape] a parameter, sharing memory."""
        parts = rows.split([shape.numel() for shape in self._shapes], -1)
        return [part.view((*part.shape[:-1], *shape)) for part, shape in zip(parts, self._shapes, strict=True)]

    def forward(self, inputs: Tensor) -> Tensor:
        if self._layers is not None and (inputs.dim() == 3 or isinstance(self._layers[0][1], nn.Flatten)):
            return self._products(self._layers, inputs)

        def call(state: dict[str, Tensor], batch: Tensor) -> Tensor:
            return functional_call(self._skeleton[0], state, (batch,))

        state = dict(zip(self.names, self.parameters(), strict=True)) | self._fixed
        return vmap(call)(state, inputs)

    def _products(self, layers: Sequence[tuple[str, nn.Module]], hidden: Tensor) -> Tensor:
        """A chain of linear layers, each one batched product: vmap adds the bias in a pass of its own."""
        for name, layer in layers:
            if isinstance(layer, nn.Linear):
                weight, bias = (getattr(self, f"{name}/{what}") for what in ("weight", "bias"))
                hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
            else:
                hidden = hidden.flatten(2) if isinstance(layer, nn.Flatten) else layer(hidden)
        return hidden


def _chain(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The layers of a module that is a chain of linear ones with bias and ReLU between; None for any other."""
    try:
        graph = torch.fx.symbolic_trace(module).graph
    except Exception:  # what it computes depends on its input
        return None
    first, *calls, last = graph.nodes
    layers: list[tuple[str, nn.Module]] = []
    for before, node in pairwise([first, *calls]):
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" and node.args == (before,) else None
        linear = isinstance(layer, nn.Linear) and layer.bias is not None
        flat = type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1) and not layers
        if layer is None or not (linear or flat or type(layer) is nn.ReLU):
            return None
        layers.append((str(node.target).replace(".", "/"), layer))
    return layers if layers and type(layers[0][1]) is not nn.ReLU and last.args == (calls[-1],) else None


class Called(nn.Module):
    """A player as a step calls it: compiled, or in bfloat16 with its weights and what it returns in float32."""

    def __init__(self, player: nn.Module, precision: str, compiled: str | None) -> None:
        super().__init__()
        self.player = player
        self._call: Callable[..., Tensor] = torch.compile(player, mode=compiled) if compiled else player
        self._bfloat16 = precision == "bfloat16"

    def forward(self, inputs: Tensor) -> Tensor:
        if not self._bfloat16:
            return self._call(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return self._call(inputs).float()


@torch.inference_mode()
def predict(call: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """`call` over inputs [n, …] in chunks, so that memory stays bounded; result [n, …]."""
    return torch.cat([call(chunk) for chunk in inputs.split(CHUNK)])
