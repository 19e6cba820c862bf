"""How often the verdict is wrong: claims, intervals and early stops on data of which the truth is known.

    python scripts/rates.py [CASE …] [--repetitions 500] [--seed 0]

Cases: fresh, resplit, strata, groups, folds, fixed, power, sequential, equal. A real table of 20,190 rows (statsmodels'
randhie) is the population: the user has some of its rows, losses are regressions fitted to these, and the truth is
their score on all the rows that were held back. A claim is false where it contradicts that truth. Every figure comes
from the functions that a report calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis import level, looks, stats
from lossbench.analysis.population import Population, folded
from lossbench.datasets.tables import splitting
from lossbench.datasets.tables.splitting import Plan

Floats = np.ndarray[Any, Any]
SEEDS = 10
PARTS = 20
GROUP = 5


class Table:
    """The population, and the rows of it that the user has."""

    def __init__(self, rng: np.random.Generator, rows: int, group: int = 1) -> None:
        """`group` rows that are alike come together, as those of one patient do."""
        inputs, targets = _table()
        alike = np.lexsort(inputs.T) if group > 1 else np.arange(len(targets))
        chunks = np.array_split(alike, len(targets) // group)
        order = np.concatenate([chunks[place] for place in rng.permutation(len(chunks))])
        self.rng, self.rows = rng, rows
        self.inputs, self.targets = inputs[order[:rows]], targets[order[:rows]]
        self.held_inputs, self.held_targets = inputs[order[rows:]], targets[order[rows:]]

    def fitted(self, train: Floats, losses: int) -> Floats:
        """Weights [input, loss] of Huber regressions; the first is nearly absolute error, the last squared error."""
        x, y = self.inputs[train], self.targets[train]
        found = []
        for delta in np.geomspace(0.1, 4, losses):
            weights = np.zeros(x.shape[1])
            for _ in range(3):
                size = np.maximum(np.abs(y - x @ weights), 1e-6)
                w = np.minimum(1.0, delta / size)[:, None]
                weights = np.linalg.solve((w * x).T @ x + 1e-6 * np.eye(x.shape[1]), (w * x).T @ y)
            found.append(weights)
        return np.stack(found, axis=1)

    def errors(self, weights: Floats, rows: Floats) -> Floats:
        """Absolute errors [row, loss]."""
        return np.abs(self.targets[rows, None] - self.inputs[rows] @ weights)

    def truth(self, weights: Floats) -> Floats:
        """Mean absolute error of each loss on the rows that were held back."""
        return np.abs(self.held_targets[:, None] - self.held_inputs @ weights).mean(0)


_known: list[tuple[Floats, Floats]] = []


def _table() -> tuple[Floats, Floats]:
    if not _known:
        from statsmodels.datasets import randhie

        data = randhie.load_pandas().data.astype(float)
        x = data.drop(columns="mdvis").to_numpy()
        x = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / x.std(0)])
        _known.append((x, np.log1p(data["mdvis"].to_numpy())))
    return _known[0]


def tabled(values: Floats) -> pd.DataFrame:
    """Values [seed, loss] as the table that `stats` expects."""
    rows, columns = values.shape
    return pd.DataFrame(
        values, pd.Index(map(str, range(rows)), name="seed"), pd.Index(list("abcdefgh"[:columns]), name="loss")
    )


def fresh(rng: np.random.Generator, rows: int, share: float, losses: int) -> tuple[Floats, dict[str, Any]]:
    """Each seed has its own rows."""
    found = np.empty((SEEDS, losses))
    for seed in range(SEEDS):
        one = Table(rng, rows)
        cut = round(rows * share)
        weights = one.fitted(np.arange(cut, rows), losses)
        found[seed] = one.errors(weights, np.arange(cut)).mean(0) - one.truth(weights)
    return found, {}


def resplit(rng: np.random.Generator, rows: int, share: float, losses: int) -> tuple[Floats, dict[str, Any]]:
    """All seeds split the same rows: `share` for the test, as many for selection, the rest for training."""
    one, cut = Table(rng, rows), round(rows * share)
    splits = (rng.permutation(rows) for _ in range(SEEDS))
    pairs = [(order[:cut], order[2 * cut :]) for order in splits]
    return _scored(one, pairs, losses), {"overlap": cut / (rows - cut)}


def strata(rng: np.random.Generator, rows: int, share: float, losses: int) -> tuple[Floats, dict[str, Any]]:
    """As `resplit`, by the splits of `dataset=table`, with those who saw no doctor in equal shares."""
    one = Table(rng, rows)
    return _table_splits(one, Plan(share, share, strata=(one.targets > 0).astype(int)), losses)


def groups(rng: np.random.Generator, rows: int, share: float, losses: int) -> tuple[Floats, dict[str, Any]]:
    """As `resplit`, by the splits of `dataset=table`, of groups of five rows that are alike."""
    one = Table(rng, rows, GROUP)
    return _table_splits(one, Plan(share, share, groups=np.arange(rows) // GROUP), losses)


def _table_splits(one: Table, plan: Plan, losses: int) -> tuple[Floats, dict[str, Any]]:
    first, pairs = int(one.rng.integers(2**31)), []
    for seed in range(first, first + SEEDS):
        parts, sampling = splitting.split(plan, one.rows, seed, None, "")
        pairs.append((parts["test"], parts["train"]))
    return _scored(one, pairs, losses), {"overlap": sampling.test / (sampling.train + sampling.validation)}


def folds(rng: np.random.Generator, rows: int, share: float, losses: int) -> tuple[Floats, dict[str, Any]]:
    """Seeds test on folds in order, so that as many seeds as folds test on every row once."""
    one, count = Table(rng, rows), round(1 / share)
    pairs = []
    for seed in range(SEEDS):
        if seed % count == 0:
            order = rng.permutation(rows)
        test = order[seed % count :: count]
        pairs.append((test, np.setdiff1d(order, test)))
    return _scored(one, pairs, losses), {"overlap": folded(count, range(SEEDS))}


def fixed(rng: np.random.Generator, rows: int, share: float, losses: int) -> tuple[Floats, dict[str, Any]]:
    """All seeds test on the same rows; each trains on four fifths of the others, to vary as initial weights would."""
    one, cut = Table(rng, rows), round(rows * share)
    test, part = np.arange(cut), rng.permutation(cut) % PARTS
    found, left = np.empty((SEEDS, losses)), np.empty((losses, SEEDS, PARTS))
    truth = np.empty((4 * SEEDS, losses))
    for seed in range(4 * SEEDS):
        train = cut + rng.permutation(rows - cut)[: (rows - cut) * 4 // 5]
        weights = one.fitted(train, losses)
        truth[seed] = one.truth(weights)
        if seed < SEEDS:
            error = one.errors(weights, test)
            found[seed] = error.mean(0)
            left[:, seed] = np.stack([error[part != number].mean(0) for number in range(PARTS)], axis=1)
    names = tabled(found).columns
    shifted = found - truth.mean(0)
    return shifted, {"left_out": {n: pd.DataFrame(left[k], list(map(str, range(SEEDS)))) for k, n in enumerate(names)}}


def _scored(one: Table, pairs: list[tuple[Floats, Floats]], losses: int) -> Floats:
    """How much higher each split's fits score on their test rows than on the rows that were held back."""
    found = np.empty((len(pairs), losses))
    for seed, (test, train) in enumerate(pairs):
        weights = one.fitted(train, losses)
        found[seed] = one.errors(weights, test).mean(0) - one.truth(weights)
    return found


