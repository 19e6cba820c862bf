"""From a configuration to the objects that train."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from lossbench import datasets
from lossbench.catalogue import describe
from lossbench.core import KINDS, BadInput, Card, Facts, Net, Splits, Task, card_of, stream
from lossbench.datasets import remarks
from lossbench.engine import Nets, Plan
from lossbench.engine.randomness import seeded
from lossbench.faults import said
from lossbench.models import foreign
from lossbench.models.initial import start_at, widen
from lossbench.settings import TASKS, leaves
from lossbench.tasks.adapting import wanted
from lossbench.tasks.lifting import OfIdentities, lifted

EVALUATIONS = 20  # in a run, where train.eval_every is null

Loss = Callable[..., Tensor]

BROUGHT = {
    "classes": ("num_classes", "n_classes", "nb_classes", "num_class", "n_class", "class_num", "out_features"),
    "dimensions": (
        "embedding_size",
        "embedding_dim",
        "embed_dim",
        "emb_size",
        "feat_dim",
        "feature_dim",
        "in_features",
    ),
    "class_counts": ("class_counts", "cls_num_list", "samples_per_class", "samples_per_cls", "class_frequency"),
}
"""What losses without a card call what a run can bring, where they have no default for it."""


class Unset(BadInput):
    """A loss has settings without a default, which nobody gives."""


def device(name: str) -> torch.device:
    """Raises: BadInput for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device={name}: torch {torch.__version__} finds no GPU here; device=cpu or auto works")
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"device={name}: no device; auto, cpu, cuda or cuda:0 works") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"device={name}: there are {torch.cuda.device_count()} GPUs, counted from cuda:0")
    return found


def splits(cfg: DictConfig) -> Splits:
    """The dataset, checked. Raises: BadInput for data that cannot be trained on."""
    described = describe(str(cfg._target_))
    takes = described is not None and "kind" in described.parameters
    with seeded(int(cfg.get("seed") or 0), "data"):  # a function of somebody's own may draw from the global streams
        made: Splits = _call("dataset", cfg, drop=() if takes else ("kind",))
    if not isinstance(made, Splits):
        raise BadInput(
            f"dataset._target_={cfg._target_}: gave {type(made).__name__}; a dataset gives lossbench.core.Splits"
        )
    datasets.check(made)
    if made.facts.kind != cfg.kind:
        raise BadInput(f"dataset.kind={cfg.kind}: the dataset says it is {made.facts.kind}")
    return made


def check_batch(size: int, per_class: int | None, splits: Splits) -> None:
    """Raises: BadInput for batches larger than the training split, or of more classes than it has."""
    if size > len(splits.train):
        raise BadInput(f"train.batch_size={size}: larger than the training split of {len(splits.train)} examples")
    if per_class is not None:
        if splits.train.targets.dim() != 1 or splits.train.targets.is_floating_point():
            raise BadInput(f"train.per_class={per_class}: the targets of this dataset are no classes; leave it null")
        there = len(splits.train.targets.unique())
        if size // per_class > there:
            raise BadInput(
                f"train.batch_size={size}: {size // per_class} classes of {per_class} examples each, "
                f"and the training split has {there}; at most {there * per_class}"
            )


def loss(cfg: DictConfig, kind: str, brings: Mapping[str, Callable[[], Any]] | None = None) -> Loss:
    """The loss with its hyper-parameters bound; a class is made, a function waits for prediction and target.

    `brings` makes what a card may say that the loss needs of the run. Raises: BadInput for one that cannot be
        imported, or whose card says that it fits other kinds of problem.
    """
    target = found(cfg._target_, "loss._target_=")
    card = getattr(target, "card", Card(KINDS))
    if kind not in card.kinds:
        raise BadInput(f"loss._target_={cfg._target_}: fits {' and '.join(card.kinds)} problems, not {kind}")
    given = {need: (brings or {})[need]() for need in card.needs}
    if not hasattr(target, "card"):
        given |= _required(target, cfg, brings or {})
    if isinstance(target, type):
        return _without_more(_call("loss", cfg, **given), cfg)
    # not Hydra's own _partial_, which examines its target anew at every call: a fifth of a small net's step
    settings = _instantiated("loss", cfg._target_, OmegaConf.create(_plain(cfg, drop=("_target_",))))
    return partial(target, **settings, **given)


def _required(target: Any, cfg: DictConfig, brings: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What a foreign loss has no default for, as far as a run knows it. Raises: Unset for what is left."""
    own = _bare(target) if isinstance(target, type) else _bare(target)[2:]
    passed_on = [name for parent in _parents(target) for name in _bare(parent)]
    known = {name: need for need, names in BROUGHT.items() for name in names if need in brings}
    absent = [name for name in own if name not in cfg and name not in known]
    if absent:
        more = " ".join(f"loss.{name}=…" for name in absent)
        raise Unset(f"loss._target_={cfg._target_}: has no default for {', '.join(absent)}; give {more}")
    return {
        name: brings[known[name]]() for name in dict.fromkeys([*own, *passed_on]) if name in known and name not in cfg
    }


def _bare(target: Any) -> list[str]:
    """The parameters without a default."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # written in another language
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _parents(target: Any) -> Iterator[type]:
    """The classes to which a constructor passes on what it does not know."""
    for child, parent in pairwise(getattr(target, "__mro__", ())):
        passes = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(child).parameters.values())
        if not passes or parent in (nn.Module, object):
            return
        yield parent


