"""Each recipe of CONTRIBUTING.md, and each command in it, works in a folder of one's own."""

import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (Add an? \w+)\n(.*?)(?=^##)", PAGE, re.M | re.S))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def test_there_are_five():
    assert list(RECIPES) == [f"Add a {what}" for what in ("loss", "dataset", "model", "metric", "task")]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_works_outside_of_the_package(name, lossbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for language in ("python", "yaml"):
        for block in blocks(RECIPES[name], language):
            path = tmp_path / re.search(r"^# (\S+\.(?:py|yaml))$", block, re.M)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")
    commands = [line for block in blocks(RECIPES[name], "bash") for line in block.splitlines()]
    assert commands
    for command in commands:
        program, words = command[: len("python -m lossbench")], shlex.split(command)[3:]
        assert program == "python -m lossbench"
        result = lossbench(*words)
        assert result.code == 0, result.err
