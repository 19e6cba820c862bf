"""Models: small networks whose weights come from a generator, and whose layers stack."""

from lossbench.models.cnn import CNN
from lossbench.models.mlp import MLP

__all__ = ["CNN", "MLP"]
