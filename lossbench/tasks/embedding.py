"""Embedding: put photos of one identity near each other, tested on identities that training never saw."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.config.task_type import Shape, TaskType
from lossbench.core import (
    SHARE,
    Card,
    DatasetInfo,
    LossOutput,
    Metric,
    Noise,
    Pictures,
    Split,
    TrainedModel,
    card_of,
    require,
)
from lossbench.datasets.splits import check_labels
from lossbench.metrics import retrieval
from lossbench.tasks.calls import ALONE
from lossbench.tasks.embedding_views import DRAWS, augmented
from lossbench.tasks.lifting import OfIdentities
from lossbench.tasks.samples import DIMENSIONS, Sample, normal
from lossbench.tasks.views import View

# Different people are on average 2.6° apart: a net at its initial weights has .2 on faces, a collapsed one some 1e-5.
COLLAPSED = 1e-3
IDENTITIES = (3, 7, 11, 20)  # of a made-up batch; their numbers go beyond the outputs of a net
IDENTITY_COUNT = 24  # identities of a made-up training split


@dataclass(frozen=True)
class Embedding(TaskType):
    """One net gives embeddings [..., batch, dimensions]; what matters is who is nearest, by cosine.

    MAP@R is primary: it counts all R others of an identity and their order, where Recall@1 is soon at its maximum.
    Training augments each photo with strength `augment`, the same for every loss under a seed; 0 leaves it as it is.
    """

    loss: Callable[[Tensor, Tensor], Tensor | LossOutput]
    info: DatasetInfo
    augment: float = 1.0

    models = ("embedder", "cnn")
    prior = "classes"
    free_outputs = True
    one_by_one = False
    identities = True
    smallest = 8
    counts = tuple(1 + 7 * k for k in range(IDENTITY_COUNT))
    forms = (ALONE,)
    drawn_classes = 2

    def __post_init__(self) -> None:
        require("task.augment", self.augment, lambda v: v >= 0, "0 (photos as they are) or above")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """MAP@R is primary; a `spread` near 0 means that the embeddings have collapsed."""
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
        """Each photo is augmented first, unless `augment` is 0."""
        photos = batch.inputs
        if self.augment:
            photos = augmented(photos, noise.uniform(photos.shape[-4], DRAWS), self.augment)
        yield "model", self.loss(nets.model(photos), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        return nets.model(batch.inputs)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """All metrics read the cosines between the embeddings of a split."""
        embeddings, labels = _array(outputs), _array(targets)
        return {
            **retrieval.retrieval(embeddings, labels)._asdict(),
            **retrieval.verification(*retrieval.pairs(embeddings, labels))._asdict(),
            "active_triplets": retrieval.active_triplets(embeddings, labels),
            "spread": retrieval.spread(embeddings, labels),
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import embedding_pictures as pictures

        outputs = seen.outputs["test"]
        assert isinstance(outputs, Tensor)
        embeddings, labels = _array(outputs), _array(seen.splits.test.targets)
        photos = _array(seen.splits.test.inputs)
        figures = {
            "nearest_neighbours": lambda: pictures.nearest_neighbours(photos, embeddings, labels),
            "roc": lambda: pictures.roc(*retrieval.pairs(embeddings, labels)),
            **pictures.maps(embeddings, labels),
        }
        return Pictures(figures)

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        return len(info.classes)

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """Embeddings may have any number of dimensions."""
        shape = tuple(nets.model(examples.inputs).shape)
        yield "", shape, (len(examples), *(shape[1:2] or (1,)))

    @staticmethod
    def completed(loss: Any, brings: Mapping[str, Callable[[], Any]]) -> Any:
        """A multi-class loss gets a linear layer that learns its logits."""
        card = card_of(loss)
        if card is None or "multiclass" not in card.task_types:
            return loss
        return OfIdentities(loss, **{name: brings[name]() for name in ("classes", "dimensions", "generator")})

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Labels are checked in the training split only: the identities of the others have no number."""
        if name == "train":
            check_labels(info, name, split)

    @staticmethod
    def units(split: Split) -> Tensor:
        """Photos of one identity belong together."""
        assert isinstance(split.targets, Tensor)
        return split.targets

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random embeddings; in a batch of eight, each identity is there twice."""
        labels = list(itertools.islice(itertools.cycle(IDENTITIES), size))
        return 2 * normal(random, size, DIMENSIONS), torch.tensor(labels)

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(8, outputs, generator=random), torch.arange(8) % 4

    @classmethod
    def undecided(cls, sample: Sample, player: str) -> Sample | None:
        """None: at 0, embeddings have no direction."""
        return None

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Long embeddings, all in one place, one place an identity, two opposite places, and a single identity."""
        one = sample.prediction[:1].expand_as(sample.prediction)
        by_identity = sample.prediction[: len(IDENTITIES)].repeat(2, 1)
        away = (sample.target[:, None] == torch.tensor(IDENTITIES[:2])).any(1)
        opposite = torch.where(away[:, None], one, -one)
        for prediction in (*(size * sample.prediction for size in (20, 100, 1e4)), one, by_identity, opposite):
            yield replace(sample, prediction=prediction.clone())
        yield replace(sample, target=torch.full_like(sample.target, IDENTITIES[0]))  # nobody else

    @staticmethod
    def other(target: Tensor) -> Tensor:
        """The same identities in sorted order, so that other photos belong together."""
        return target.sort().values

    @classmethod
    def renumbered(cls, sample: Sample, card: Card | None) -> Sample | str:
        """Identities under other numbers, where the loss learns nothing for each of them."""
        if card and {"classes", "generator"} & set(card.needs):
            return "no classes that could change places"
        if card and "multiclass" in card.task_types:
            return "the logits of classes are learned with it, each from its own start"
        return replace(sample, target=max(IDENTITIES) + 1 - sample.target)

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """Mean cosine between identities minus that within them."""
        embeddings, labels = F.normalize(sample.prediction.detach()), sample.target
        near, same = embeddings @ embeddings.T, labels[:, None] == labels
        others = same & ~torch.eye(len(labels), dtype=torch.bool)
        return near[~same].mean() - near[others].mean()

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        near, same = F.normalize(prediction) @ F.normalize(prediction).T, target[:, None] == target
        return near[~same].mean() - near[same].mean()

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.embedding_pictures import views

        return views()


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
