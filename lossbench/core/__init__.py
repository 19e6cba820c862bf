"""The core types of lossbench. Importing this package does not import torch, so that asking for help stays fast."""

from lossbench.core.cache import TEMPORARY_CACHE, atomic_path, cache_folder, cached, stamp
from lossbench.core.dataset import (
    Column,
    DatasetInfo,
    Encoding,
    Sampling,
    Split,
    Splits,
    Targets,
    each_tensor,
    tensors_of,
    weight_argument,
)
from lossbench.core.errors import ConfigError, require
from lossbench.core.given import give, given, is_given, without_digest
from lossbench.core.loss import RECORDED, Card, LossOutput, Search, card, card_of
from lossbench.core.metric import ANY, POSITIVE, SHARE, Metric, Range, finite, metric
from lossbench.core.names import NAME_LENGTH, column_name, is_table, record_name, stem
from lossbench.core.random import stream
from lossbench.core.task import Net, Noise, Outputs, Pictures, Result, Task, TrainedModel

__all__ = [
    "ANY",
    "NAME_LENGTH",
    "POSITIVE",
    "RECORDED",
    "SHARE",
    "TEMPORARY_CACHE",
    "Card",
    "Column",
    "ConfigError",
    "DatasetInfo",
    "Encoding",
    "LossOutput",
    "Metric",
    "Net",
    "Noise",
    "Outputs",
    "Pictures",
    "Range",
    "Result",
    "Sampling",
    "Search",
    "Split",
    "Splits",
    "Targets",
    "Task",
    "TrainedModel",
    "atomic_path",
    "cache_folder",
    "cached",
    "card",
    "card_of",
    "column_name",
    "each_tensor",
    "finite",
    "give",
    "given",
    "is_given",
    "is_table",
    "metric",
    "record_name",
    "require",
    "stamp",
    "stem",
    "stream",
    "tensors_of",
    "weight_argument",
    "without_digest",
]
