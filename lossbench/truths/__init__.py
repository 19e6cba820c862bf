"""What a correct harness must show: claims with their sources, measured through the product's own losses and engine."""

from lossbench.truths.autoencoder import linear_autoencoder
from lossbench.truths.claims import Finding, Losses, Picture, Truth
from lossbench.truths.counts import class_counts
from lossbench.truths.gan import dirac_gan, discriminator
from lossbench.truths.invariance import invariance
from lossbench.truths.location import contamination, efficiency
from lossbench.truths.minimisers import dice, focal, minimum, multiclass_hinge
from lossbench.truths.noise import symmetric_noise
from lossbench.truths.sureness import same

TRUTHS = (
    efficiency,
    contamination,
    minimum,
    focal,
    symmetric_noise,
    multiclass_hinge,
    dice,
    dirac_gan,
    linear_autoencoder,
    discriminator,
    invariance,
    class_counts,
    same,
)

__all__ = ["TRUTHS", "Finding", "Losses", "Picture", "Truth"]
