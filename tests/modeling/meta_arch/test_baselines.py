"""Baselines without training as models."""

import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.framework import build_model
from tests.conftest import ROOT


def model(name, *overrides):
    cfg = load_config(str(ROOT / "configs" / "baselines" / f"{name}.yaml"), ["MODEL.DEVICE", "cpu", *overrides])
    return build_model(cfg).eval()


def record(**more):
    image = torch.zeros(1, 80, 60)
    image[:, :, :40] = 50
    image[:, 16:28, 10:22] = 200
    return {"image": image, "height": 160, "width": 120, **more}


def test_the_brightest_spot_in_pixels_of_the_file():
    (output,) = model("brightest_blob", "MODEL.BASELINE.SIGMAS", "[0.0375]")([record()])
    found = output["instances"]
    assert found.image_size == (160, 120)
    # Sigma 3 of 80 rows: sides of 12, twice as many in the file.
    assert found.pred_boxes.tensor[0].tolist() == pytest.approx([20, 32, 44, 56], abs=2)
    assert found.scores[0] == found.scores.max()
    assert set(output) == {"instances"}


def test_the_centre_has_the_same_image_score_in_every_image():
    outputs = model("center_prior")([record(), {"image": torch.rand(1, 50, 30) * 200}])
    assert [float(output["instances"].scores.max()) for output in outputs] == [1, 1]
    box = outputs[0]["instances"].pred_boxes.tensor[0]
    assert ((box[:2] + box[2:]) / 2).tolist() == pytest.approx([40, 80])
    assert outputs[1]["instances"].image_size == (50, 30)


def test_boxes_of_every_class():
    (output,) = model("center_prior", "DATASETS.CATEGORIES", "['benign', 'malignant']")([record()])
    labels = output["instances"].pred_classes
    assert (labels == 0).sum() == (labels == 1).sum() > 0


def test_there_is_nothing_to_train():
    with pytest.raises(RuntimeError, match="CenterPrior has nothing to train; set JOB UntrainedJob"):
        model("center_prior").train()([record()])
