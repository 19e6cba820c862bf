"""From a configuration to the objects that train."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from lossbench import datasets
from lossbench.core import BadInput, Card, Facts, Net, Split, Splits, Task, stream
from lossbench.engine import Nets, OverReplicas, Plan
from lossbench.models.initial import start_at
from lossbench.tasks import Binary, Multiclass, Regression

EVALUATIONS = 20  # in a run, where train.eval_every is null

Loss = Callable[..., Tensor]


def device(name: str) -> torch.device:
    """Raises: BadInput for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device={name}: torch {torch.__version__} finds no GPU here; device=cpu or auto works")
    return torch.device(name)


def splits(cfg: DictConfig, batch_size: int) -> Splits:
    """The dataset, checked. Raises: BadInput for data that cannot be trained on, or batches larger than it."""
    made: Splits = _call("dataset", cfg, drop=("kind",))
    datasets.check(made)
    if made.facts.kind != cfg.kind:
        raise BadInput(f"dataset.kind={cfg.kind}: the dataset says it is {made.facts.kind}")
    if batch_size > len(made.train):
        raise BadInput(f"train.batch_size={batch_size}: larger than the training split of {len(made.train)} examples")
    return made


def loss(cfg: DictConfig) -> Loss:
    """The loss with its hyper-parameters bound; a class is made, a function waits for prediction and target."""
    try:
        module, _, name = cfg._target_.rpartition(".")
        target = getattr(import_module(module), name)
    except Exception as error:  # whatever a foreign module does when it is imported
        raise BadInput(f"loss._target_={cfg._target_}: cannot be imported: {_last_line(error)}") from error
    return _call("loss", cfg) if isinstance(target, type) else _call("loss", cfg, _partial_=True)


def task(kind: str, loss: Loss, facts: Facts) -> Task:
    if kind == "regression":
        return Regression(OverReplicas(loss, 2), facts)
    if kind == "binary":
        pinned: Card | None = getattr(getattr(loss, "func", loss), "card", None)
        return Binary(OverReplicas(loss, 1), facts, signs=pinned is not None and pinned.signs)
    return Multiclass(OverReplicas(loss, 1), facts)


def nets(cfg: DictConfig, facts: Facts, seed: int) -> Nets:
    """The players with the seed's initial weights, the same for every loss."""
    model = _call("model", cfg, facts.inputs, facts.outputs, stream(seed, "init"), drop=("prior",))
    if cfg.get("prior") is not None:
        start_at(_head(model, cfg._target_), _prior(cfg.prior, facts))
    return Nets(model=model)


def optimizers(cfg: DictConfig, nets: Nets, loss: Loss) -> dict[str, Optimizer]:
    """One optimizer a player; a loss with parameters of its own trains them beside the model's."""
    own = list(loss.parameters()) if isinstance(loss, nn.Module) else []
    # one fused call a step rather than one a tensor: a third less time for a small net on CPU
    fused = {"fused": True} if "fused" in inspect.signature(get_class(cfg._target_)).parameters else {}
    return {
        name: _call("optimizer", cfg, [*player.parameters(), *own], **fused) for name, player in nets.named_children()
    }


def plan(cfg: DictConfig) -> Plan:
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    every = settings.pop("eval_every") or max(1, cfg.steps // EVALUATIONS)
    return Plan(eval_every=every, **{str(key): value for key, value in settings.items()})


def probe(task: Task, nets: Nets, train: Split, batch_size: int) -> None:
    """Ask the task once for its terms, so that a loss that cannot work is refused before anything is recorded.

    Raises: BadInput where the loss fails on a batch, or returns neither one term an example nor one number.
    """
    batch = train[torch.arange(batch_size, device=train.inputs.device)]
    try:
        for player, terms in task.step(nets, batch, stream(0, "probe")):
            if terms.dim() and terms.shape != (batch_size,):
                raise BadInput(
                    f"loss: returned {list(terms.shape)} for the {player} on a batch of {batch_size}; "
                    f"terms are [{batch_size}], or one number"
                )
            if not terms.requires_grad:
                raise BadInput(f"loss: what it returned for the {player} has no gradient")
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise BadInput(f"loss: failed on the first batch: {type(error).__name__}: {_last_line(error)}") from error


def _prior(prior: Any, facts: Facts) -> float | list[float]:
    if prior != "auto":
        return float(prior)
    total = sum(facts.class_counts)
    if 0 in facts.class_counts:
        absent = facts.classes[facts.class_counts.index(0)]
        raise BadInput(f"model.prior=auto: class {absent} has no example in the training split, so its prior is 0")
    shares = [count / total for count in facts.class_counts]
    return shares[1] if facts.kind == "binary" else shares


def _head(model: Any, target: str) -> nn.Linear:
    net: Net = model
    if not isinstance(getattr(net, "head", None), nn.Linear):
        raise BadInput(f"model.prior: {target} has no linear layer named head whose bias could start there")
    return net.head


def _call(group: str, cfg: DictConfig, *arguments: Any, drop: tuple[str, ...] = (), **more: Any) -> Any:
    """Call the `_target_` of a group. Raises: BadInput for what the target itself refuses."""
    settings = {str(key): cfg[key] for key in cfg if key not in drop}
    try:
        return instantiate(OmegaConf.create(settings), *arguments, **more, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, BadInput):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | ImportError) or cause is None:
            raise BadInput(f"{group}: {cfg._target_}: {_last_line(cause or error)}") from error
        raise cause from error


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
