"""Passwords and tokens stand in nothing that is said or left, whatever goes wrong."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from searched import forms, found
from small import SMALL

SECRETS = {
    "plain": "hunter2seven",
    "of everything": "p@ss:w/o%r d?x#y&z",
    "of Hydra's": "fish,{chips}(salt)='vinegar'",
    "not ASCII": "pässwört-密码!",
}
SMALLEST = [*SMALL["regression"], "train.steps=2"]


def test_a_search_for_secrets_finds_them(tmp_path):
    for secret in SECRETS.values():
        (tmp_path / "a.db").write_bytes(b"\0\1" + quote(secret, safe="").encode() + b"\2")
        assert found(secret, tmp_path)
        (tmp_path / "a.db").unlink()


NOBODY = "127.0.0.1:9"
FAIR = ["-m", "hydra/sweeper=fair", "hydra.sweeper.trials=1", "loss=mse"]
COMMANDS = {
    "a run": ["tracking.uri={pg}"],
    "a run, quoted": ["tracking.uri='{pg}'"],
    "a sweep": ["-m", "loss=mse,mae", "tracking.uri={pg}"],
    "a sweep by Hydra's launcher": ["-m", "hydra/launcher=basic", "tracking.uri={pg}"],
    "compare": ["compare", "losses=mse", "tracking.uri={pg}"],
    "a search": [*FAIR, "tracking.uri={pg}"],
    "a storage": [*FAIR, "hydra.sweeper.storage={pg}"],
    "report": ["report", "tracking.uri={pg}"],
    "ui": ["ui", "tracking.uri={pg}"],
    "studies": ["verify", "--empirical", "tracking.uri={pg}"],
    "a server": ["tracking.uri=http://me:{secret}@127.0.0.1:9"],
    "a token": ["tracking.uri=http://{secret}@127.0.0.1:9"],
    "a token, asked": ["tracking.uri=http://127.0.0.1:9/?token={secret}"],
    "a key's": ["tracking.uri=postgresql://127.0.0.1:9/x?user=me&sslpassword={secret}"],
    "no scheme": ["tracking.uri=me:{secret}@127.0.0.1/x"],
    "a driver's own": ["tracking.uri=host=127.0.0.1 password={quoted}"],
    "a file": ["tracking.uri=file://me:{secret}@127.0.0.1/x"],
    "no store at all": ["tracking.uri=ftp://me:{secret}@127.0.0.1/x"],
    "a typo": ["tracking.urri={pg}"],
    "dashes": ["--tracking.uri={pg}"],
    "an address alone": ["{pg}"],
    "another fault": ["tracking.uri={pg}", "loss=hubr"],
    "a job's fault": ["-m", "loss=mse,focal", "tracking.uri={pg}"],
    "a dataset's": ["+dataset.url={quoted_pg}"],
    "the configuration": ["--cfg", "job", "tracking.uri={pg}"],
    "the configuration, resolved": ["--cfg", "job", "--resolve", "tracking.uri={pg}"],
    "help": ["--help", "tracking.uri={pg}"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_repeats_a_secret(name, lossbench, here, cache):
    secret = [*SECRETS.values()][[*COMMANDS].index(name) % len(SECRETS)]
    quoted = quote(secret, safe="")
    given = quoted if len(name) % 2 else secret
    said_pg = f"postgresql://me:{given}@{NOBODY}/x"
    fill = {"pg": said_pg, "secret": given, "quoted": quoted, "quoted_pg": f"postgresql://me:{quoted}@{NOBODY}/x"}
    words = [re.sub(r"\{(\w+)\}", lambda word: fill[word[1]], word) for word in COMMANDS[name]]
    data = [] if words[0] in ("report", "ui", "verify") else SMALLEST
    said = lossbench(*words, *data)
    told = said.out + said.err
    assert not [form for form in forms(secret) if form in told], told
    assert said.code == (0 if words[0].startswith(("--cfg", "--help")) else 2), said
    assert "Traceback" not in told
    if said.code:
        assert 1 <= len(said.err.strip().splitlines()) <= 2 + (name == "a job's fault"), said.err
    assert not found(secret, here)
    assert not found(secret, cache)
