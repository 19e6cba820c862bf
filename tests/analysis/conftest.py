"""What all tests of the analysis share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at each of Holm's corrections, which takes ten times as long as all the rest."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)