def _without_more(made: Any, cfg: DictConfig) -> Any:
    """Raises: BadInput for an object that is called with more than prediction and target."""
    if more := wanted(made):
        raise BadInput(
            f"loss._target_={cfg._target_}: is called with ({', '.join(more)}), "
            "and a loss gets prediction and target alone"
        )
    return made


def loss_of_run(cfg: DictConfig, facts: Facts, nets: Nets, seed: int) -> Loss:
    """The loss with all that it needs of a run; on embeddings a multi-class loss learns the logits that it reads."""
    brings: dict[str, Callable[[], Any]] = {
        "classes": lambda: _classes(facts),
        "class_counts": lambda: _counted(facts),
        "dimensions": lambda: dimensions(nets, facts),
        "generator": lambda: stream(seed, "loss"),
    }
    with seeded(seed, "loss"):
        made = loss(cfg, facts.kind, brings)
    if facts.kind == "gan" and not (hasattr(made, "critic") and hasattr(made, "generator")):
        raise BadInput(
            f"loss._target_={cfg._target_}: wants the methods critic(D, real, fake) and generator(D, real, fake)"
        )
    card = card_of(made)
    if facts.kind == "embedding" and card and "multiclass" in card.kinds:
        return OfIdentities(made, **{name: brings[name]() for name in ("classes", "dimensions", "generator")})
    return made


def dimensions(nets: Nets, facts: Facts) -> int:
    """How many numbers the model gives an example, as a loss that learns as many a class has to know."""
    model: Any = nets.model
    with nets.evaluating(), torch.no_grad():
        return int(model(torch.zeros(1, *facts.inputs, device=next(nets.parameters()).device)).shape[-1])


def _classes(facts: Facts) -> int:
    if not facts.classes:
        raise BadInput(f"dataset={facts.name}: the loss needs a number of classes, and there are none")
    return len(facts.classes)


def _counted(facts: Facts) -> tuple[int, ...]:
    """Numbers rather than a tensor: runs of one stack share a call where these are equal. See `engine.terms`."""
    if not facts.classes or len(facts.class_counts) != len(facts.classes):
        told = f"{len(facts.class_counts)} for {len(facts.classes)} classes"
        raise BadInput(f"dataset={facts.name}: the loss needs class_counts, and there are {told}")
    if 0 in facts.class_counts:
        absent = facts.classes[facts.class_counts.index(0)]
        raise BadInput(
            f"dataset={facts.name}: class {absent} has no example in the training split, and the loss weighs by counts"
        )
    return facts.class_counts


def module_of(loss: Loss) -> nn.Module | None:
    """The loss, or what it is bound around, where that learns or keeps something from step to step."""
    while isinstance(loss, partial):
        held = (*loss.args, *(one for one in loss.keywords.values() if isinstance(one, nn.Module)))
        loss = next((argument for argument in held if callable(argument)), loss.func)
    return loss if isinstance(loss, nn.Module) and loss.state_dict() else None


def task(kind: str, loss: Loss, facts: Facts, settings: Mapping[str, Any] | None = None, features: Any = None) -> Task:
    """The task of this kind; `features` see images where its yardsticks need that."""
    made = get_class(TASKS[kind])
    seeing = {"features": features} if "features" in {field.name for field in fields(made)} else {}
    return made(lifted(loss, kind), facts, **(settings or {}), **seeing)


def nets(cfg: DictConfig, facts: Facts, seed: int, heads: int = 1) -> Nets:
    """The players with the seed's initial weights, the same for every loss, whatever stream they are drawn from.

    Where a loss takes several numbers an output, the first of them start as the one that others take, the rest at 0.
    """
    with seeded(seed, "init"):
        made = _constructed(cfg, facts, seed)
        if isinstance(made, nn.Module) and not _ours(cfg._target_):
            made = foreign.fitted(made, facts)
            if isinstance(made, foreign.Coloured):
                remarks.say(f"{cfg._target_}: wants colour; grey pictures reach it as three equal channels")
    players = Nets(**made) if isinstance(made, Mapping) else Nets(model=made)
    players.initial = players.hash()  # before a setting or a loss makes a last layer start otherwise on purpose
    if cfg.get("prior") is not None:
        start_at(_head(made, "its bias would start at model.prior"), _prior(cfg.prior, facts))
    if heads > 1:
        _widen(made, facts, heads)
    return players


