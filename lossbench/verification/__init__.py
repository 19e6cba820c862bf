"""What a correct harness must show: claims with their sources, measured with lossbench's own losses and engine."""

from lossbench.verification.autoencoder import linear_autoencoder
from lossbench.verification.claims import Finding, Losses, Picture, Truth
from lossbench.verification.counts import class_counts
from lossbench.verification.gan import dirac_gan, discriminator
from lossbench.verification.invariance import invariance
from lossbench.verification.location import contamination, efficiency
from lossbench.verification.minimisers import dice, focal, minimum, multiclass_hinge
from lossbench.verification.noise import symmetric_noise
from lossbench.verification.sureness import same

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
