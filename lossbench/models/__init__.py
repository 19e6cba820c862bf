"""Models: small networks whose weights come from a generator, and whose layers stack."""

from lossbench.models.autoencoder import ConvAutoencoder, MLPAutoencoder
from lossbench.models.cnn import CNN
from lossbench.models.embedder import Embedder
from lossbench.models.mlp import MLP
from lossbench.models.seq2seq import Seq2Seq
from lossbench.models.tabular import Tabular
from lossbench.models.unet import UNet

__all__ = ["CNN", "MLP", "ConvAutoencoder", "Embedder", "MLPAutoencoder", "Seq2Seq", "Tabular", "UNet"]
