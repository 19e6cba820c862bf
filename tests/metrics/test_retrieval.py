"""Metrics of embeddings against loops, scikit-learn, and what is known without computing."""

import itertools

import numpy as np
import pytest
from sklearn import metrics

from lossbench.metrics import retrieval


def example(n=40, people=6, dimensions=4, seed=0, dtype=np.float64):
    """Embeddings that know something of their identity; identities of unequal size, the last of one example."""
    random = np.random.default_rng(seed)
    labels = np.append(random.integers(0, people - 1, n - 1), people - 1)
    places = random.standard_normal((people, dimensions))
    embeddings = places[labels] + 0.9 * random.standard_normal((n, dimensions))
    return (embeddings * random.uniform(0.1, 9, (n, 1))).astype(dtype), labels


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def by_hand(embeddings, labels):
    """Of each query: its others from near to far, right or wrong."""
    found = []
    for q, query in enumerate(embeddings):
        others = [k for k in range(len(labels)) if k != q]
        others.sort(key=lambda k: -cosine(query, embeddings[k]))
        found.append([labels[k] == labels[q] for k in others])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_is_a_loop_over_queries(seed):
    embeddings, labels = example(seed=seed)
    maps, firsts, precisions = [], [], []
    for right in by_hand(embeddings, labels):
        r = sum(right)
        if not r:
            continue  # nothing to find
        maps.append(sum(sum(right[: i + 1]) / (i + 1) for i in range(r) if right[i]) / r)
        firsts.append(right[0])
        precisions.append(sum(right[:r]) / r)
    assert 0.1 < np.mean(maps) < 0.9
    assert retrieval.retrieval(embeddings, labels) == pytest.approx([np.mean(x) for x in (maps, firsts, precisions)])


def test_retrieval_is_the_librarys_where_no_two_are_equal():
    import torch
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    embeddings, labels = example()
    names = ("mean_average_precision_at_r", "precision_at_1", "r_precision")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity()))
    theirs = calculator.get_accuracy(torch.tensor(embeddings), torch.tensor(labels))
    assert retrieval.retrieval(embeddings, labels) == pytest.approx([theirs[name] for name in names])


def test_neighbours_come_nearest_first_and_are_never_oneself():
    embeddings, _ = example()
    for most in (1, 5, 100):
        found = retrieval.neighbours(embeddings, most)
        assert found.shape == (40, min(most, 39))
        for query, nearest in enumerate(found):
            alike = [cosine(embeddings[query], embeddings[k]) for k in nearest]
            assert alike == sorted(alike, reverse=True)
            assert query not in nearest


def test_pairs_are_all_pairs():
    embeddings, labels = example()
    cosines, same = retrieval.pairs(embeddings, labels)
    expected = sorted(
        (cosine(embeddings[a], embeddings[b]), labels[a] == labels[b]) for a, b in itertools.combinations(range(40), 2)
    )
    assert len(cosines) == 780
    order = np.argsort(cosines)
    assert cosines[order] == pytest.approx([c for c, _ in expected])
    assert same[order].tolist() == [s for _, s in expected]


def test_of_many_examples_the_pairs_are_of_whole_identities():
    labels = np.repeat(np.arange(400), 5)
    embeddings = np.random.default_rng(0).standard_normal((len(labels), 3))
    cosines, same = retrieval.pairs(embeddings, labels)
    again, _ = retrieval.pairs(embeddings, labels)
    assert retrieval.EXAMPLES == 1500
    assert len(cosines) == 1500 * 1499 // 2
    assert same.sum() == 300 * 10  # all pairs of 300 identities: none is taken in part
    assert np.array_equal(cosines, again)


def test_verification_against_scikit_learn_and_bisection():
    cosines, same = retrieval.pairs(*example(60))
    found = retrieval.verification(cosines, same)
    assert found.auc == pytest.approx(metrics.roc_auc_score(same, cosines))
    # false accepts and rejects at the threshold where they cross, within one pair of either kind
    step = max(1 / same.sum(), 1 / (~same).sum())
    rates = [((cosines[~same] >= t).mean(), (cosines[same] < t).mean()) for t in np.sort(cosines)]
    crossing = min(rates, key=lambda pair: abs(pair[0] - pair[1]))
    assert found.eer == pytest.approx(np.mean(crossing), abs=step)


def test_true_accepts_at_a_rate_that_the_curve_has():
    same = np.repeat([True, False], [50, 200])
    cosines = np.concatenate([np.linspace(0.2, 1, 50), np.linspace(-1, 0.6, 200)])
    for allowed in (2, 10, 50):  # of 200 others
        threshold = np.sort(cosines[~same])[-allowed - 1]  # just above the next one
        expected = (cosines[same] > threshold).mean()
        assert retrieval.verification(cosines, same, far=allowed / 200).tar_at_far == pytest.approx(expected, abs=1e-12)


