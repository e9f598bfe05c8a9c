"""The notebooks of docs/notebooks run from top to bottom, each in an empty folder, and show what they promise."""

import json
import os

import pytest

from tests.conftest import ROOT

pytest.importorskip("ipykernel")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = ROOT / "docs" / "notebooks"


def run(name, folder, monkeypatch):
    """Printed text and number of pictures of a notebook, executed in ``folder``."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    book = nbformat.read(FOLDER / name, as_version=4)
    client = nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    return text, sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_own_results(tmp_path, monkeypatch):
    text, pictures = run("own_results.ipynb", tmp_path, monkeypatch)
    assert pictures == 1
    lines = text.splitlines()
    assert lines[0].startswith("ours    sensitivity at 0.5 false positives per image: 0.")
    assert lines[4].startswith("theirs - ours at 0.5: -0.")


@pytest.mark.slow
def test_shipped_weights(tmp_path, monkeypatch):
    text, pictures = run("shipped_weights.ipynb", tmp_path, monkeypatch)
    assert pictures == 1
    assert "classes: ['malignant']" in text
    assert "image scores: {'malignant': 0." in text


@pytest.mark.slow
def test_train_on_phantoms(tmp_path, monkeypatch):
    text, _ = run("train_on_phantoms.ipynb", tmp_path, monkeypatch)
    assert "AP50 on the test images: " in text
    assert (tmp_path / "output" / "tiny" / "model_final.pth").is_file()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
