"""pytorch-metric-learning: its objects, built once for each setting, without global random draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lossbench.core import ConfigError, LossOutput, require

MINERS = ("all", "semihard", "hard", "none")
DISTANCES = ("cosine", "euclidean")
MEETS = 1 - 1e-6  # cosine from which an embedding counts as being at its centre


def own_draws() -> Any:
    """A context that restores the global generator, from which the library draws weights that are replaced anyway."""
    return torch.random.fork_rng(devices=[])


def mined(embeddings: Tensor, labels: Tensor, margin: float, miner: str, distance: str, smooth: bool) -> LossOutput:
    """A triplet loss of the triplets that a miner keeps, and their share of all triplets of the batch."""
    mine, loss = triplet(margin, miner, distance, smooth)
    exact = embeddings.double()  # see `exactly`
    found = mine(exact, labels)
    value = loss(exact, labels, None if miner == "none" else found)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)).sum(1)
    triplets = ((same - 1) * (len(labels) - same)).sum()
    active = len(found[0]) / triplets.clamp(min=1)
    return LossOutput(value.to(embeddings.dtype), {"active": active.to(embeddings.dtype)})


def exactly(loss: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
    """A loss in double precision: of embeddings near each other, float32 distances are noise."""
    return loss(embeddings.double(), labels).to(embeddings.dtype)


@cache  # the library's objects have no state, and take longer to build than to use
def triplet(margin: float, miner: str, distance: str, smooth: bool) -> tuple[Any, Any]:
    """The library's miner and triplet loss. Raises: ConfigError for a negative margin, an unknown miner or distance."""
    from pytorch_metric_learning import losses, miners, reducers

    require("loss.margin", margin, lambda v: v >= 0, "0 or above")
    if miner not in MINERS:
        raise ConfigError(f"loss.miner={miner}: unknown; choose {', '.join(MINERS)}")
    triplet_type = "all" if miner == "none" else miner
    mine = miners.TripletMarginMiner(margin=margin, type_of_triplets=triplet_type, distance=distance_of(distance))
    reducer = reducers.MeanReducer() if miner == "none" else reducers.AvgNonZeroReducer()
    loss = losses.TripletMarginLoss(margin, smooth_loss=smooth, distance=distance_of(distance), reducer=reducer)
    return mine, loss


def distance_of(name: str) -> Any:
    """The library's distance of that name. Raises: ConfigError for an unknown one."""
    from pytorch_metric_learning import distances

    if name not in DISTANCES:
        raise ConfigError(f"loss.distance={name}: unknown; choose {' or '.join(DISTANCES)}")
    return distances.CosineSimilarity() if name == "cosine" else distances.LpDistance()


@cache
def contrastive(pos_margin: float, neg_margin: float) -> Any:
    """The library's contrastive loss. Raises: ConfigError for margins outside [0, 2]."""
    from pytorch_metric_learning import losses

    for name, margin in (("pos_margin", pos_margin), ("neg_margin", neg_margin)):
        require(f"loss.{name}", margin, lambda v: 0 <= v <= 2, "a distance of unit vectors, 0 … 2")
    return losses.ContrastiveLoss(pos_margin, neg_margin)


def paired(embeddings: Tensor, labels: Tensor, loss: Any, mine: Any) -> LossOutput:
    """A loss of the pairs that a miner keeps, and their share; without a miner, of all pairs."""
    exact = embeddings.double()
    found = mine(exact, labels) if mine is not None else None
    value = loss(exact, labels, found)
    pairs = len(labels) * (len(labels) - 1)
    active = len(found[0]) + len(found[2]) if found is not None else pairs
    return LossOutput(value.to(embeddings.dtype), {"active": embeddings.new_tensor(active / max(pairs, 1))})


@cache
def multi_similarity(alpha: float, beta: float, base: float, miner: str, epsilon: float) -> tuple[Any, Any]:
    """The library's multi-similarity loss and its miner, None for none.

    Raises: ConfigError for settings out of range, and for an unknown miner.
    """
    from pytorch_metric_learning import losses, miners

    for name, value in (("alpha", alpha), ("beta", beta)):
        positive(name, value)
    require("loss.base", base, lambda v: -1 <= v <= 1, "a cosine, −1 … 1")
    require("loss.epsilon", epsilon, lambda v: v >= 0, "0 or above")
    if miner not in ("similarity", "none"):
        raise ConfigError(f"loss.miner={miner}: unknown; choose similarity or none")
    mine = miners.MultiSimilarityMiner(epsilon) if miner == "similarity" else None
    return losses.MultiSimilarityLoss(alpha, beta, base), mine


@cache
def margin(margin: float, beta: float) -> Any:
    """The library's margin loss. Raises: ConfigError for a negative margin, and β outside [0, 2]."""
    from pytorch_metric_learning import losses

    require("loss.margin", margin, lambda v: v >= 0, "0 or above")
    require("loss.beta", beta, lambda v: 0 <= v <= 2, "a distance of unit vectors, 0 … 2")
    loss = losses.MarginLoss(margin, beta=beta)
    loss.beta = loss.beta.new_tensor([beta], dtype=torch.float64)  # where the library rounds it
    return loss


@cache
def circle(margin: float, scale: float) -> Any:
    """The library's circle loss. Raises: ConfigError for a margin outside (0, 1), and a scale not above 0."""
    from pytorch_metric_learning import losses

    require("loss.margin", margin, lambda v: 0 < v < 1, "between 0 and 1")
    return losses.CircleLoss(margin, positive("scale", scale))


@cache
def nt_xent(temperature: float) -> Any:
    """The library's NT-Xent loss."""
    from pytorch_metric_learning import losses

    return losses.NTXentLoss(temperature)


@cache
def supcon(temperature: float) -> Any:
    """The library's supervised contrastive loss."""
    from pytorch_metric_learning import losses

    return losses.SupConLoss(temperature)


@cache
def arcface() -> Any:
    """The library's ArcFace as a class, with a finite gradient where an embedding meets its centre."""
    from pytorch_metric_learning.losses import ArcFaceLoss

    class Sloped(ArcFaceLoss):
        """The library's, with the cosine clamped: at a centre the gradient of its angle is NaN."""

        def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
            return torch.acos(cosine_of_target_classes.clamp(-MEETS, MEETS))

    return Sloped


def positive(name: str, value: float) -> float:
    """The value itself. Raises: ConfigError unless it is above 0."""
    require(f"loss.{name}", value, lambda v: v > 0, "above 0")
    return value
