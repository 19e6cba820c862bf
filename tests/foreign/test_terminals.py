"""Terminals, pipes and locales that are not UTF-8: what was trained is told, whatever they lack."""

from __future__ import annotations

import os
import subprocess
import sys

from recorded import runs
from small import SMALL

from lossbench.terminal import encoding

SHORT = [*SMALL["regression"], "train.steps=20", "train.eval_every=10"]
CALL = (
    "import warnings; warnings.filterwarnings('error', category=EncodingWarning, module='lossbench');"
    "from lossbench.cli.main import main; main()"
)


def said(*words, folder, **environment):
    """The command in a process of its own, with warnings of files that are read in the locale's encoding as errors."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON", "HYDRA"))}
    asked = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", CALL, *words],
        cwd=folder,
        env={**ours, **environment},
        capture_output=True,
    )
    return asked.returncode, asked.stdout, asked.stderr


def test_the_catalogue_and_errors_are_told_in_the_c_locale(here):
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, out, err = said("list", "dataset=regression", folder=here, **environment)
    assert code == 0, err
    assert b"huber" in out
    code, _, err = said("loss=nothing", folder=here, **environment)
    assert code == 2, err
    assert b"loss=nothing: no such loss" in err


def test_a_comparison_is_told_in_ascii_and_reads_ones_own_files_as_utf_8(store, here):
    """It ended in an error after everything had been trained, without a report, and RUNNING."""
    (here / "mine" / "loss").mkdir(parents=True)
    (here / "mine" / "loss" / "own.yaml").write_text("# größer → schöner\n_target_: own.own\n", encoding="utf-8")
    (here / "own.py").write_text(
        'def own(prediction, target):\n    """|r| → min"""\n    return (prediction - target).abs().mean(-1)\n',
        encoding="utf-8",
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["-m", "--config-dir", "mine", "loss=own,mae", "seed=0,1", *SHORT]
    code, out, err = said(*words, folder=here, **environment)
    assert code == 0, err
    assert b"report.html" in out
    assert "mae" in out.decode("ascii")
    assert [run.data.tags["lossbench.outcome"] for run in runs(store)] == ["finished"] * 4
    assert [run.info.status for run in runs(store, "comparison")] == ["FINISHED"]
    assert (here / "report.html").exists()


def test_what_a_stream_lacks_comes_out_as_a_question_mark():
    wants = f"from {encoding.__name__} import lenient; lenient(); print('a → ±1')"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    out = subprocess.run([sys.executable, "-c", wants], env=environment, capture_output=True, check=True).stdout
    assert out.decode("latin-1").strip() == "a ? ±1"
