"""Addresses as they may be told, and what others say of them."""

from __future__ import annotations

import os
from urllib.parse import quote, quote_plus

import pytest

from lossbench.config import redaction
from lossbench.config.redaction import clean, hidden, redacted

SHOWN = {
    "postgresql://me:secret@host/db": "postgresql://me:…@host/db",
    "postgresql+psycopg2://me:p@ss:w/o?r#d é@host:5432/db?x=1": "postgresql+psycopg2://me:…@host:5432/db?x=1",
    "postgresql://me:a@host/db?sslpassword=a b&sslmode=require": "postgresql://me:…@host/db?sslpassword=…&sslmode=require",
    "postgresql://host/db?user=me&password=p@ss": "postgresql://host/db?user=me&password=…",
    "postgresql://host/db?user=me&pass%77ord=a&b&x=1": "postgresql://host/db?user=me&pass%77ord=…&x=1",
    "http://me:se:cret@host:1": "http://…@host:1",
    "https://token@host/x": "https://…@host/x",
    "http://host:5000/?access_token=a@b&x=1": "http://…&x=1",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret": "mssql+pyodbc:///?odbc_connect=…",
    "sqlite+pysqlcipher://:secret@/x.db": "sqlite+pysqlcipher://:…@/x.db",
    "++tracking.uri='http://me:secret@host'": "++tracking.uri='http://…@host'",
    "tracking.uri=me:secret@host/db": "tracking.uri=…@host/db",
    "host=h password=secret user=me": "host=h password=… user=me",
    "dataset.token=hf_secret": "dataset.token=…",
}
OPEN = [
    *("sqlite:////tmp/a@b/x.db", "postgresql://me@host/db", "http://host:5000", "https://host/@me", "seed=range(3)"),
    *("optimizer.betas=[0.9,0.99]", "model.class_token=true", "question=what is it: me@you", "experiment_name=a: b"),
]
SECRET = "p@ss:w/o%r d?x#y&z-密码"


@pytest.mark.parametrize("address", SHOWN)
def test_what_opens_a_store_is_not_shown(address):
    assert redacted(address) == SHOWN[address]
    assert redacted(redacted(address)) == SHOWN[address]


@pytest.mark.parametrize("text", OPEN)
def test_all_else_is_shown_as_it_stands(text):
    assert redacted(text) == text


@pytest.mark.parametrize("given", [SECRET, quote(SECRET, safe="")])
@pytest.mark.parametrize("form", [str, repr, quote, quote_plus, lambda text: quote(text, safe=" +")])
def test_a_drivers_error_says_no_secret_in_any_spelling(given, form):
    told = clean(f"no {form(SECRET)} at host ss; me is fine", f"tracking.uri=postgresql://me:{given}@host/x")
    assert told.replace("'", "") == "no … at host ss; me is fine"


def test_the_environment_is_known(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter3@host")
    assert clean("hunter2 at http://you:hunter4@host and hunter3") == "… at http://…@host and …"


def test_settings_keep_all_but_secrets():
    settings = {"tracking": {"uri": "http://t@h", "artifacts": None}, "dataset": {"token": "x", "urls": ["http://t@h"]}}
    assert hidden(settings) == {
        "tracking": {"uri": "http://…@h", "artifacts": None},
        "dataset": {"token": "…", "urls": ["http://…@h"]},
    }


def test_an_address_with_a_secret_is_in_the_environment_while_it_is_needed(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///before.db")
    words = ["loss=mse", "+tracking.uri='postgresql://me:a\\'b,c@h'", "hydra.sweeper.storage=sqlite:///x.db"]
    with redaction.held(words) as held:
        assert held == ["loss=mse", "+tracking.uri=${oc.env:MLFLOW_TRACKING_URI}", words[2]]
        assert os.environ["MLFLOW_TRACKING_URI"] == "postgresql://me:a'b,c@h"
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///before.db"