def rates(draw: Callable[..., Any], rows: int, share: float, losses: int, args: argparse.Namespace) -> dict[str, Any]:
    """The share of comparisons with a false claim, and of pairs whose interval holds the truth."""
    rng = np.random.default_rng([args.seed, rows, losses])
    false, held, plain = 0, [], 0
    for _ in range(args.repetitions):
        values, fits = draw(rng, rows, share, losses)
        table = tabled(values)
        found = stats.differences(table, rng, higher_is_better=False, **fits)
        false += bool((found["p_all"] <= level.ALPHA).any())
        held += list((found["low"] <= 0) & (found["high"] >= 0))
        plain += bool((stats.differences(table, rng, higher_is_better=False)["p_all"] <= level.ALPHA).any())
    n = args.repetitions
    return {
        "rows": rows, "share": share, "losses": losses, "false claims": false / n, "coverage": float(np.mean(held)),
        "sign flips": plain / n,
    }  # fmt: skip


def power(args: argparse.Namespace, rows: int = 500, share: float = 0.2) -> Iterator[dict[str, Any]]:
    """How often a true difference is found, by its size in standard errors of one split, for each kind of data."""
    for name, draw in (("fresh", fresh), ("resplit", resplit), ("folds", folds), ("fixed", fixed)):
        row: dict[str, Any] = {"power of": name}
        for effect in (1.0, 2.0, 4.0, 8.0):
            rng, found = np.random.default_rng([args.seed, 9]), 0
            for _ in range(args.repetitions // 2):
                values, fits = draw(rng, rows, share, 2)
                values[:, 1] += effect * 0.012
                found += bool(
                    (stats.differences(tabled(values), rng, higher_is_better=False, **fits)["p_all"] <= 0.05).any()
                )
            row[f"+ {effect * 0.012:.3f}"] = found / (args.repetitions // 2)
        yield row


def sequential(args: argparse.Namespace, most: int = 40) -> Iterator[dict[str, Any]]:
    """Seeds until decided, for independent seeds whose differences have a standard deviation of one."""
    plan = looks.looks(most, Population("fresh"))
    for losses in (2, 4, 8):
        for effect in (0.0, 0.3, 0.6, 1.2):
            rng = np.random.default_rng([args.seed, losses, int(10 * effect)])
            claims, runs, right, at_once = 0, [], 0, 0
            n = args.repetitions * 2 // losses
            for _ in range(n):
                values = rng.standard_normal((most, losses)) / np.sqrt(2) + rng.standard_normal((most, 1))
                values[:, 0] -= effect  # the first is best
                spent, claim, best = _stopped(tabled(values), plan)
                runs.append(spent)
                claims += claim
                right += best == ["a"]
                fixed_ = stats.differences(tabled(values), rng, higher_is_better=False)
                at_once += stats.not_distinguishable(tabled(values), fixed_, higher_is_better=False) == ["a"]
            yield {
                "losses": losses, "effect": effect, "any claim": claims / n, "first found best": right / n,
                "of 40 at once": at_once / n, "runs of 40 a loss": float(np.mean(runs)) / (most * losses),
            }  # fmt: skip


def _stopped(values: pd.DataFrame, plan: list[looks.Look]) -> tuple[int, bool, list[str]]:
    """The runs spent, whether any claim was made, and the losses left as best."""
    going, seen, spent, before = list(values.columns), values.mask(values.notna()), 0, 0

    known: dict[int, pd.DataFrame] = {}  # the values of an earlier look do not change

    def compare(part: pd.DataFrame, alpha: float) -> pd.DataFrame:
        if len(part) not in known:
            random = np.random.default_rng(0)
            known[len(part)] = stats.differences(part, random, higher_is_better=False, margin=0.1, alpha=alpha)
        return known[len(part)]

    for number, look in enumerate(plan):
        rows = values.index[before : look.seeds]
        seen.loc[rows, going] = values.loc[rows, going]
        spent, before = spent + len(rows) * len(going), look.seeds
        table = looks.differences(seen.iloc[: look.seeds], plan[: number + 1], compare)
        best = seen[going].mean().idxmin()
        left = looks.open_pairs(table, best, going, higher_is_better=False)
        if not left:
            break
        going = [loss for loss in values.columns if loss in {best, *left}]
    left = [x for x in values.columns if x == best or not stats.worse(table, x, best, higher_is_better=False)]
    return spent, bool((table["p_all"] <= level.ALPHA).any()), left


def equal(args: argparse.Namespace, rows: int = 500) -> Iterator[dict[str, Any]]:
    """How often losses are called equal within a margin: losses that differ by the margin, and that do not differ."""
    for name, draw in (("fresh", fresh), ("resplit", resplit), ("folds", folds), ("fixed", fixed)):
        rng = np.random.default_rng([args.seed, 5])
        row: dict[str, Any] = {"equal within .05": name}
        for shift in (0.05, 0.0):
            claims_equal = 0
            for _ in range(args.repetitions):
                values, fits = draw(rng, rows, 0.2, 2)
                values[:, 1] += shift
                found = stats.differences(tabled(values), rng, higher_is_better=False, margin=0.05, **fits)
                claims_equal += bool((found["p_equal"] <= level.ALPHA).any())
            row[f"difference {shift:g}"] = claims_equal / args.repetitions
        yield row


def show(rows: Iterable[dict[str, Any]]) -> None:
    """Print rows as a Markdown table, each as soon as it is known."""
    for number, row in enumerate(rows):
        if not number:
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        print(
            "| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |", flush=True
        )


def main() -> None:
    """Print the tables of the cases that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cases",
        nargs="*",
        default=["fresh", "resplit", "strata", "groups", "folds", "fixed", "power", "sequential", "equal"],
    )
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for case in args.cases:
        print(f"\n**{case}**\n", flush=True)
        if case in ("power", "sequential", "equal"):
            show({"power": power, "sequential": sequential, "equal": equal}[case](args))
            continue
        draw = {"fresh": fresh, "resplit": resplit, "strata": strata, "groups": groups, "folds": folds, "fixed": fixed}[
            case
        ]
        shares = {"resplit": (0.1, 0.3, 0.2), "folds": (0.1, 0.2)}.get(case, (0.2,))
        sizes = [(n, s) for n in (200, 500, 2000) for s in shares if s == shares[-1] or n == 500]
        show(rates(draw, n, s, k, args) for n, s in sizes for k in (2, 4, 8))


if __name__ == "__main__":
    main()
