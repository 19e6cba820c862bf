"""The empirical truths: what others have published about losses in training, checked against our own records.

Each is a file in `configs/experiment/verification/` and a function of the same name, whose docstring is the claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lossbench.analysis import confidence, stats
from lossbench.core import ConfigError
from lossbench.verification.studies import ALPHA, Evidence, Gate, Study, rng, study

PAIRS = 10  # seeds of a comparison of a loss with itself
DRAWS = 2000  # of such comparisons


@study(source="Huber 1964, https://doi.org/10.1214/aoms/1177703732")
def outliers(seen: Evidence) -> Iterator[Gate]:
    """With a tenth of gross outliers in training, the squared error is the worst on clean targets, and its interval
    overlaps that of no robust loss."""
    low, _ = own = seen.interval("test/mae", "mse")
    yield Gate("mae of mse", "the largest", seen.mean("test/mae", "mse"), own, _largest(seen, "test/mae", "mse"))
    for loss in ("huber", "mae", "tukey"):
        other = seen.interval("test/mae", loss)
        yield Gate(f"mae of {loss}", f"interval below {low:.3g}", seen.mean("test/mae", loss), other, other[1] < low)


@study(source="Ma et al. 2020, https://arxiv.org/abs/2006.13554", published="the order; 20 points or more")
def label_noise(seen: Evidence) -> Iterator[Gate]:
    """With 60 % of the labels wrong, accuracy on clean digits after the last epoch rises from cross-entropy over
    generalised cross-entropy to normalised cross-entropy with its reverse, over 20 points or more."""
    yield from seen.ordered("test_last/accuracy", ["cross_entropy", "gce", "nce_rce"])
    spread = seen.above("test_last/accuracy", "nce_rce", "cross_entropy")
    yield Gate("accuracy, last step: spread", "0.2 or more", spread.measured, spread.interval, spread.measured >= 0.2)


@study(source="https://arxiv.org/abs/2305.02139, figure 5", published="the sign only")
def learning_rate(seen: Evidence) -> Iterator[Gate]:
    """The learning rate alone changes how much wrong labels harm cross-entropy."""
    slow, fast = seen.named("lr=0.001", "lr=0.1")
    yield seen.above("test_last/accuracy", slow, fast)


@study(source="Buda et al. 2018, https://arxiv.org/abs/1710.05381")
def reweighting(seen: Evidence) -> Iterator[Gate]:
    """With a tuned threshold, cross-entropy does as well as weighted classes; at the threshold .5 it does not."""
    low, _ = seen.interval("test/balanced_accuracy_tuned", "class_weighted")
    measured = seen.mean("test/balanced_accuracy_tuned", "bce")
    own = seen.interval("test/balanced_accuracy_tuned", "bce")
    yield Gate("balanced accuracy of bce, tuned threshold", f"{low:.3f} or more", measured, own, measured >= low)
    yield seen.above("test/balanced_accuracy", "class_weighted", "bce")


@study(
    source="Mukhoti et al. 2020, https://arxiv.org/abs/2002.09437",
    published="ECE in %: CE 4.35, label smoothing .05 2.96, Brier 1.82, focal-3 1.48; tempered 1.35, 1.67, 1.08, 1.42",
)
def calibration(seen: Evidence) -> Iterator[Gate]:
    """The expected calibration error falls from cross-entropy over label smoothing and the Brier score to focal loss,
    and after temperature the gap between them is a third of it."""
    yield from seen.ordered("test/ece", ["focal", "brier", "label_smoothing", "cross_entropy"])
    before, after = (np.ptp(seen.values(f"test/{name}").mean().to_numpy()) for name in ("ece", "ece_tempered"))
    ratio = float(before / after)
    yield Gate("gap of ECE, before / after temperature", "3 or more", ratio, (np.nan, np.nan), ratio >= 3)


@study(
    source="Burda et al. 2016, https://arxiv.org/abs/1509.00519; Chadebec et al. 2022 (pythae)",
    published="MNIST, test NLL in nats: ELBO 89.78, IWAE 86.82",
)
def tighter_bound(seen: Evidence) -> Iterator[Gate]:
    """Trained by the importance-weighted bound of 50 samples, the same network has a test likelihood a nat or more
    above that of the evidence lower bound."""
    one, fifty = seen.named("samples=1", "samples=50")
    found = seen.above("test/nll", one, fifty)
    yield Gate(f"nll: {one} − {fifty}", "1 nat or more", found.measured, found.interval, found.measured >= 1)


@study(
    source="Dai & Wipf 2019, https://arxiv.org/abs/1903.05789",
    published="MNIST, Fréchet distance (Inception): Gaussian 52.0, cross-entropy 16.6",
)
def decoder(seen: Evidence) -> Iterator[Gate]:
    """A decoder trained by cross-entropy draws better digits than a Gaussian one."""
    yield seen.above("test/fid_cnn", "gaussian_elbo", "elbo")


@study(
    source="Lucic et al. 2018, https://arxiv.org/abs/1711.10337",
    published="MNIST, FID: minimax 9.8 ± .9, non-saturating 6.8 ± .5, least squares 7.8 ± .6, WGAN 6.7 ± .4, "
    "WGAN-GP 20.3 ± 5.0",
)
def games(seen: Evidence) -> Iterator[Gate]:
    """With equal tuning, no game is significantly better than the non-saturating one."""
    yield from _none_beats(seen, "test/parzen_nll", "non_saturating")


@study(source="Musgrave et al. 2020, https://arxiv.org/abs/2003.08505")
def strangers(seen: Evidence) -> Iterator[Gate]:
    """With equal tuning, the intervals of embedding losses overlap on people whom training never saw."""
    metric = "test/map_at_r"
    best = str(seen.values(metric).mean().idxmax())
    low, _ = seen.interval(metric, best)
    for loss in seen.losses:
        own = seen.interval(metric, loss)
        yield Gate(f"map_at_r of {loss}", f"interval reaches {low:.3f}", seen.mean(metric, loss), own, own[1] >= low)


@study(source="Schroff et al. 2015, https://arxiv.org/abs/1503.03832; Wu et al. 2017, https://arxiv.org/abs/1706.07567")
def collapse(seen: Evidence) -> Iterator[Gate]:
    """A hinge triplet on few identities ends at its margin, .05, with all embeddings in one place; published for
    training without mining, and with the hardest mined."""
    runs, margin = seen.verdict.runs, 0.05
    for label, rows in runs.groupby("label", sort=False):
        loss = rows["train/loss"].dropna()
        low, high = confidence.intervals(pd.DataFrame({label: loss.to_numpy()}).rename_axis("seed"), rng()).loc[label]
        required = f"within a tenth of {margin}"
        holds = abs(loss.mean() - margin) <= 0.1 * margin
        yield Gate(f"loss at the end: {label}", required, float(loss.mean()), (float(low), float(high)), bool(holds))


@study(source="Hui & Belkin 2021, https://arxiv.org/abs/2006.07322", published="within half a point on most tasks")
def square_loss(seen: Evidence) -> Iterator[Gate]:
    """The squared error of logits is as accurate as cross-entropy, within half a percentage point."""
    found = seen.difference("test/accuracy", "square_logits", "cross_entropy")
    measured = float(found["difference"])
    ends = float(found["low"]), float(found["high"])
    yield Gate("accuracy: square_logits − cross_entropy", "−0.005 … 0.005", measured, ends, abs(measured) <= 0.005)


@study(source="by design: a test at 5 % is wrong at most that often")
def same(seen: Evidence) -> Iterator[Gate]:
    """Between a loss and itself, trained on other seeds, the verdict finds a difference no more often than claimed."""
    values = seen.verdict.runs["test/mae"].dropna().to_numpy()
    random = rng()
    drawn = np.stack([random.permutation(values)[: 2 * PAIRS] for _ in range(DRAWS)], axis=1)  # [run, comparison]
    p, _ = stats.sign_flip(drawn[:PAIRS] - drawn[PAIRS:], stats.flips(PAIRS, random))
    rate = float(np.mean(p <= ALPHA))
    error = 1.96 * (rate * (1 - rate) / DRAWS) ** 0.5
    limit = ALPHA + 1.96 * (ALPHA * (1 - ALPHA) / DRAWS) ** 0.5
    yield Gate(
        "share of comparisons with p ≤ .05", f"at most {limit:.3f}", rate, (rate - error, rate + error), rate <= limit
    )


def _none_beats(seen: Evidence, metric: str, usual: str) -> Iterator[Gate]:
    """A gate for each other loss; lower values of the metric are better."""
    table = seen.differences(metric, [usual, *(loss for loss in seen.losses if loss != usual)])
    for _, row in table[table["a"] == usual].iterrows():
        beaten = row["difference"] > 0 and row["p_all"] <= ALPHA
        ends = -float(row["high"]), -float(row["low"])
        yield Gate(f"parzen_nll: {row['b']} − {usual}", "not below 0", -float(row["difference"]), ends, not beaten)


def _largest(seen: Evidence, metric: str, loss: str) -> bool:
    return str(seen.values(metric).mean().idxmax()) == loss


STUDIES = {
    each.name: each
    for each in (
        outliers,
        label_noise,
        learning_rate,
        reweighting,
        calibration,
        tighter_bound,
        decoder,
        games,
        strangers,
        collapse,
        square_loss,
        same,
    )
}


def chosen(names: Sequence[str]) -> list[Study]:
    """The studies with these names, or all of them. Raises: ConfigError for an unknown name."""
    unknown = [name for name in names if name not in STUDIES]
    if unknown:
        raise ConfigError(f"verify --empirical: {unknown[0]}: no such study\nthere are {', '.join(STUDIES)}")
    return [STUDIES[name] for name in dict.fromkeys(names or STUDIES)]
