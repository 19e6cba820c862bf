"""A table with everything that tables of people have: holes, names, dates, identifiers, a column that never changes."""

from __future__ import annotations

import numpy as np
import pandas as pd


def patients(n=300, seed=0):
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": range(1, n + 1),
            "age": random.normal(50, 15, n).round(1),
            "sex": random.choice(["f", "m"], n),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 1500, n), unit="D"),
            "constant": 1,
            "note": [f"note {i} of {i}" for i in range(n)],
            "smoker": random.choice([True, False], n),
            "dose": random.exponential(3, n),
            "patient": random.integers(0, n // 4, n),
            "w": random.choice([1, 2, 3], n),
        }
    )
    frame.loc[random.random(n) < 0.2, "age"] = np.nan
    frame.loc[random.random(n) < 0.1, "sex"] = None
    risk = 0.05 * (frame["age"].fillna(50) - 50) + (frame["sex"] == "f") + frame["smoker"]
    frame["outcome"] = np.where(risk + random.normal(0, 1, n) > 1.2, "yes", "no")
    return frame
