"""What a loss means: it looks at the target, takes classes by any number, and leads the right way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.contract.batches import apart, pair
from lossbench.contract.calling import DECODER, Broken, NotAsked, Trial, told
from lossbench.contract.samples import CLASSES, IDENTITIES, LATENT, Sample, at_random, undecided
from lossbench.tasks.lifting import PAD

RENAMED = (1, 0, 2, 4, 3)  # classes; no rotation, so that weights which are one class off do not go with it
STEPS, STRIDE = 10, 0.05


def target(trial: Trial) -> str:
    """Other targets, other terms."""
    sample = at_random(trial.task_type, trial.outputs_per_target)
    other = replace(sample, target=_other(sample))
    first, second = (trial.per_example(given, trial.players[0]) for given in (sample, other))
    if not torch.equal(first, second):
        return f"other targets change terms by up to {(first - second).abs().max().item():.3g}"
    if trial.task_type == "autoencoder":
        raise NotAsked("it looks at the code alone, which is made of the picture")
    raise Broken(f"the same terms whatever the target{told(trial.players[0])}", "use the second argument")


def _other(sample: Sample) -> Tensor:
    if sample.task_type == "embedding":
        return sample.target.sort().values
    return 1 - sample.target if sample.task_type == "segmentation" else sample.target.roll(1, 0)


def gradient(trial: Trial) -> str:
    """The gradient reaches the prediction."""
    sizes = []
    for player in trial.players:
        _, slope = trial.pull(at_random(trial.task_type, trial.outputs_per_target), player)
        if not slope.abs().sum() > 0:
            raise Broken(
                f"it is 0 everywhere{told(player)}",
                "keep detach, round, argmax and comparisons out of the way from the prediction to the terms",
            )
        sizes.append(f"{slope.abs().mean().item():.3g}{told(player)}")
    return f"of mean size {', '.join(sizes)}"


def classes(trial: Trial) -> str:
    """Classes under other numbers, their counts with them, cost the same."""
    renamed = _renamed(trial)
    sample = at_random(trial.task_type, trial.outputs_per_target)
    per_example, moved = trial.per_example(sample), trial.per_example(renamed(sample))
    if apart(per_example, moved):
        raise Broken(
            f"an example costs {pair(per_example, moved)} once classes are numbered in another way",
            "find what belongs to a class by its index from 0, the same for logits, labels and counts",
        )
    return "whatever their numbers"


def _renamed(trial: Trial) -> Callable[[Sample], Sample]:
    counted = bool(trial.card and "class_counts" in trial.card.needs)
    if trial.learns:
        raise NotAsked("what it learns of each class starts somewhere of its own")
    if trial.task_type in ("multiclass", "sequence"):
        return _numbered
    if trial.task_type == "binary" and counted:
        return lambda s: replace(s, prediction=-s.prediction, target=1 - s.target, counts=s.counts[::-1])
    if trial.task_type == "embedding" and not (trial.card and {"classes", "generator"} & set(trial.card.needs)):
        if trial.card and "multiclass" in trial.card.task_types:
            raise NotAsked("the logits of classes are learned with it, each from its own start")
        return lambda s: replace(s, target=max(IDENTITIES) + 1 - s.target)
    raise NotAsked("no classes that could change places")


def _numbered(sample: Sample) -> Sample:
    """Classes renamed; of tokens, 0 stays what fills up."""
    names = torch.tensor(RENAMED if sample.task_type == "multiclass" else (0, 2, 1, 4, 3))
    back = names.argsort()
    kept = tuple(sample.counts[k] for k in back.tolist())
    return replace(sample, prediction=sample.prediction[..., back], target=names[sample.target], counts=kept)


def padding(trial: Trial) -> str:
    """What fills a sequence up never pulls."""
    if trial.task_type != "sequence":
        raise NotAsked("nothing is filled up")
    sample = at_random(trial.task_type, trial.outputs_per_target)
    _, pull = trial.pull(sample)
    filled = sample.target == PAD
    if pull[filled].any():
        raise Broken(
            f"up to {pull[filled].abs().max().item():.3g} of gradient at tokens that fill up (target {PAD})",
            f"leave them out: terms.masked_fill(target == {PAD}, 0), and a mean over the others",
        )
    return f"no gradient at {int(filled.sum())} tokens that fill up"


def counts(trial: Trial) -> str:
    """A loss that asks for class counts: the rarer a class, the dearer its examples."""
    if not (trial.card and "class_counts" in trial.card.needs):
        raise NotAsked("it does not ask for class counts")
    sample = undecided(trial.task_type, trial.outputs_per_target)
    labels = torch.arange(len(sample.counts))
    per_example = trial.per_example(
        replace(sample, prediction=sample.prediction[: len(labels)], target=labels, noise=())
    )
    by_count = torch.tensor(sample.counts).argsort(descending=True)
    dearer = per_example[by_count]
    if not (dearer.diff() > 0).all():
        told = ", ".join(
            f"{n}: {mean_loss:.3g}" for n, mean_loss in zip(sample.counts, per_example.tolist(), strict=True)
        )
        raise Broken(f"undecided, an example of a class of n costs ({told})", "count k is that of class k, from 0")
    return f"{dearer[0].item():.3g} … {dearer[-1].item():.3g} from the commonest to the rarest, undecided"


def descent(trial: Trial) -> str:
    """Ten steps of descent lower the cost and bring every prediction nearer its target."""
    lowered = []
    for player in trial.players:
        sample = start = undecided(trial.task_type, trial.outputs_per_target, player)
        mean_losses = []
        for _ in range(STEPS):
            per_example, pull = trial.pull(sample, player)
            mean_losses.append(per_example.mean().item())
            sample = sample.moved(player, sample.leaf(player) - STRIDE * pull / pull.abs().max().clamp(min=1e-300))
        mean_losses.append(trial.per_example(sample, player).mean().item())
        near, far = (
            distance(sample, player, trial.outputs_per_target),
            distance(start, player, trial.outputs_per_target),
        )
        closer = near < far
        if not (trial.learns or (closer.any() if trial.task_type == "autoencoder" else closer.all())):
            raise Broken(
                f"ten steps leave {int((~closer).sum())} of {closer.numel()} no nearer the target{told(player)}",
                "look for a wrong sign, a swapped argument, or a part of the targets that is left out",
            )
        if not mean_losses[-1] < mean_losses[0]:
            raise Broken(
                f"the cost went from {mean_losses[0]:.4g} to {mean_losses[-1]:.4g}{told(player)}", "mend its gradient"
            )
        lowered.append(f"{mean_losses[0]:.4g} → {mean_losses[-1]:.4g}{told(player)}")
    return f"cost {', '.join(lowered)}"


def distance(sample: Sample, player: str, outputs_per_target: int = 1) -> Tensor:
    """How far predictions are from what they should be, whatever the loss; an example each where that can be."""
    given, wanted = sample.prediction.detach(), sample.target
    if sample.task_type == "regression":
        return (given[:, : wanted.shape[1]] - wanted).abs().mean(1)
    if sample.task_type == "boxes":
        return (given - wanted).gather(1, wanted.abs().argmax(1, keepdim=True)).abs().squeeze(1)
    if sample.task_type in ("binary", "segmentation"):
        return ((1 - 2 * wanted) * given).flatten(1).mean(1) if given.dim() > 1 else (1 - 2 * wanted) * given
    if sample.task_type in ("multiclass", "sequence"):
        right = F.one_hot(wanted, CLASSES)
        margins = (given * (1 - right)).sum(-1) / (CLASSES - 1) - (given * right).sum(-1)
        return margins if sample.task_type == "multiclass" else (margins * (wanted != PAD)).sum(1)
    if sample.task_type == "gan":
        return _scores(sample, player)
    return _between(given, wanted) if sample.task_type == "embedding" else _untrue(given, wanted)


def _scores(sample: Sample, player: str) -> Tensor:
    assert sample.weights is not None
    fake, real = (pictures.flatten(1) @ sample.weights[:-1] for pictures in (sample.prediction, sample.target))
    return (-fake if player == "generator" else (fake - real)).mean()


def _between(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Mean cosine between identities less that within them."""
    near, same = F.normalize(embeddings) @ F.normalize(embeddings).T, labels[:, None] == labels
    mates = same & ~torch.eye(len(labels), dtype=torch.bool)
    return near[~same].mean() - near[mates].mean()


def _untrue(codes: Tensor, pictures: Tensor) -> Tensor:
    """How badly a picture is told by its code, and how far the code is from the prior: one of them shall fall."""
    mean, log_variance = codes.split(LATENT, -1)
    told = F.binary_cross_entropy_with_logits(mean @ DECODER, pictures)
    return torch.stack([told, (mean.square() + log_variance.exp() - 1 - log_variance).mean()])


def scale(trial: Trial) -> str:
    """What it costs to be undecided, and how hard that pulls: how its learning rate compares with others'."""
    told = []
    for player in trial.players:
        per_example, pull = trial.pull(undecided(trial.task_type, trial.outputs_per_target, player), player)
        size = pull.flatten(1).norm(dim=1).mean() if pull.dim() > 1 else pull.abs().mean()
        name = "" if player == "model" else f"{player} "
        told.append(f"{name}{per_example.mean().item():.4g}, slope {size.item():.3g}")
    where = "at random" if trial.task_type in ("autoencoder", "embedding") else "undecided"
    return f"{where}: {'; '.join(told)}"