def test_true_accepts_between_two_points_are_interpolated():
    same, cosines = np.array([True, True, False, False]), np.array([1.0, 0.0, 0.5, -1.0])
    # the curve: (0, 0) (0, ½) (½, ½) (½, 1) (1, 1)
    assert retrieval.verification(cosines, same, far=0.25).tar_at_far == pytest.approx(0.5)
    assert retrieval.verification(cosines, same, far=0.5).tar_at_far == pytest.approx(1)
    assert retrieval.verification(cosines, same).eer == pytest.approx(0.5)
    tied = np.array([1.0, 0.5, 0.5, -1.0])  # (0, 0) (0, ½) (½, 1) (1, 1): aslant where two are equal
    found = retrieval.verification(tied, same, far=0.1)
    assert found.tar_at_far == pytest.approx(0.6)
    assert found.eer == pytest.approx(0.25)


@pytest.mark.parametrize(("good", "expected"), [(True, (1, 0, 1)), (False, (0, 1, 0))])
def test_perfect_and_reversed_verification(good, expected):
    same = np.arange(100) < 40
    cosines = np.where(same == good, 0.9, 0.1) + np.linspace(0, 0.01, 100)
    assert retrieval.verification(cosines, same) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [True, False])
def test_pairs_of_one_kind_get_what_chance_gets(kind):
    assert retrieval.verification(np.array([0.3, 0.1]), np.array([kind, kind])) == (0.5, 0.5, 0.01)
    assert retrieval.verification(np.empty(0), np.empty(0, bool)) == (0.5, 0.5, 0.01)


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.5])
def test_active_triplets_are_a_loop_over_all_triplets(margin):
    embeddings, labels = example(24)
    violated = [
        1 - cosine(embeddings[a], embeddings[p]) > 1 - cosine(embeddings[a], embeddings[n]) - margin
        for a, p, n in itertools.product(range(24), repeat=3)
        if a != p and labels[a] == labels[p] != labels[n]
    ]
    assert 0 < np.mean(violated) < 1
    assert retrieval.active_triplets(embeddings, labels, margin=margin) == pytest.approx(np.mean(violated))


def test_spread_is_the_mean_distance_between_identities():
    embeddings, labels = example()
    expected = [
        1 - cosine(embeddings[a], embeddings[b])
        for a, b in itertools.combinations(range(40), 2)
        if labels[a] != labels[b]
    ]
    assert retrieval.spread(embeddings, labels) == pytest.approx(np.mean(expected))


def test_identities_at_right_angles_are_a_spread_of_one():
    assert retrieval.spread(np.eye(4).repeat(3, 0), np.arange(4).repeat(3)) == pytest.approx(1)


LABELS = np.arange(5).repeat(4)


@pytest.mark.parametrize("place", [np.zeros(3), np.ones(3), np.array([1e-30, 0, 0])])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_place_for_all_is_chance_and_no_spread(place, dtype):
    embeddings, random = np.tile(place, (20, 1)).astype(dtype), np.random.default_rng(0)
    labels = random.permutation(LABELS)
    assert retrieval.spread(embeddings, labels) == pytest.approx(0, abs=1e-9)
    assert retrieval.active_triplets(embeddings, labels) == 1
    assert retrieval.verification(*retrieval.pairs(embeddings, labels)) == pytest.approx((0.5, 0.5, 0.01))
    assert retrieval.retrieval(embeddings, labels).recall_at_1 < 0.5


@pytest.mark.parametrize("labels", [np.zeros(6, int), np.arange(6), np.array([0])], ids=["one", "strangers", "alone"])
def test_nothing_to_compare_is_no_error(labels):
    embeddings = np.random.default_rng(0).standard_normal((len(labels), 3))
    found = retrieval.retrieval(embeddings, labels)
    assert found == ((1, 1, 1) if len(labels) > 1 and not labels.any() else (0, 0, 0))
    assert retrieval.verification(*retrieval.pairs(embeddings, labels)) == (0.5, 0.5, 0.01)
    assert retrieval.active_triplets(embeddings, labels) == 0
    assert np.isfinite(retrieval.spread(embeddings, labels))


def test_only_directions_matter():
    embeddings, labels = example()
    longer = embeddings * np.random.default_rng(1).uniform(1e-3, 1e3, (40, 1))
    assert retrieval.retrieval(longer, labels) == pytest.approx(retrieval.retrieval(embeddings, labels))
    assert retrieval.spread(longer, labels) == pytest.approx(retrieval.spread(embeddings, labels))
