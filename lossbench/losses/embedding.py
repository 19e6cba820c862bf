"""Losses of embeddings [batch, dimensions] and labels [batch]: one number per batch, by pytorch-metric-learning.

All but n_pairs use directions only: they normalise embeddings first.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossbench.core import LossOutput, card, require
from lossbench.losses import metric_learning as library
from lossbench.losses.metric_learning import exactly, mined, own_draws, positive


@card(task_types=("embedding",), batch=True, search={"margin": (0.01, 1.0)})
def triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.05,
    miner: Literal["all", "semihard", "hard", "none"] = "semihard",
    distance: Literal["cosine", "euclidean"] = "cosine",
) -> LossOutput:
    """Triplet loss: an anchor should be closer to its own identity than to any other, by a margin.

    mean over triplets of max(0, d(a, p) − d(a, n) + margin),  d = 1 − cos, or |u_a − u_p| of unit vectors u

    `miner` selects triplets of the batch: all that violate the margin, of these only the semihard ones
    (d(a, p) < d(a, n)) or only the hard ones (d(a, n) ≤ d(a, p)), or none: no mining, so zeros are averaged too.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, and `active`, the share of the batch's
        triplets that the miner selects (with none: that violate the margin).
    Use it when: there are many identities with few photos each, and only the ranking of distances matters.
    Beware: it normalises, and averages the triplets above zero only; torch's TripletMarginLoss does neither. `hard`
        tends to collapse: then the loss stays at the margin. Without an active triplet it is 0 without a gradient.
    Reference: Schroff et al., FaceNet, 2015, https://arxiv.org/abs/1503.03832; library: Musgrave et al.,
        PyTorch Metric Learning, 2020, https://arxiv.org/abs/2008.09164
    """
    return mined(embeddings, labels, margin, miner, distance, False)


@card(task_types=("embedding",), batch=True, search={"margin": (0.0, 1.0)})
def soft_triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.05,
    miner: Literal["all", "semihard", "hard", "none"] = "semihard",
    distance: Literal["cosine", "euclidean"] = "cosine",
) -> LossOutput:
    """Soft triplet loss: the triplet loss with a softplus for its hinge, whose gradient fades beyond the margin.

    mean over triplets of log(1 + exp(d(a, p) − d(a, n) + margin)),  d and miners as for the triplet loss

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, and `active` as the triplet loss has it.
    Use it when: triplets just beyond the margin should still count.
    Beware: unit vectors are at most 2 apart, so easy triplets have nearly the gradient of hard ones: with miner=none
        all pairs count alike, which ranks worse.
    Reference: Hermans et al., In defense of the triplet loss, 2017, https://arxiv.org/abs/1703.07737
    """
    return mined(embeddings, labels, margin, miner, distance, True)


@card(task_types=("embedding",), batch=True, search={"pos_margin": (0.0, 0.5), "neg_margin": (0.2, 1.5)})
def contrastive(embeddings: Tensor, labels: Tensor, *, pos_margin: float = 0.0, neg_margin: float = 1.0) -> Tensor:
    """Contrastive loss: pairs of one identity are pulled closer than one distance, others pushed beyond another.

    mean₊ max(0, d(a, p) − pos_margin) + mean₊ max(0, neg_margin − d(a, n)),  d = |u_a − u_b| of unit vectors u

    mean₊ averages the pairs above zero.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number.
    Use it when: distances should mean the same everywhere, as a fixed threshold for verification needs.
    Beware: the two means give a batch's few positive pairs the weight of its many negative ones. Distances are not
        squared, unlike in the paper. Unit vectors are at most 2 apart.
    Reference: Hadsell et al., Dimensionality reduction by learning an invariant mapping, 2006,
        https://doi.org/10.1109/CVPR.2006.100
    """
    return exactly(library.contrastive(pos_margin, neg_margin), embeddings, labels)


@card(task_types=("embedding",), batch=True, search={"temperature": (0.02, 1.0)})
def nt_xent(embeddings: Tensor, labels: Tensor, *, temperature: float = 0.07) -> Tensor:
    """Normalised temperature-scaled cross-entropy: each positive pair against all negatives of its anchor.

    mean over pairs (a, p) of −log( e^{s_ap/τ} / (e^{s_ap/τ} + Σ_n e^{s_an/τ}) ),  s = cos, τ = temperature

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, in nats.
    Use it when: batches are large, since every negative of the batch counts.
    Beware: its value depends on the batch size; the anchor's other positives do not count in a pair.
    Reference: Chen et al., A simple framework for contrastive learning (SimCLR), 2020, https://arxiv.org/abs/2002.05709
    """
    return exactly(library.nt_xent(positive("temperature", temperature)), embeddings, labels)


@card(task_types=("embedding",), batch=True, search={"temperature": (0.02, 1.0)})
def supcon(embeddings: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss: each anchor's positives share the softmax over all others.

    mean over a of −mean over p of log( e^{s_ap/τ} / Σ_{k≠a} e^{s_ak/τ} ),  s = cos, τ = temperature

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, in nats.
    Use it when: each identity has several photos in a batch.
    Beware: with K photos of an identity, the K − 1 positives share the probability, so its minimum is log(K − 1),
        not 0. An anchor without a positive is left out.
    Reference: Khosla et al., Supervised contrastive learning, 2020, https://arxiv.org/abs/2004.11362
    """
    return exactly(library.supcon(positive("temperature", temperature)), embeddings, labels)


