"""docs/python.md: the examples of each section work, in a folder with a table of patients."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
SECTIONS = {
    title: re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
}


@pytest.fixture
def patients(here):
    random = np.random.default_rng(0)
    age, sex = random.uniform(20, 80, 200), random.choice(["f", "m"], 200)
    ill = random.uniform(size=200) < 1 / (1 + np.exp((50 - age) / 8))
    pd.DataFrame({"age": age, "sex": sex, "outcome": np.where(ill, "ill", "well")}).to_csv("patients.csv", index=False)


def test_every_section_has_an_example():
    assert len(SECTIONS) == 7
    assert all(SECTIONS.values())


@pytest.mark.parametrize("title", SECTIONS)
def test_the_examples_of_a_section_work(title, patients):
    beginning, table = SECTIONS["A comparison"][0], SECTIONS["Your table"]
    imports = [line for line in beginning.splitlines() if line.startswith(("import", "small"))]
    blocks = [*imports, *(table if title == "Predictions" else []), *SECTIONS[title]]
    space = {}
    for block in blocks:  # with fewer seeds and steps
        exec(block.replace("seeds=6", "seeds=2").replace('"train.steps": 200', '"train.steps": 20'), space)
