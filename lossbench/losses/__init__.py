"""Losses: each one its equation, `loss(prediction, target, *, hyper-parameters) -> terms [batch]`."""

from lossbench.losses.autoencoder import GaussianElbo, elbo, iwae, kl, reconstruction
from lossbench.losses.classification import bce, cross_entropy, hinge, label_smoothing, squared_hinge
from lossbench.losses.embedding import (
    ArcFace,
    ProxyAnchor,
    contrastive,
    nt_xent,
    soft_triplet,
    supcon,
    triplet,
)
from lossbench.losses.gan import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein, WassersteinPenalty
from lossbench.losses.imbalance import class_balanced, focal
from lossbench.losses.noise import gce, sce, softmax_mae
from lossbench.losses.regression import huber, mae, mse
from lossbench.losses.segmentation import dice, dice_bce, jaccard, tversky

__all__ = [
    "ArcFace",
    "GaussianElbo",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "ProxyAnchor",
    "Wasserstein",
    "WassersteinPenalty",
    "bce",
    "class_balanced",
    "contrastive",
    "cross_entropy",
    "dice",
    "dice_bce",
    "elbo",
    "focal",
    "gce",
    "hinge",
    "huber",
    "iwae",
    "jaccard",
    "kl",
    "label_smoothing",
    "mae",
    "mse",
    "nt_xent",
    "reconstruction",
    "sce",
    "soft_triplet",
    "softmax_mae",
    "squared_hinge",
    "supcon",
    "triplet",
    "tversky",
]
