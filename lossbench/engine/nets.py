"""The nets of a run or a stack: one module a player, or many replicas of it stacked behind the same call."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lossbench.engine.dropout import Streams, drawing_from

Chain = list[tuple[str, nn.Module]]


class Nets(nn.Module):
    """Players by name, as attributes: `nets.model(inputs)`; and `loss`, if that has parameters or buffers.

    `initial` is the hash of the initial weights. Raises: AttributeError for a player that is not there.
    """

    initial = ""

    def __init__(self, **players: nn.Module) -> None:
        super().__init__()
        for name, player in players.items():
            self.add_module(name, player)

    @staticmethod
    def stack(replicas: Sequence[Nets]) -> Nets:
        """Replicas of the same nets as one: parameters [replica, …], calls on inputs [replica, batch, …].

        The replicas remain usable: their parameters become views of the stack's, each of its own slice.

        Raises: ValueError for a loss with parameters or buffers, since a loss is called for one replica only.
        """
        names = [name for name, _ in replicas[0].named_children()]
        if "loss" in names:
            raise ValueError("a loss with parameters or buffers cannot be stacked")
        return Nets(**{name: Stacked([getattr(nets, name) for nets in replicas]) for name in names})

    def state(self) -> dict[str, Tensor]:
        """Every parameter and buffer by name, including those that a module leaves out of its `state_dict`."""
        return {name: tensor.detach() for name, tensor in chain(self.named_parameters(), self.named_buffers())}

    def hash(self) -> str:
        """The first 16 digits of a SHA-256 over every parameter and buffer."""
        digest = hashlib.sha256()
        for name, tensor in self.state().items():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of every parameter and buffer by name."""
        return {name: tensor.clone() for name, tensor in self.state().items()}

    @torch.no_grad()
    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Copy the values of a snapshot back into the parameters and buffers."""
        for name, tensor in self.state().items():
            tensor.copy_(snapshot[name])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode inside; afterwards each module is in the mode in which it was."""
        before = {module: module.training for module in self.modules()}
        self.eval()
        try:
            yield
        finally:
            for module, training in before.items():
                module.training = training


class Stacked(nn.Module):
    """Modules of one architecture as a single module over a leading replica axis, in training mode.

    All trainable numbers lie in `rows` [replica, numbers], one contiguous row a replica, in the order of `names`.
    Buffers are stacked beside them, and updated where a call updates them. Dropout draws from `streams`.

    Raises: ValueError for trainable parameters of several precisions.
    """

    rows: Tensor

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        stacked, buffers = stack_module_state(list(modules))
        trainable = {name for name, parameter in modules[0].named_parameters() if parameter.requires_grad}
        parameters = {name: tensor for name, tensor in stacked.items() if name in trainable}
        if len({tensor.dtype for tensor in parameters.values()}) > 1:
            raise ValueError("a model whose parameters have several precisions cannot be stacked")
        self.names = list(parameters)
        self._shapes = [tensor.shape[1:] for tensor in parameters.values()]
        self.register_buffer(
            "rows", torch.cat([tensor.detach().reshape(len(modules), -1) for tensor in parameters.values()], 1)
        )
        for name, tensor in zip(self.names, self.split(self.rows), strict=True):
            self.register_parameter(name.replace(".", "/"), nn.Parameter(tensor))
            for module, view in zip(modules, tensor, strict=True):
                module.get_parameter(name).data = view
        for name, tensor in buffers.items():
            owner, _, leaf = name.rpartition(".")
            for module, view in zip(modules, tensor, strict=True):
                setattr(module.get_submodule(owner), leaf, view)
        fixed = {name: tensor.detach() for name, tensor in stacked.items() if name not in trainable}
        state = dict(zip(self.names, self.parameters(), strict=True)) | fixed
        self.streams = Streams(len(modules))
        skeleton = drawing_from(self.streams, copy.deepcopy(modules[0]).to("meta").train())
        self._whole = FunctionalModule(skeleton, state, buffers, {})  # not an nn.Module: its parameters are those above

    def split(self, rows: Tensor) -> list[Tensor]:
        """Numbers [..., numbers] as one tensor [..., *shape] per parameter, sharing memory."""
        parts = rows.split([shape.numel() for shape in self._shapes], -1)
        return [part.view((*part.shape[:-1], *shape)) for part, shape in zip(parts, self._shapes, strict=True)]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The outputs of all replicas [replica, batch, …] for inputs of that form."""
        return self._whole(*inputs, **named)

    def only(self, part: slice | int) -> FunctionalModule:
        """Some of the replicas, or one without the replica axis."""
        return self._whole.only(part)

    def __getattr__(self, name: str) -> Any:
        """A tensor of the stack, or the attribute of this name of the replicas."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_whole" not in self.__dict__:
                raise
            return getattr(self._whole, name)


