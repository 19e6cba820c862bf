"""One look at a model and a loss before anything is recorded, so that it is clear which of them does not fit."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lossbench.core import ConfigError, DatasetInfo, LossOutput, Split, Task, stream
from lossbench.core.failures import one_line
from lossbench.engine import Nets, Noise
from lossbench.engine.batches import grouped

FEW = 3  # examples that a model is shown
LAYERS = {
    "gan": ("generator.latent", "generator", "critic"),
    "autoencoder": ("model.encoder", "model.decoder"),
    "sequence": ("model.encoder", "model.decoder", "model.head"),
}
FITS = {
    "regression": "mlp",
    "binary": "mlp or cnn",
    "multiclass": "mlp or cnn",
    "boxes": "cnn",
    "autoencoder": "vae or vae_conv",
    "gan": "gan",
    "embedding": "embedder or cnn",
    "segmentation": "unet",
    "sequence": "seq2seq",
}

OF_LOGITS = ("binary", "multiclass", "segmentation")
LOUDER = 100.0  # than they are: parameters with which no logit stays between 0 and 1

Shape = tuple[int, ...]


def model(
    nets: Nets, info: DatasetInfo, train: Split, device: torch.device, target: str, outputs_per_target: int = 1
) -> None:
    """Ask the players once for what a task of this kind wants of them.

    Its loss takes `outputs_per_target` numbers an output.

    Raises: ConfigError that names the model, where it lacks a player or a layer, fails, or gives another shape.
    """
    fits = f"; model={FITS[info.task_type]} fits"
    for path in LAYERS.get(info.task_type, ("model",)):
        found: object = nets
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is None:
            raise ConfigError(
                f"model: {target} brings no {path.removeprefix('model.')}, which {info.task_type} problems want{fits}"
            )
    nets = copy.deepcopy(nets)  # a model of somebody's own may keep something of what it sees
    examples = train[torch.arange(min(FEW, len(train)))].to(device)
    with torch.no_grad():
        try:
            if info.task_type not in LAYERS:
                _one_tensor(nets, examples, target)
            nets.eval()
            for what, given, wanted in _shapes(nets, info, examples, outputs_per_target):
                if given != wanted:
                    raise ConfigError(
                        f"model: {target}{what} gives {list(given)}, and the task wants {list(wanted)}{fits}"
                    )
            if info.task_type in OF_LOGITS and _squashed(nets, examples):
                raise ConfigError(
                    f"model: {target} gives probabilities, and every loss here takes logits; leave its last sigmoid "
                    "or softmax out"
                )
        except ConfigError:
            raise
        except Exception as error:  # whatever a foreign module does
            raise ConfigError(f"model: {target} failed on the first examples: {one_line(error)}{fits}") from error


def _one_tensor(nets: Any, examples: Split, target: str) -> None:
    """Raises: ConfigError for a model that gives more, at rest or while it trains only, as with auxiliary outputs."""
    for training in (False, True):
        given = nets.train(training).model(examples.inputs)
        if not isinstance(given, Tensor):
            when = " while it trains" if training else ""
            raise ConfigError(
                f"model: {target} gives a {type(given).__name__}{when}, and a tensor is wanted; a module of your own "
                "can call it and return the one that counts"
            )


def _shapes(
    nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
) -> Iterator[tuple[str, Shape, Shape]]:
    """Which part was asked, the shape that it gave, and the shape that the task wants."""
    inputs, n = examples.inputs, len(examples)
    if info.task_type == "gan":
        fake = nets.generator(torch.zeros(n, nets.generator.latent, device=inputs.device))
        yield "'s generator", tuple(fake.shape), tuple(inputs.shape)
        yield "'s critic", tuple(nets.critic(inputs).shape), (n,)
    elif info.task_type == "autoencoder":
        code = nets.model.encoder(inputs)
        latent = code.shape[-1] // 2
        yield "'s encoder", tuple(code.shape), (n, 2 * latent)
        picture = nets.model.decoder(code[:, :latent])
        yield "'s decoder", tuple(picture.flatten(1).shape), (n, math.prod(info.inputs))
    elif info.task_type == "sequence":
        yield "", tuple(nets.model(inputs, examples.targets).shape), (n, *info.targets, info.outputs)
    else:
        given = tuple(nets.model(inputs).shape)
        if (info.task_type == "binary" and given == (n, 1)) or (
            info.task_type == "segmentation" and given == (n, 1, *info.targets)
        ):
            given = (n, *given[2:])
        wanted = {
            "regression": (*info.targets[:-1], outputs_per_target * info.targets[-1]) if info.targets else (),
            "multiclass": (info.outputs,),
            "embedding": given[1:2] or (1,),
        }
        yield "", given, (n, *wanted.get(info.task_type, info.targets))


def _squashed(nets: Any, examples: Split) -> bool:
    """Whether outputs stay in 0 … 1 however large the parameters, which are changed here."""
    for parameter in nets.parameters():
        parameter.mul_(LOUDER)
    given = nets.model(examples.inputs)
    return bool(((given >= 0) & (given <= 1)).all() and given.any())


def loss(task: Task, nets: Nets, train: Split, device: torch.device, batch_size: int, per_class: int | None) -> None:
    """Ask the task once for its terms.

    Raises: ConfigError where the loss fails on a batch, or returns neither one term an example nor one number.
    """
    nets = copy.deepcopy(nets)  # a step may change them
    chosen = torch.arange(batch_size)
    if per_class is not None:
        chosen = next(grouped(train.targets, batch_size, per_class, stream(0, "probe")))
    batch = train[chosen].to(device)
    try:
        for player, given in task.step(nets, batch, Noise([0], device)):
            _checked(LossOutput.of(given).per_example, player, batch_size)
    except ConfigError:
        raise
    except Exception as error:  # whatever a foreign loss does
        raise ConfigError(f"loss: failed on the first batch: {one_line(error)}") from error


def _checked(per_example: object, player: str, batch_size: int) -> None:
    wanted = f"terms are [{batch_size}], or one number"
    if not isinstance(per_example, Tensor):
        raise ConfigError(f"loss: returned a {type(per_example).__name__} for the {player}; {wanted}, in a tensor")
    if per_example.dim() and per_example.shape != (batch_size,):
        raise ConfigError(
            f"loss: returned {list(per_example.shape)} for the {player} on a batch of {batch_size}; {wanted}"
        )
    if not per_example.requires_grad:
        raise ConfigError(f"loss: what it returned for the {player} has no gradient")