def _constructed(cfg: DictConfig, facts: Facts, seed: int) -> Any:
    """What the target gives, told what its signature names of what the data know, unless a setting says otherwise."""
    constructor = found(cfg._target_, "model._target_=")
    given, tried = foreign.offers(constructor, facts, stream(seed, "init"))
    given = {name: value for name, value in given.items() if name not in cfg}
    while True:
        try:
            made = _call("model", cfg, drop=("prior",), **given)
            break
        except BadInput as error:
            refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if refused is None or refused[1] not in tried:
                raise
            tried.discard(refused[1])
            given.pop(refused[1], None)
    if not isinstance(made, nn.Module | Mapping):
        raise BadInput(f"model: {cfg._target_} gives a {type(made).__name__}; a torch.nn.Module works")
    return made


def _ours(target: str) -> bool:
    return target.partition(".")[0] == "lossbench"


def found(target: str, asked: str) -> Any:
    """The object at a dotted path. Raises: BadInput, which begins with what `asked` for it, where there is none."""
    open_door(target)
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # whatever a foreign module does when it is imported
        raise BadInput(f"{asked}{target}: cannot be imported: {said(error)}") from error


def open_door(*targets: str) -> None:
    """Let foreign modules import torchvision beside any torch: see `vision`. Before the first of them is imported."""
    if any(target.partition(".")[0] not in ("lossbench", "torch") for target in targets) and find_spec("torchvision"):
        import_module("lossbench.vision")


def _widen(model: Any, facts: Facts, heads: int) -> None:
    if facts.kind != "regression":
        raise BadInput(f"loss: takes {heads} numbers an output, which works for regression, and this is {facts.kind}")
    head = _head(model, f"the loss takes {heads} numbers an output of it")
    if not isinstance(head, nn.Linear):
        raise BadInput(f"model: the head of {type(model).__name__} is no linear layer; the loss takes {heads} numbers")
    model.head = widen(head, heads)


def optimizers(cfg: DictConfig, nets: Nets, loss: nn.Module | None) -> dict[str, Optimizer]:
    """One optimizer a player; what a loss learns is a group of its own beside the first player's."""
    own = list(loss.parameters()) if loss is not None else []
    # one fused call a step rather than one a tensor: a third less time for a small net on CPU
    if "fused" in inspect.signature(found(cfg._target_, "optimizer._target_=")).parameters:
        cfg = OmegaConf.create({"fused": True, **_plain(cfg)})
    made = {}
    for name, player in nets.named_children():
        groups = [{"params": parameters} for parameters in (list(player.parameters()), own) if parameters]
        made[name] = _call("optimizer", cfg, groups if len(groups) > 1 else groups[0]["params"])
        own = []
    return made


def count_steps(train: DictConfig, examples: int) -> None:
    """Set `steps` to as many as `epochs` of so many examples take, where that is asked for."""
    if train.epochs is not None:
        train.steps = math.ceil(round(train.epochs * examples / train.batch_size, 6)) or 1


def plan(cfg: DictConfig) -> Plan:
    settings = _plain(cfg, drop=("epochs", "checkpoint_s", "threads"))
    settings["eval_every"] = cfg.eval_every or max(1, cfg.steps // EVALUATIONS)
    settings["record_every"] = cfg.record_every or max(1, settings["eval_every"] // 2)
    return Plan(**settings)


def _prior(prior: Any, facts: Facts) -> float | list[float]:
    if prior != "auto":
        return float(prior)
    total = sum(facts.class_counts)
    if 0 in facts.class_counts:
        absent = facts.classes[facts.class_counts.index(0)]
        raise BadInput(f"model.prior=auto: class {absent} has no example in the training split, so its prior is 0")
    shares = [count / total for count in facts.class_counts]
    return shares[1] if facts.outputs == 1 else shares


def _head(model: Any, why: str) -> nn.Linear | nn.Conv2d:
    net: Net = model
    if not isinstance(getattr(net, "head", None), nn.Linear | nn.Conv2d):
        raise BadInput(f"model: {type(model).__name__} has no linear layer named head; {why}")
    return net.head


def _plain(cfg: DictConfig, drop: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a group as a dict of plain values."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    return {key: value for key, value in settings.items() if key not in drop}


def _call(group: str, cfg: DictConfig, *arguments: Any, drop: tuple[str, ...] = (), **more: Any) -> Any:
    """Call the `_target_` of a group. Raises: BadInput for what the target itself refuses."""
    return _instantiated(group, cfg._target_, OmegaConf.create(_plain(cfg, drop)), *arguments, **more)


def _instantiated(group: str, target: str, cfg: DictConfig, *arguments: Any, **more: Any) -> Any:
    """Whatever has a `_target_` in a tree of settings, made. Raises: BadInput for what the targets refuse."""
    settings: Any = OmegaConf.to_container(cfg)
    open_door(target, *(str(value) for key, value in leaves(settings).items() if key.endswith("_target_")))
    try:
        return instantiate(cfg, *arguments, _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, BadInput):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | ImportError) or cause is None:
            raise BadInput(f"{group}: {target}: {_last_line(cause or error)}") from error
        raise cause from error


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
