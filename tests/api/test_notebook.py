"""docs/first.ipynb runs from top to bottom in a real kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]

AGAIN = """
own = lambda prediction, target: (prediction - target).square().mean(-1)
found = lossbench.compare(dataset="regression", losses=own, seeds=2, settings={"train.steps": 20, "dataset.train": 100})
"""


@pytest.fixture
def client(here, monkeypatch):
    """A kernel in an empty folder, for a notebook with these cells."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.setenv("IPYTHONDIR", str(here / "ipython"))

    def make(notebook):
        return NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(here)}})

    return make


def shown(cell):
    """What a cell shows, by MIME type, and what it prints."""
    data = {}
    for output in cell.outputs:
        data |= output.get("data", {})
        if output.output_type == "stream":
            data[output.name] = data.get(output.name, "") + output.text
    return data


@pytest.mark.slow
def test_the_first_notebook_and_a_cell_that_is_run_twice(client, here):
    notebook = nbformat.read(ROOT / "docs" / "first.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs would go stale: clear them"
    notebook.cells += [nbformat.v4.new_code_cell(AGAIN), nbformat.v4.new_code_cell(AGAIN + "found.sentence")]
    client(notebook).execute()
    cells = [shown(cell) for cell in notebook.cells if cell.cell_type == "code"]
    (said,) = [cell["stderr"] for cell in cells if "stderr" in cell]
    assert "1 is positive" in said
    assert said.count("\n") == 1
    pages = [cell["text/html"] for cell in cells if "<svg" in cell.get("text/html", "")]
    assert len(pages) == 2
    assert all(name in pages[0] for name in ("bce", "focal", "hinge"))
    assert "power" in pages[1]
    assert "gradient boosting (reference)" in pages[0]
    assert "given." not in "".join(pages)
    assert (here / "report.html").is_file()
    assert "stdout" not in cells[0]  # quiet
    assert "probability 1" in next(cell["text/plain"] for cell in cells if "prediction" in cell.get("text/plain", ""))
    assert cells[-1]["stdout"].count("lambda on regression, seed") == 2  # lines of text, not a widget each
    assert "only loss" in cells[-1]["text/plain"]