@card(task_types=("embedding",), batch=True, search={"alpha": (0.5, 10.0), "beta": (10.0, 100.0), "base": (0.0, 1.0)})
def multi_similarity(
    embeddings: Tensor,
    labels: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    miner: Literal["similarity", "none"] = "similarity",
    epsilon: float = 0.1,
) -> LossOutput:
    """Multi-similarity loss: each anchor's pairs are weighted by how they compare with its other pairs.

    mean over a of 1/α log(1 + Σ_p e^{−α(s_ap − λ)}) + 1/β log(1 + Σ_n e^{β(s_an − λ)}),  s = cos, λ = base

    `miner` selects pairs: with similarity, positives less similar than the anchor's most similar negative plus ε, and
    negatives more similar than its least similar positive minus ε; with none, all of them.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, and `active`, the share of pairs selected.
    Use it when: each identity has several photos in a batch and most pairs are easy.
    Beware: anchors without a pair count as 0 in the mean. An anchor left with negatives only pushes them; the authors'
        code leaves it out. base is .5 as in that code; in the paper it is 1.
    Reference: Wang et al., Multi-similarity loss with general pair weighting for deep metric learning, 2019,
        https://arxiv.org/abs/1904.06627
    """
    loss, mine = library.multi_similarity(alpha, beta, base, miner, epsilon)
    return library.paired(embeddings, labels, loss, mine)


@card(task_types=("embedding",), batch=True, search={"margin": (0.0, 0.5), "beta": (0.5, 1.5)})
def margin(embeddings: Tensor, labels: Tensor, *, margin: float = 0.2, beta: float = 1.2) -> Tensor:
    """Margin loss: one boundary for all distances, positives a margin inside it and negatives a margin outside.

    Σ max(0, d(a, p) − β + m) + max(0, β + m − d(a, n)) over triplets, by how many of these are above zero,  m = margin

    d = |u_a − u_b| of unit vectors u.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number.
    Use it when: one threshold should separate identities, and there are too many triplets to compare.
    Beware: β is a setting, not learned. All triplets count; the paper samples negatives by their distance, and its
        authors find that this sampling matters more than the loss.
    Reference: Wu et al., Sampling matters in deep embedding learning, 2017, https://arxiv.org/abs/1706.07567
    """
    return exactly(library.margin(margin, beta), embeddings, labels)