class FunctionalModule:
    """A module or a layer of it in some replicas or in one; it is called, and has attributes, like a module."""

    def __init__(
        self,
        skeleton: nn.Module,
        state: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        chains: dict[nn.Module, Chain | None],
        *,
        alone: bool = False,
    ) -> None:
        self._skeleton, self._state, self._buffers, self._chains = skeleton, state, buffers, chains
        self._alone = alone

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if self._skeleton not in self._chains:
            self._chains[self._skeleton] = _chain(self._skeleton)
        chain = None if self._alone or named else self._chains[self._skeleton]
        if chain is not None and (inputs[0].dim() == 3 or isinstance(chain[0][1], nn.Flatten)):
            return self._products(chain, inputs[0])
        with_buffers = _WithBuffers(self._skeleton)
        state = {f"net.{name}": tensor for name, tensor in (*self._state.items(), *self._buffers.items())}

        def call(state: dict[str, Tensor], batch: Any, named: Any) -> Any:
            return functional_call(with_buffers, state, batch, named)

        outputs, buffers = (call if self._alone else vmap(call))(state, inputs, named)
        with torch.no_grad():
            for name, tensor in buffers.items():
                if tensor.data_ptr() != self._buffers[name].data_ptr():  # assigned anew, not changed in place
                    self._buffers[name].copy_(tensor)
        return outputs

    def __getattr__(self, name: str) -> Any:
        """A layer, or any other attribute of the module. Raises: AttributeError where there is none."""
        if name.startswith("_"):  # what copy and pickle ask for
            raise AttributeError(name)
        attribute = getattr(self._skeleton, name)
        if not isinstance(attribute, nn.Module):
            return attribute
        start = f"{name}."
        state, buffers = (
            {key.removeprefix(start): value for key, value in named.items() if key.startswith(start)}
            for named in (self._state, self._buffers)
        )
        return FunctionalModule(attribute, state, buffers, self._chains, alone=self._alone)

    def only(self, part: slice | int) -> FunctionalModule:
        """Some of the replicas, or one without the replica axis."""
        state, buffers = (
            {name: tensor[part] for name, tensor in named.items()} for named in (self._state, self._buffers)
        )
        return FunctionalModule(self._skeleton, state, buffers, self._chains, alone=isinstance(part, int))

    def parameters(self) -> Iterator[Tensor]:
        """Its parameters, with the replica axis unless it is one replica alone."""
        return iter(self._state.values())

    def _products(self, layers: Chain, hidden: Tensor) -> Tensor:
        """A chain of linear layers, each as one batched product; `vmap` would add the bias in a pass of its own."""
        for name, layer in layers:
            if isinstance(layer, nn.Linear):
                weight, bias = (self._state[f"{name}.{what}" if name else what] for what in ("weight", "bias"))
                hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
            else:
                hidden = hidden.flatten(2) if isinstance(layer, nn.Flatten) else layer(hidden)
        return hidden


class _WithBuffers(nn.Module):
    """A module whose call returns its buffers, too, as they are after the call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Any, **named: Any) -> tuple[Any, dict[str, Tensor]]:
        outputs = self.net(*inputs, **named)
        return outputs, dict(self.net.named_buffers())


def _chain(module: nn.Module) -> Chain | None:
    """The layers of a module that is a chain of linear layers with bias and ReLUs; None for any other."""
    try:
        graph = torch.fx.symbolic_trace(copy.deepcopy(module)).graph  # of a copy, which tracing may change
    except Exception:  # what it computes depends on its input
        return None
    first, *calls, last = graph.nodes
    layers: Chain = []
    for before, node in pairwise([first, *calls]):
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" and node.args == (before,) else None
        linear = isinstance(layer, nn.Linear) and layer.bias is not None
        flat = type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1) and not layers
        if layer is None or not (linear or flat or type(layer) is nn.ReLU):
            return None
        layers.append((str(node.target), layer))
    return layers if layers and type(layers[0][1]) is not nn.ReLU and last.args == (calls[-1],) else None


class PrecisionWrapper(nn.Module):
    """A player as a step calls it: compiled, or in bfloat16 with its weights and outputs in float32."""

    def __init__(self, player: nn.Module | FunctionalModule, precision: str, compiled: str | None) -> None:
        super().__init__()
        self.player = player
        self._settings = (precision, compiled)
        self._call: Callable[..., Any] = torch.compile(player, mode=compiled) if compiled else player
        self._layers: dict[str, PrecisionWrapper] = {}

    def forward(self, *inputs: Tensor) -> Any:
        """The player's outputs, in float32 if it runs in bfloat16."""
        if self._settings[0] != "bfloat16":
            return self._call(*inputs)
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            outputs = self._call(*inputs)
        return tuple(tensor.float() for tensor in outputs) if isinstance(outputs, tuple) else outputs.float()

    def only(self, part: slice | int) -> PrecisionWrapper:
        """Some of the replicas, or one without the replica axis."""
        return PrecisionWrapper(self.player.only(part), *self._settings)  # type: ignore[operator]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_layers" not in self.__dict__:
                raise
            if name not in self._layers:
                attribute = getattr(self.player, name)
                if not isinstance(attribute, nn.Module | FunctionalModule):
                    return attribute
                self._layers[name] = PrecisionWrapper(attribute, *self._settings)
            return self._layers[name]
