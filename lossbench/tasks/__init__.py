"""Tasks: what training means for a task type."""

from lossbench.tasks.autoencoder import Autoencoder
from lossbench.tasks.boxes import Boxes
from lossbench.tasks.classification import Binary, Multiclass
from lossbench.tasks.embedding import Embedding
from lossbench.tasks.gan import Gan
from lossbench.tasks.regression import Regression
from lossbench.tasks.segmentation import Segmentation
from lossbench.tasks.sequence import Sequence

__all__ = ["Autoencoder", "Binary", "Boxes", "Embedding", "Gan", "Multiclass", "Regression", "Segmentation", "Sequence"]
