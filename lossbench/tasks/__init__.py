"""Tasks: what training means for a task type."""

from lossbench.tasks.autoencoder import Autoencoder
from lossbench.tasks.binary import Binary
from lossbench.tasks.boxes import Boxes
from lossbench.tasks.embedding import Embedding
from lossbench.tasks.gan import Gan
from lossbench.tasks.multiclass import Multiclass
from lossbench.tasks.regression import Regression
from lossbench.tasks.segmentation import Segmentation
from lossbench.tasks.sequence import Sequence

__all__ = ["Autoencoder", "Binary", "Boxes", "Embedding", "Gan", "Multiclass", "Regression", "Segmentation", "Sequence"]
