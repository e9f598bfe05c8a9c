"""Baselines without training as models."""

import json

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


def stored(tmp_path, entries, *overrides):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    return model("stored_results", "MODEL.BASELINE.RESULTS", str(path), *overrides)


def test_results_of_another_program(tmp_path):
    entries = [
        {"image_id": 7, "category_id": 2, "bbox": [10, 20, 30, 40], "score": 0.25},
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 8, "category_id": 2, "bbox": [100, 0, 50, 10], "score": 0.75},
    ]
    first, second, third = stored(tmp_path, entries)([record(image_id=n) for n in (7, 8, 9)])
    found = first["instances"]
    assert found.pred_boxes.tensor.tolist() == [[10, 20, 40, 60]]
    assert (found.scores.tolist(), found.pred_classes.tolist()) == ([0.25], [0])
    assert second["instances"].pred_boxes.tensor.tolist() == [[100, 0, 120, 10]]  # the image is 120 wide
    assert len(third["instances"]) == 0
    both = stored(tmp_path, entries, "DATASETS.CATEGORIES", "['benign', 'malignant']")([record(image_id=7)])
    assert both[0]["instances"].pred_classes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"images": []}, r"results\.json: a COCO results file is a list"),
        ([{"image_id": 1}], r"entry 0: .* must have image_id"),
        ([{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3], "score": 1}], r"entry 0: .*bbox XYWH"),
    ],
)
def test_damaged_results(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        stored(tmp_path, entries)


def test_results_of_other_categories():
    with pytest.raises(ValueError, match=r"DATASETS\.CATEGORIES is \['mass'\]; it can be of benign, malignant alone"):
        model("stored_results", "DATASETS.CATEGORIES", "['mass']")