@card(task_types=("embedding",), batch=True, search={"margin": (0.1, 0.6), "scale": (8.0, 256.0)})
def circle(embeddings: Tensor, labels: Tensor, *, margin: float = 0.4, scale: float = 80.0) -> Tensor:
    """Circle loss: each similarity is weighted by how far it is from its optimum.

    mean₊ over a of log(1 + Σ_p e^{−γ·α_p·(s_ap − 1 + m)} · Σ_n e^{γ·α_n·(s_an − m)}),  s = cos, γ = scale, m = margin

    α_p = max(0, 1 + m − s_ap) and α_n = max(0, s_an + m), without a gradient; mean₊ leaves out anchors without pairs.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number.
    Use it when: with equal weights, positives or negatives stop learning too early.
    Beware: α_p and α_n are constants to the gradient, which therefore differs from the slope of the value.
    Reference: Sun et al., Circle loss: a unified perspective of pair similarity optimization, 2020,
        https://arxiv.org/abs/2002.10857
    """
    return exactly(library.circle(margin, scale), embeddings, labels)


@card(task_types=("embedding",), batch=True, search={"regularisation": (1e-4, 0.1)})
def n_pairs(embeddings: Tensor, labels: Tensor, *, regularisation: float = 0.002) -> Tensor:
    """N-pairs loss: a positive pair against one negative of every other identity of the batch, all at once.

    mean over pairs (a, p) of log(1 + Σ_k mean_{n of k} e^{e_a·e_n − e_a·e_p}) + λ/2 mean |e|²,  λ = regularisation

    k are the other identities, e the embeddings without normalisation. The mean is over an identity's photos, of which
    the paper takes one, so that no photo of the batch is left out and their order does not matter.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, in nats.
    Use it when: batches hold few photos of many identities.
    Beware: lengths count here, although neighbours are found by cosine; without regularisation they keep growing.
    Reference: Sohn, Improved deep metric learning with multi-class N-pair loss objective, 2016,
        https://papers.nips.cc/paper/6200
    """
    require("loss.regularisation", regularisation, lambda v: v >= 0, "0 or above")
    e = embeddings.double()
    products, same = e @ e.T, labels.unsqueeze(0) == labels.unsqueeze(1)
    shares = products - same.sum(1, dtype=e.dtype).log()
    others = torch.where(same, shares.new_tensor(-torch.inf), shares).logsumexp(1, keepdim=True)
    per_example = F.softplus(others - products)[same & ~torch.eye(len(e), dtype=torch.bool, device=e.device)]
    value = per_example.sum() / max(len(per_example), 1) + regularisation / 2 * e.square().sum(1).mean()
    return value.to(embeddings.dtype)


