"""Embedding: put photos of one identity near each other, judged on identities that training never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from lossbench.core import SHARE, DatasetInfo, LossOutput, Metric, Noise, Pictures, Split, TrainedModel, require
from lossbench.metrics import retrieval
from lossbench.tasks.embedding_views import DRAWS, seen_anew

# Different people are on average 2.6° apart: a net at its initial weights has .2 on faces, a collapsed one some 1e-5.
COLLAPSED = 1e-3


@dataclass(frozen=True)
class Embedding:
    """One net gives embeddings [..., batch, dimensions]; what matters is who is nearest, by cosine.

    MAP@R is primary: it looks at all R others of an identity and their order, where Recall@1 is soon at its end.
    Training sees each photo anew by `augment`, the same views for every loss under a seed; 0 shows it as it is.
    """

    loss: Callable[[Tensor, Tensor], Tensor | LossOutput]
    info: DatasetInfo
    augment: float = 1.0

    def __post_init__(self) -> None:
        require("task.augment", self.augment, lambda v: v >= 0, "0 (photos as they are) or above")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                "map_at_r", "mean average precision among the R nearest, R others of the identity", True, range=SHARE
            ),
            Metric("recall_at_1", "share whose nearest other is the same identity", True, range=SHARE),
            Metric("r_precision", "share of the R nearest that are the same identity", True, range=SHARE),
            Metric("auc", "verification: area under the ROC curve over pairs", True, range=SHARE),
            Metric("eer", "verification: false accepts where they equal false rejects", False, range=SHARE),
            Metric("tar_at_far", "verification: true accepts at 1 % false accepts", True, range=SHARE),
            Metric(
                "active_triplets", "share of all triplets closer than a margin of .05 in 1 − cos", False, range=SHARE
            ),
            Metric(
                "spread",
                "mean 1 − cos between identities: 0 is one place for all",
                True,
                collapse=COLLAPSED,
                range=(0.0, 2.0),
            ),
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | LossOutput]]:
        photos = batch.inputs
        if self.augment:
            photos = seen_anew(photos, noise.uniform(photos.shape[-4], DRAWS), self.augment)
        yield "model", self.loss(nets.model(photos), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        return nets.model(batch.inputs)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        embeddings, labels = _array(outputs), _array(targets)
        return {
            **retrieval.retrieval(embeddings, labels)._asdict(),
            **retrieval.verification(*retrieval.pairs(embeddings, labels))._asdict(),
            "active_triplets": retrieval.active_triplets(embeddings, labels),
            "spread": retrieval.spread(embeddings, labels),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {}

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        return self.measure(outputs, targets)

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import embedding_pictures as pictures

        outputs = seen.outputs["test"]
        assert isinstance(outputs, Tensor)
        embeddings, labels = _array(outputs), _array(seen.splits.test.targets)
        photos = _array(seen.splits.test.inputs)
        drawn = {
            "nearest_neighbours": lambda: pictures.nearest_neighbours(photos, embeddings, labels),
            "roc": lambda: pictures.roc(*retrieval.pairs(embeddings, labels)),
            **pictures.maps(embeddings, labels),
        }
        return Pictures(drawn)


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
