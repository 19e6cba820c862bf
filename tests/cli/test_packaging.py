"""The built wheel, in another folder: it brings its configurations and its plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(words, check=True, capture_output=True)
    (built,) = folder.glob("lossbench-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_what_a_run_needs_and_no_more(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"lossbench/configs/{path.relative_to(ROOT / 'configs')}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs <= names
    assert {"hydra_plugins/lossbench_plugins/launcher.py", "lossbench/config/catalogue.json"} <= names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"lossbench", "hydra_plugins"}


@pytest.mark.slow
def test_a_comparison_from_the_wheel(wheel, tmp_path, here):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    where = "import lossbench.config.schema as s; print(s.CONFIGS)"
    words = ["-m", "lossbench", "-m", "loss=mse,mae", "train.steps=20"]
    said, ran = (
        subprocess.run([sys.executable, *w], cwd=here, env=environment, capture_output=True, text=True)
        for w in (["-c", where], words)
    )
    assert said.stdout.strip() == str(tmp_path / "site/lossbench/configs")
    assert ran.returncode == 0, ran
    assert "regression: test" in ran.stdout
