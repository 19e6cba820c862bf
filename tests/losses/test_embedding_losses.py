"""Losses of embeddings against loops over all pairs and triplets that are written from the equations alone."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from lossbench.core import ConfigError, stream
from lossbench.losses.embedding import (
    ArcFace,
    CosFace,
    ProxyAnchor,
    circle,
    contrastive,
    margin,
    multi_similarity,
    n_pairs,
    nt_xent,
    soft_triplet,
    supcon,
    triplet,
)

MINERS = ("all", "semihard", "hard", "none")
DISTANCES = {"cosine": lambda a, b: 1 - a @ b, "euclidean": lambda a, b: (a - b).square().sum().sqrt()}
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 3])  # the last has no mate


def batch(labels=LABELS, dimensions=5, seed=0, dtype=torch.float64):
    embeddings = 3 * torch.randn(len(labels), dimensions, generator=stream(seed, "embeddings"), dtype=dtype)
    return embeddings.requires_grad_(), labels


def per_example(loss, embeddings, labels, **settings):
    given = loss(embeddings, labels, **settings)
    return getattr(given, "per_example", given)


def assert_same(found, expected, embeddings, rtol=1e-9):
    """In value, and in gradient with respect to the embeddings."""
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-12)
    ours, theirs = (torch.autograd.grad(value, embeddings, retain_graph=True)[0] for value in (found, expected))
    assert theirs.abs().max() > 1e-4
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-10)


def unit(embeddings):
    return [e / e.square().sum().sqrt() for e in embeddings]


def triplets(embeddings, labels, distance):
    """d(a, p) − d(a, n) of every triplet."""
    u, n = unit(embeddings), len(labels)
    return torch.stack(
        [
            DISTANCES[distance](u[a], u[p]) - DISTANCES[distance](u[a], u[k])
            for a, p, k in itertools.product(range(n), repeat=3)
            if a != p and labels[a] == labels[p] != labels[k]
        ]
    )


def chosen(gaps, margin, miner):
    return {
        "all": gaps > -margin,
        "semihard": (gaps > -margin) & (gaps < 0),
        "hard": gaps >= 0,
        "none": torch.ones_like(gaps, dtype=torch.bool),
    }[miner]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("margin", [0.05, 0.4])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("miner", MINERS)
def test_triplet_is_a_loop_over_all_triplets(miner, distance, margin, seed):
    embeddings, labels = batch(seed=seed)
    gaps = triplets(embeddings, labels, distance)
    kept = chosen(gaps, margin, miner)
    assert kept.any()
    expected = F.relu(gaps[kept] + margin).mean()
    found = triplet(embeddings, labels, margin=margin, miner=miner, distance=distance)
    assert_same(found.per_example, expected, embeddings)
    share = (chosen(gaps, margin, "all") if miner == "none" else kept).double().mean()
    torch.testing.assert_close(found.parts["active"], share)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("miner", MINERS)
def test_soft_triplet_is_a_loop_over_all_triplets(miner, distance):
    embeddings, labels = batch()
    gaps = triplets(embeddings, labels, distance)
    expected = torch.log1p(torch.exp(gaps[chosen(gaps, 0.2, miner)] + 0.2)).mean()
    settings = {"margin": 0.2, "miner": miner, "distance": distance}
    assert_same(per_example(soft_triplet, embeddings, labels, **settings), expected, embeddings)


def test_miners_keep_different_triplets():
    embeddings, labels = batch()
    values = {miner: triplet(embeddings, labels, margin=0.3, miner=miner).per_example.item() for miner in MINERS}
    assert len(set(values.values())) == len(MINERS)


def test_triplets_of_all_are_those_of_semihard_and_hard():
    embeddings, labels = batch()
    share = {m: triplet(embeddings, labels, margin=0.3, miner=m).parts["active"].item() for m in MINERS}
    assert share["all"] == pytest.approx(share["semihard"] + share["hard"])


@pytest.mark.parametrize("pos_margin", [0.0, 0.3])
@pytest.mark.parametrize("neg_margin", [0.6, 1.0])
def test_contrastive_is_a_loop_over_all_pairs(pos_margin, neg_margin):
    embeddings, labels = batch()
    u = unit(embeddings)
    pulls, pushes = [], []
    for a, b in itertools.permutations(range(len(labels)), 2):
        d = DISTANCES["euclidean"](u[a], u[b])
        (pulls if labels[a] == labels[b] else pushes).append(
            d - pos_margin if labels[a] == labels[b] else neg_margin - d
        )
    means = [torch.stack([term for term in side if term > 0]).mean() for side in (pulls, pushes)]
    found = contrastive(embeddings, labels, pos_margin=pos_margin, neg_margin=neg_margin)
    assert_same(found, sum(means), embeddings)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_sets_each_positive_against_the_negatives(temperature):
    embeddings, labels = batch()
    u, n, expected = unit(embeddings), len(labels), []
    for a, p in itertools.permutations(range(n), 2):
        if labels[a] == labels[p]:
            wrong = [u[a] @ u[k] for k in range(n) if labels[k] != labels[a]]
            logits = torch.stack([u[a] @ u[p], *wrong]) / temperature
            expected.append(torch.logsumexp(logits, 0) - logits[0])
    assert_same(nt_xent(embeddings, labels, temperature=temperature), torch.stack(expected).mean(), embeddings)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_supcon_shares_the_softmax_among_positives(temperature):
    embeddings, labels = batch()
    u, n, expected = unit(embeddings), len(labels), []
    for a in range(n):
        rest = [k for k in range(n) if k != a]
        log_p = torch.stack([u[a] @ u[k] for k in rest]).div(temperature).log_softmax(0)
        mates = [i for i, k in enumerate(rest) if labels[k] == labels[a]]
        if mates:
            expected.append(-log_p[mates].mean())
    assert_same(supcon(embeddings, labels, temperature=temperature), torch.stack(expected).mean(), embeddings)


def test_nt_xent_and_supcon_agree_on_two_views_each():
    embeddings, labels = batch(torch.arange(4).repeat(2))
    found = [loss(embeddings, labels, temperature=0.2) for loss in (nt_xent, supcon)]
    torch.testing.assert_close(*found)


def cosines(embeddings):
    """Cosines of all pairs, and for each anchor who is its mate and who is not."""
    u, n = unit(embeddings), len(embeddings)
    return [[u[a] @ u[b] for b in range(n)] for a in range(n)]


def sides(labels, anchor):
    others = [k for k in range(len(labels)) if k != anchor]
    return [k for k in others if labels[k] == labels[anchor]], [k for k in others if labels[k] != labels[anchor]]


@pytest.mark.parametrize("miner", ["similarity", "none"])
@pytest.mark.parametrize("settings", [(2.0, 50.0, 0.5, 0.1), (3.0, 8.0, 0.2, 0.5)])
def test_multi_similarity_weighs_the_pairs_that_its_miner_keeps(miner, settings):
    embeddings, labels = batch(seed=1)
    alpha, beta, base, epsilon = settings
    s, expected, kept = cosines(embeddings), [], 0
    for a in range(len(labels)):
        mates, strangers = sides(labels, a)
        if miner == "similarity":
            most = max(s[a][n].item() for n in strangers)
            least = min((s[a][p].item() for p in mates), default=math.inf)
            mates = [p for p in mates if s[a][p] < most + epsilon]
            strangers = [n for n in strangers if s[a][n] > least - epsilon]
        kept += len(mates) + len(strangers)
        pull = torch.log1p(sum(torch.exp(-alpha * (s[a][p] - base)) for p in mates)) / alpha if mates else 0
        push = torch.log1p(sum(torch.exp(beta * (s[a][n] - base)) for n in strangers)) / beta if strangers else 0
        expected.append(pull + push + torch.zeros((), dtype=torch.float64))
    found = multi_similarity(embeddings, labels, alpha=alpha, beta=beta, base=base, miner=miner, epsilon=epsilon)
    assert_same(found.per_example, torch.stack(expected).mean(), embeddings)
    assert found.parts["active"].item() == pytest.approx(kept / 72)
    assert (kept < 72) == (miner == "similarity")


@pytest.mark.parametrize(("m", "beta"), [(0.2, 1.2), (0.05, 0.9)])
def test_margin_has_one_boundary_for_all_distances(m, beta):
    embeddings, labels = batch()
    u, per_example = unit(embeddings), []
    for a in range(len(labels)):
        mates, strangers = sides(labels, a)
        for p, n in itertools.product(mates, strangers):
            per_example.append(F.relu(DISTANCES["euclidean"](u[a], u[p]) - beta + m))
            per_example.append(F.relu(beta + m - DISTANCES["euclidean"](u[a], u[n])))
    expected = torch.stack([term for term in per_example if term > 0]).mean()
    assert_same(margin(embeddings, labels, margin=m, beta=beta), expected, embeddings)


@pytest.mark.parametrize(("m", "gamma"), [(0.4, 80.0), (0.25, 5.0)])
def test_circle_pulls_each_similarity_by_what_it_lacks(m, gamma):
    embeddings, labels = batch()
    s, expected = cosines(embeddings), []
    for a in range(len(labels)):
        mates, strangers = sides(labels, a)
        if mates:
            pull = sum(torch.exp(-gamma * F.relu(1 + m - s[a][p].detach()) * (s[a][p] - 1 + m)) for p in mates)
            push = sum(torch.exp(gamma * F.relu(s[a][n].detach() + m) * (s[a][n] - m)) for n in strangers)
            expected.append(torch.log1p(pull * push))
    assert_same(circle(embeddings, labels, margin=m, scale=gamma), torch.stack(expected).mean(), embeddings)


@pytest.mark.parametrize("regularisation", [0.0, 0.3])
def test_n_pairs_sets_a_pair_against_every_other_identity_once(regularisation):
    embeddings, labels = batch()
    e, expected = embeddings / 3, []
    for a in range(len(labels)):
        mates, _ = sides(labels, a)
        for p in mates:
            against = 0
            for k in set(labels.tolist()) - {int(labels[a])}:
                against = against + torch.exp(e[labels == k] @ e[a] - e[p] @ e[a]).mean()
            expected.append(torch.log1p(against))
    lengths = regularisation / 2 * e.square().sum(1).mean()
    found = n_pairs(e, labels, regularisation=regularisation)
    assert_same(found, torch.stack(expected).mean() + lengths, embeddings)


def test_n_pairs_is_the_papers_where_photos_of_an_identity_are_alike():
    """Then it does not matter which of them are taken: the library takes two."""
    from pytorch_metric_learning import distances, losses

    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    embeddings = batch(torch.arange(3), seed=5)[0].detach()[labels].requires_grad_()
    theirs = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))
    one_each = torch.tensor([0, 1, 2, 3, 5, 6])
    balanced, few = embeddings[one_each], labels[one_each]
    torch.testing.assert_close(n_pairs(balanced, few, regularisation=0.0), theirs(balanced, few))


def learned(loss_class, classes=4, dimensions=5, seed=3, **settings):
    return loss_class(classes=classes, dimensions=dimensions, generator=stream(seed, "loss"), **settings).double()


@pytest.mark.parametrize(("margin", "scale"), [(28.6, 64.0), (10.0, 8.0), (100.0, 4.0)])
def test_arcface_adds_its_margin_to_the_angle(margin, scale):
    embeddings, labels = batch()
    loss = learned(ArcFace, margin=margin, scale=scale)
    centres, m = loss.of.W.T, math.radians(margin)
    expected = []
    for e, y in zip(unit(embeddings), labels, strict=True):
        cosines = [e @ w / w.norm() for w in centres]
        angle = torch.acos(cosines[y])
        turned = torch.cos(angle + m) if angle <= math.pi - m else torch.cos(angle) - m * math.sin(m)
        logits = torch.stack([turned if k == y else c for k, c in enumerate(cosines)]) * scale
        expected.append(torch.logsumexp(logits, 0) - logits[y])
    assert_same(loss(embeddings, labels), torch.stack(expected).mean(), embeddings)


def test_arcface_without_margin_is_a_softmax_over_cosines():
    embeddings, labels = batch()
    loss = learned(ArcFace, margin=0.0, scale=10.0)
    logits = 10 * F.normalize(embeddings) @ F.normalize(loss.of.W, dim=0)
    assert_same(loss(embeddings, labels), F.cross_entropy(logits, labels), embeddings)


@pytest.mark.parametrize(("margin", "scale"), [(0.35, 64.0), (0.0, 10.0), (1.5, 4.0)])
def test_cosface_takes_its_margin_off_the_cosine(margin, scale):
    embeddings, labels = batch()
    loss = learned(CosFace, margin=margin, scale=scale)
    expected = []
    for e, y in zip(unit(embeddings), labels, strict=True):
        logits = scale * torch.stack([e @ w / w.norm() - margin * float(k == y) for k, w in enumerate(loss.of.W.T)])
        expected.append(torch.logsumexp(logits, 0) - logits[y])
    assert_same(loss(embeddings, labels), torch.stack(expected).mean(), embeddings)


def test_cosface_and_arcface_without_margin_are_one():
    embeddings, labels = batch()
    one, other = (learned(loss_class, margin=0.0, scale=8.0) for loss_class in (CosFace, ArcFace))
    assert torch.equal(one.of.W, other.of.W)
    assert_same(one(embeddings, labels), other(embeddings, labels), embeddings, rtol=1e-6)


@pytest.mark.parametrize(("margin", "scale"), [(0.1, 32.0), (0.3, 4.0)])
def test_proxy_anchor_sums_over_the_batch_of_each_proxy(margin, scale):
    labels = LABELS[:-1]  # class 3 has a proxy and no example
    embeddings, _ = batch(labels)
    loss = learned(ProxyAnchor, margin=margin, scale=scale)
    pulls, pushes = [], []
    for k, proxy in enumerate(loss.of.proxies):
        cosines = torch.stack([e @ proxy / proxy.norm() for e in unit(embeddings)])
        mine = labels == k
        if mine.any():
            pulls.append(torch.log1p(torch.exp(-scale * (cosines[mine] - margin)).sum()))
        pushes.append(torch.log1p(torch.exp(scale * (cosines[~mine] + margin)).sum()))
    expected = torch.stack(pulls).sum() / 3 + torch.stack(pushes).sum() / 4
    assert_same(loss(embeddings, labels), expected, embeddings)


LEARNED = pytest.mark.parametrize("loss_class", [ArcFace, CosFace, ProxyAnchor])


@LEARNED
def test_what_a_loss_learns_comes_from_its_generator_alone(loss_class):
    before = torch.random.get_rng_state()
    first, again, other = (dict(learned(loss_class, seed=seed).named_parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, parameter in first.items():
        assert torch.equal(parameter, again[name])
        assert not torch.equal(parameter, other[name])


@LEARNED
def test_what_a_loss_learns_is_counted_and_has_a_gradient(loss_class):
    loss = learned(loss_class, classes=6, dimensions=7)
    (parameter,) = loss.parameters()
    assert parameter.numel() == 42
    embeddings, labels = batch(dimensions=7)
    loss(embeddings, labels).backward()
    assert parameter.grad.abs().max() > 0


@LEARNED
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_what_a_loss_learns_keeps_its_type(loss_class, dtype):
    loss = loss_class(classes=4, dimensions=5, generator=stream(0, "loss"))
    embeddings, labels = batch(dtype=dtype)
    assert loss(embeddings, labels).dtype == dtype
    assert {parameter.dtype for parameter in loss.parameters()} == {torch.float32}


MADE = {
    "triplet": triplet,
    "soft_triplet": soft_triplet,
    "contrastive": contrastive,
    "nt_xent": nt_xent,
    "supcon": supcon,
    "multi_similarity": multi_similarity,
    "margin": margin,
    "circle": circle,
    "n_pairs": n_pairs,
    "arcface": ArcFace,
    "cosface": CosFace,
    "proxy_anchor": ProxyAnchor,
}
EACH = pytest.mark.parametrize("name", MADE)
FREE = [name for name, loss in MADE.items() if not isinstance(loss, type)]  # of anything to learn


def made(name, **settings):
    loss = MADE[name]
    if isinstance(loss, type):
        return kind_of(loss, **settings)
    return lambda embeddings, labels: per_example(loss, embeddings, labels, **settings)


def kind_of(loss, **settings):
    return loss(classes=4, dimensions=5, generator=stream(3, "loss"), **settings)


@EACH
def test_the_global_generator_is_left_alone(name):
    before = torch.random.get_rng_state()
    made(name)(*batch(dtype=torch.float32)).backward()
    assert torch.equal(torch.random.get_rng_state(), before)


@EACH
def test_the_value_has_the_type_of_the_embeddings(name):
    types = [torch.float32, torch.float64, torch.bfloat16]
    values = [made(name)(*batch(dtype=dtype)) for dtype in types]
    assert [value.dtype for value in values] == types
    assert {value.shape for value in values} == {()}


@EACH
def test_the_order_of_a_batch_does_not_matter(name):
    embeddings, labels = batch(dtype=torch.float32)
    order = torch.arange(len(labels)).roll(4).flip(0)
    loss = made(name)
    torch.testing.assert_close(loss(embeddings[order], labels[order]), loss(embeddings, labels))


@pytest.mark.parametrize("name", [name for name in MADE if name != "n_pairs"])
def test_only_directions_matter(name):
    embeddings, labels = batch(dtype=torch.float32)
    lengths = torch.linspace(0.1, 50, len(labels))[:, None]
    loss = made(name)
    torch.testing.assert_close(loss(embeddings * lengths, labels), loss(embeddings, labels))


@EACH
def test_finite_where_all_are_at_one_place_and_far_out(name):
    wrong = []
    for scale, spread in itertools.product((0.0, 1e-4, 1e4), (0.0, 1.0)):
        embeddings = scale * (1 + spread * batch()[0].detach().float())
        value = made(name)(embeddings.requires_grad_(), LABELS)
        (gradient,) = torch.autograd.grad(value, embeddings)
        if not (value.isfinite() and gradient.isfinite().all()):
            wrong.append((scale, spread, value, gradient))
    assert wrong == []


@pytest.mark.parametrize("towards", [1, -1])
@LEARNED
def test_finite_where_an_embedding_meets_its_centre(loss_class, towards):
    for seed in range(10):
        loss = loss_class(classes=4, dimensions=64, generator=stream(seed, "loss"))
        (parameter,) = loss.parameters()
        centres = parameter if loss_class is ProxyAnchor else parameter.T
        embeddings = (towards * centres).detach().clone().requires_grad_()
        gradients = torch.autograd.grad(loss(embeddings, torch.arange(4)), [embeddings, parameter])
        assert all(gradient.isfinite().all() for gradient in gradients)


def separated():
    """Identities that are as far apart as may be, and each at one place."""
    labels = torch.arange(4).repeat_interleave(3)
    return torch.eye(4, 5)[labels].requires_grad_(), labels


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("miner", MINERS)
def test_no_active_triplet_costs_nothing_and_pulls_nowhere(miner, distance):
    embeddings, labels = separated()
    found = triplet(embeddings, labels, margin=0.05, miner=miner, distance=distance)
    assert found.per_example.item() == 0
    assert found.parts["active"].item() == 0
    assert torch.equal(torch.autograd.grad(found.per_example, embeddings)[0], torch.zeros_like(embeddings))


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("labels", [torch.arange(9), torch.zeros(9, dtype=torch.long)], ids=["strangers", "one"])
def test_a_batch_without_pairs_to_compare_is_no_error(name, labels):
    embeddings = batch()[0].detach().float().requires_grad_()
    value = made(name)(embeddings, labels)
    (gradient,) = torch.autograd.grad(value, embeddings)
    assert value.isfinite()
    assert gradient.isfinite().all()
    if name not in ("contrastive", "n_pairs"):  # which push strangers apart, and shorten
        assert value.item() == 0
        assert not gradient.any()


@EACH
def test_descent_brings_identities_together(name):
    embeddings, labels = batch(torch.arange(4).repeat_interleave(3), dtype=torch.float32)
    loss = made(name, **({"miner": "all", "margin": 0.5} if name == "triplet" else {}))
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    before = gap(embeddings, labels)
    for _ in range(100):
        optimizer.zero_grad()
        loss(embeddings, labels).backward()
        optimizer.step()
    assert gap(embeddings, labels) > max(before + 0.3, 0.3)


def gap(embeddings, labels):
    """By how much identities are more alike within than between."""
    u = F.normalize(embeddings.detach())
    cosines, same = u @ u.T, labels[:, None] == labels
    return (cosines[same].mean() - cosines[~same].mean()).item()


@pytest.mark.parametrize("name", ["triplet", "soft_triplet", "contrastive"])
def test_near_each_other_distances_are_no_noise(name):
    labels = torch.arange(10).repeat_interleave(4)
    near = (1 + 1e-4 * batch(labels, 64)[0].detach()).float().requires_grad_()
    settings = {} if name == "contrastive" else {"miner": "none", "distance": "euclidean"}
    exact = near.double()
    (ours,) = torch.autograd.grad(made(name, **settings)(near, labels), near)
    (theirs,) = torch.autograd.grad(made(name, **settings)(exact, labels), exact)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def test_the_same_bits_on_one_thread_and_on_two():
    embeddings, labels = batch(torch.arange(48).repeat(4), 64, dtype=torch.float32)
    threads, gradients = torch.get_num_threads(), []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            gradients.append(torch.autograd.grad(triplet(embeddings, labels, miner="none").per_example, embeddings)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[1], gradients[2])


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("triplet", {"miner": "soft"}, r"loss\.miner=soft.*semihard"),
        ("soft_triplet", {"distance": "l1"}, r"loss\.distance=l1.*euclidean"),
        ("nt_xent", {"temperature": 0.0}, r"loss\.temperature=0\.0"),
        ("supcon", {"temperature": -1.0}, r"loss\.temperature=-1\.0"),
        ("arcface", {"margin": 180.0}, r"loss\.margin=180"),
        ("arcface", {"scale": 0.0}, r"loss\.scale=0"),
        ("proxy_anchor", {"scale": -2.0}, r"loss\.scale=-2"),
    ],
)
def test_impossible_settings_are_refused(name, settings, said):
    with pytest.raises(ConfigError, match=said):
        made(name, **settings)(*batch(dtype=torch.float32))


def test_every_loss_says_that_it_sees_the_whole_batch():
    for loss in MADE.values():
        assert loss.card.batch
        assert loss.card.task_types == ("embedding",)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("multi_similarity", {"miner": "hard"}, "similarity or none"),
        ("multi_similarity", {"beta": 0.0}, "loss.beta"),
        ("multi_similarity", {"base": 2.0}, "loss.base"),
        ("margin", {"margin": -0.1}, "loss.margin"),
        ("margin", {"beta": 2.5}, "loss.beta"),
        ("circle", {"margin": 1.0}, "loss.margin"),
        ("circle", {"scale": 0.0}, "loss.scale"),
        ("n_pairs", {"regularisation": -1.0}, "loss.regularisation"),
        ("cosface", {"margin": -0.1}, "loss.margin"),
        ("cosface", {"scale": 0.0}, "loss.scale"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, settings, told):
    with pytest.raises(ConfigError, match=told):
        made(name, **settings)(*batch())
