"""How much each searched parameter matters for the best trials of a loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lossbench.analysis.searches import Search

FEWEST = 10  # trials with a score, below which an importance is noise
BEST = 0.25  # share of the trials; optuna's default, a tenth, would be two of twenty, which is too few


def importances(search: Search, trials: pd.DataFrame, higher_is_better: bool) -> dict[str, float]:
    """PED-ANOVA: each parameter's share in what distinguishes the best quarter of the trials from all; the sum is 1.

    Empty with fewer than ten scores, or with scores that are all alike.
    Reference: Watanabe, Bansal & Hutter, PED-ANOVA, 2023, arxiv.org/abs/2304.10255
    """
    known = trials[trials["score"].notna()].dropna(subset=[name for name in search.space if name in trials])
    names = [name for name in search.space if name in known and known[name].nunique() > 1]
    if len(known) < FEWEST or known["score"].nunique() < 2 or not names:
        return {}
    import optuna

    spaces = {name: _distribution(search.space[name]) for name in names}
    with _silent():
        study = optuna.create_study(direction="maximize" if higher_is_better else "minimize")
        for row in known.to_dict("records"):
            with contextlib.suppress(StopIteration):  # a choice that the space no longer has
                chosen = {name: _value(spaces[name], row[name]) for name in names}
                study.add_trial(optuna.create_trial(params=chosen, distributions=spaces, value=float(row["score"])))
        if len(study.trials) < FEWEST:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _distribution(space: Mapping[str, Any]) -> Any:
    import optuna

    if "choices" in space:
        return optuna.distributions.CategoricalDistribution([_plain(choice) for choice in space["choices"]])
    return optuna.distributions.FloatDistribution(space["low"], space["high"], log=bool(space.get("log")))


def _value(space: Any, value: Any) -> Any:
    """A recorded value as the space has it: 1.0 as the choice 1, and no value beyond an end by rounding."""
    if hasattr(space, "choices"):
        return next(choice for choice in space.choices if choice == value or same(choice, value))
    return min(max(float(value), space.low), space.high)


def same(choice: Any, value: Any) -> bool:
    """Whether a choice is the recorded value; records spell null and capitals differently from YAML."""
    words = {"none": "null"}
    a, b = (str(one).lower() for one in (choice, value))
    return words.get(a, a) == words.get(b, b)


def _plain(choice: Any) -> Any:
    return choice if choice is None or isinstance(choice, (bool, int, float, str)) else str(choice)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    import warnings

    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna warns of experimental features
            yield
    finally:
        optuna.logging.set_verbosity(before)
