"""docs/add_a_method.md, carried out: a method of another package, from its files to a trained and reported model."""

import importlib
import json
import sys

import pytest

from mammo_d2.framework import META_ARCH_REGISTRY
from tests.docs.guide import read_guide, type_command


@pytest.fixture
def guide(tmp_path, monkeypatch):
    """The guide's files in the working directory; what they register is forgotten."""
    guide = read_guide("add_a_method.md")
    guide.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield guide
    for name in ("lse_classifier", "test_lse_classifier"):
        sys.modules.pop(name, None)
    META_ARCH_REGISTRY._obj_map.pop("LSEClassifier", None)


def test_the_guide(guide, tmp_path):
    assert set(guide.files) == {"lse_classifier.py", "lse.yaml", "test_lse_classifier.py"}
    for command in guide.commands:
        assert type_command([*command, *(("--workers", "1") if command[0] == "prepare" else ())]) == 0, command
    run = tmp_path / "output" / "lse"
    steps = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert 0 < steps[-1]["total_loss"] < 1  # of one class, unknown in no image: about log 2 at the start
    metrics = json.loads((run / "inference" / "small_test" / "metrics.json").read_text())
    assert metrics["image"]["malignant/num_positive"] + metrics["image"]["malignant/num_negative"] == 16
    assert 0 <= metrics["image"]["malignant/auc"] <= 1
    assert metrics["saliency"]["malignant/num_images"] == 4
    report = (run / "report.html").read_text()
    assert "Results on small_test" in report
    assert "META_ARCHITECTURE: LSEClassifier" in report
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(predictions["images"]) == 32
    module = importlib.import_module("test_lse_classifier")
    module.test_pooling()
    module.test_unknown_labels_teach_nothing()