@card(
    task_types=("embedding",),
    batch=True,
    needs=("classes", "dimensions", "generator"),
    search={"margin": (0.0, 60.0), "scale": (4.0, 128.0)},
)
class ArcFace(nn.Module):
    """ArcFace: softmax over angles to learnable class centres, with a margin added to the angle of the right one.

    −log( e^{s·cos(θ_y + m)} / (e^{s·cos(θ_y + m)} + Σ_{k≠y} e^{s·cos θ_k}) ),  s = scale, m = margin in degrees

    Beyond θ_y = 180° − m, cos θ_y − m·sin m replaces cos(θ_y + m), so that it keeps falling.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, in nats. Parameters: centres
        [dimensions, classes], from the seed's own stream.
    Use it when: there are many photos of each training identity; batches need no pairs.
    Beware: the margin is in degrees (28.6 are the paper's .5 radians). Identities with few photos get a centre too,
        and all centres are discarded after training.
    Reference: Deng et al., ArcFace, 2019, https://arxiv.org/abs/1801.07698
    """

    def __init__(
        self,
        *,
        classes: int,
        dimensions: int,
        generator: torch.Generator,
        margin: float = 28.6,
        scale: float = 64.0,
    ) -> None:
        super().__init__()
        require("loss.margin", margin, lambda v: 0 <= v < 180, "an angle in degrees, from 0, below 180")
        with own_draws():
            self.of = library.arcface()(classes, dimensions, margin=margin, scale=positive("scale", scale))
        nn.init.normal_(self.of.W, generator=generator)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch: embeddings [batch, dimensions] and labels [batch] into one number."""
        return self.of(embeddings.to(self.of.W.dtype), labels).to(embeddings.dtype)


@card(
    task_types=("embedding",),
    batch=True,
    needs=("classes", "dimensions", "generator"),
    search={"margin": (0.0, 0.5), "scale": (4.0, 128.0)},
)
class CosFace(nn.Module):
    """CosFace: softmax over cosines to learnable class centres, a margin subtracted from the cosine of the right one.

    −log( e^{s·(cos θ_y − m)} / (e^{s·(cos θ_y − m)} + Σ_{k≠y} e^{s·cos θ_k}) ),  s = scale, m = margin

    Shapes: embeddings [batch, dimensions], labels [batch]; one number, in nats. Parameters: centres
        [dimensions, classes], from the seed's own stream.
    Use it when: there are many photos of each training identity, and ArcFace is unstable.
    Beware: the margin is a cosine, not an angle. There is a centre for each training identity, and all are discarded
        after training.
    Reference: Wang et al., CosFace: large margin cosine loss for deep face recognition, 2018,
        https://arxiv.org/abs/1801.09414
    """

    def __init__(
        self,
        *,
        classes: int,
        dimensions: int,
        generator: torch.Generator,
        margin: float = 0.35,
        scale: float = 64.0,
    ) -> None:
        super().__init__()
        from pytorch_metric_learning.losses import CosFaceLoss

        require("loss.margin", margin, lambda v: 0 <= v <= 2, "a difference of cosines, 0 … 2")
        with own_draws():
            self.of = CosFaceLoss(classes, dimensions, margin=margin, scale=positive("scale", scale))
        nn.init.normal_(self.of.W, generator=generator)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch: embeddings [batch, dimensions] and labels [batch] into one number."""
        return self.of(embeddings.to(self.of.W.dtype), labels).to(embeddings.dtype)


@card(
    task_types=("embedding",),
    batch=True,
    needs=("classes", "dimensions", "generator"),
    search={"margin": (0.0, 0.5), "scale": (4.0, 128.0)},
)
class ProxyAnchor(nn.Module):
    """Proxy-anchor loss: a learnable proxy for each class pulls its own and pushes all others, hard ones most.

    mean_{k in batch} log(1 + Σ_{i: y_i=k} e^{−s·(cos(i, k) − m)}) + mean_k log(1 + Σ_{i: y_i≠k} e^{s·(cos(i, k) + m)})

    with s = scale (α in the paper), m = margin, and k for a class's proxy.

    Shapes: embeddings [batch, dimensions], labels [batch]; one number. Parameters: proxies [classes, dimensions], from
        the seed's own stream.
    Use it when: a batch has too few pairs to learn from, and examples should weigh by how hard they are.
    Beware: in the paper proxies have a hundred times the net's learning rate; here they share it.
    Reference: Kim et al., Proxy anchor loss for deep metric learning, 2020, https://arxiv.org/abs/2003.13911
    """

    def __init__(
        self,
        *,
        classes: int,
        dimensions: int,
        generator: torch.Generator,
        margin: float = 0.1,
        scale: float = 32.0,
    ) -> None:
        super().__init__()
        from pytorch_metric_learning.losses import ProxyAnchorLoss

        require("loss.margin", margin, lambda v: v >= 0, "0 or above")
        with own_draws():
            self.of = ProxyAnchorLoss(classes, dimensions, margin=margin, alpha=positive("scale", scale))
        nn.init.kaiming_normal_(self.of.proxies, mode="fan_out", generator=generator)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch: embeddings [batch, dimensions] and labels [batch] into one number."""
        return self.of(embeddings.to(self.of.proxies.dtype), labels).to(embeddings.dtype)
