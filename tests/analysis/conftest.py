"""What all tests of the analysis share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from lossbench.analysis import document, report


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at each of Holm's corrections, which takes ten times as long as all the rest."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)


@pytest.fixture(scope="session", autouse=True)
def validated() -> Iterator[None]:
    """Every report that a test makes is, for programs, as its schema says."""
    schema = json.loads(files("lossbench.analysis").joinpath("report.schema.json").read_text(encoding="utf-8"))
    judge, make = jsonschema.Draft202012Validator(schema), report.make

    def checked(*words: Any, **named: Any) -> report.Report:
        made = make(*words, **named)
        judge.validate(json.loads(document.text(made)))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "make", checked)
        yield
