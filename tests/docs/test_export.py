"""docs/export.md, carried out: the page's script finds what prediction finds, without torch and this package."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.inference.predictor import Predictor
from tests.docs.guide import read_guide, type_command
from tests.inference.export.small_models import one_map_detector

# The script as a user's computer runs it, where these cannot be imported.
WITHOUT = "import sys, runpy; sys.modules['torch'] = sys.modules['mammo_d2'] = None; runpy.run_path(sys.argv.pop(1))"


@pytest.mark.slow  # torch's exporter
def test_the_script_finds_what_prediction_finds(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    guide = read_guide("export.md")
    guide.write_files(tmp_path)
    model, cfg = one_map_detector()
    cfg.INPUT.PREPARATION = "auto"
    torch.save({"model": model.state_dict()}, "model_final.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (tmp_path / "preparation.json").write_text('{"read": {}, "options": {"image": {"aspect": 0.6}}}')
    coarse = np.random.default_rng(0).integers(0, 65535, (30, 30)).astype(np.uint16)
    cv2.imwrite("L-CC.png", cv2.resize(coarse, (400, 400), interpolation=cv2.INTER_CUBIC))
    [command] = guide.commands
    assert type_command([*command, "--weights", "model_final.pth"]) == 0

    script = [sys.executable, "-c", WITHOUT, "find_lesions.py", "detector.onnx", "L-CC.png"]
    found = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    overrides = ["MODEL.WEIGHTS", "model_final.pth", "DATALOADER.NUM_WORKERS", 0]
    [expected] = Predictor(load_config("config.yaml", overrides))(["L-CC.png"], strict=True)
    assert [line.split()[0] for line in found] == [("benign", "malignant")[label] for label in expected.labels]
    assert len(found) > 0
    numbers = np.array([[float(word) for word in line.split()[1:]] for line in found])
    np.testing.assert_allclose(numbers[:, 0], expected.scores, atol=1e-4)
    np.testing.assert_allclose(numbers[:, 1:], expected.boxes, atol=1e-3)
