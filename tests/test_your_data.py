"""docs/your-data.md: each file and each command of it works, with fewer steps, in a folder of one's own."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recorded import runs

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "your-data.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
SHORT = ["train.steps=20", "train.eval_every=10", "train.batch_size=16"]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture
def photos(here):
    random = np.random.default_rng(0)
    for name, light in (("day", 200), ("night", 50)):
        (here / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = (light + random.integers(-40, 40, (24, 20, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(here / "photos" / name / f"{number}.png")


def test_there_are_four():
    assert list(SECTIONS) == ["A table", "Arrays", "A torch Dataset", "A folder of pictures"]


@pytest.mark.parametrize("title", SECTIONS)
def test_what_a_section_says_works(title, lossbench, store, photos, here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    for block in blocks(SECTIONS[title], "python"):
        name = re.search(r"^# (\S+\.py)$", block, re.M)[1]
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
        (here / name).write_text(block, encoding="utf-8")
    for command in (line for block in blocks(SECTIONS[title], "bash") for line in block.splitlines()):
        program, *words = shlex.split(command)
        if words[0].endswith(".py"):
            runpy.run_path(words[0])
            continue
        assert (program, words[:2]) == ("python", ["-m", "lossbench"])
        words = [word.replace("seeds=6", "seeds=2") for word in words[2:]]
        if words[0] == "predict":
            words[1] = runs(store)[0].info.run_id
        said = lossbench(*words, *([] if words[0] == "predict" else SHORT))
        assert said.code == 0, said.err
