"""A finished run packed to hand on."""

import json

import numpy as np
import pytest
import torch

from mammo_d2.cli.results import predict
from mammo_d2.config.loading import load_config
from mammo_d2.framework.weights.safetensors_files import read_safetensors
from mammo_d2.inference.packed_model import pack_run
from mammo_d2.inference.predictor import Predictor
from tests.inference.tiny_model import CROP_FLIP_SCALE, make_cfg, write_mammogram


@pytest.fixture
def run(tmp_path):
    """A finished run of the toy detector."""
    folder = tmp_path / "run"
    cfg = make_cfg(
        folder, "INPUT.PREPARATION", "auto", "OUTPUT_DIR", str(folder), "DATASETS.ROOT", str(tmp_path / "here")
    )
    (folder / "model.pth").rename(folder / "model_final.pth")
    (folder / "last_checkpoint").write_text("model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "preparation.json").write_text(json.dumps(CROP_FLIP_SCALE.to_dict()))
    return folder


def test_config_weights_and_preparation(run, tmp_path):
    size = pack_run(run, tmp_path / "packed")
    assert size == (tmp_path / "packed" / "model.safetensors").stat().st_size
    text = (tmp_path / "packed" / "config.yaml").read_text()
    assert str(tmp_path) not in text
    trained = torch.load(run / "model_final.pth", weights_only=True)["model"]
    packed = read_safetensors(tmp_path / "packed" / "model.safetensors")
    assert packed.keys() == trained.keys()
    for name, value in packed.items():
        assert value.dtype == (
            torch.float16 if trained[name].is_floating_point() and value.ndim > 1 else trained[name].dtype
        )
        torch.testing.assert_close(value.to(trained[name].dtype), trained[name], rtol=1e-3, atol=1e-6)


def test_it_predicts_as_the_run_does(run, tmp_path):
    """But for the rounding of float16, from the packed folder alone."""
    pack_run(run, tmp_path / "packed")
    image = write_mammogram(tmp_path / "a.png")
    found = []
    for folder, weights in ((run, "model_final.pth"), (tmp_path / "packed", "model.safetensors")):
        cfg = load_config(str(folder / "config.yaml"), ["MODEL.WEIGHTS", str(folder / weights)])
        (prediction,) = Predictor(cfg)([str(image)])
        found.append(prediction)
    best = [prediction.boxes[np.argmax(prediction.scores)] for prediction in found]
    np.testing.assert_allclose(best[1], best[0], atol=0.5)
    np.testing.assert_allclose(max(found[1].scores), max(found[0].scores), atol=2e-3)


def test_nothing_is_overwritten_and_no_value_is_lost(run, tmp_path):
    pack_run(run, tmp_path / "packed")
    with pytest.raises(ValueError, match=r"model\.safetensors is there already"):
        pack_run(run, tmp_path / "packed")
    checkpoint = torch.load(run / "model_final.pth", weights_only=True)
    name = next(name for name, value in checkpoint["model"].items() if value.ndim == 4)
    checkpoint["model"][name][0, 0, 0, 0] = 1e6
    torch.save(checkpoint, run / "model_final.pth")
    with pytest.raises(ValueError, match=r"float16 cannot hold"):
        pack_run(run, tmp_path / "other")


def test_an_unfinished_run(run, tmp_path):
    (run / "model_final.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"has not finished"):
        pack_run(run, tmp_path / "packed")


def test_the_packages_detector_runs(tmp_path, monkeypatch):
    """Two breasts through ``mammo-d2 predict`` as a user types it: a box in each, in the image."""
    write_mammogram(tmp_path / "exam" / "a_L-CC.png")
    write_mammogram(tmp_path / "exam" / "b_R-CC.png", seed=1)
    monkeypatch.chdir(tmp_path)
    assert predict.run(["exam", "--quiet", "--outside-breast", "keep", "--score-threshold", "0"]) == 0
    coco = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert [category["name"] for category in coco["categories"]] == ["malignant"]
    assert {annotation["image_id"] for annotation in coco["annotations"]} == {image["id"] for image in coco["images"]}
    assert len(coco["images"]) == 2
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert -1e-3 <= x <= x + width <= 200 + 1e-3
        assert -1e-3 <= y <= y + height <= 120 + 1e-3
        assert 0 <= annotation["score"] <= 1
