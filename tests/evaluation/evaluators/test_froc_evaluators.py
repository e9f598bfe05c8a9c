"""FROC of the toy data set by hand, in all images and in those called positive."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.evaluators.registered import build_evaluators
from tests.evaluation.evaluators.toy import OUTPUTS, config, run


def test_froc_over_all_images(dataset, tmp_path):
    cfg = config(["froc"])
    cfg.TEST.FROC.FP_IMAGES = "all"
    froc = run(build_evaluators(cfg, dataset, tmp_path))["froc"]
    # The false positive of score 0.875 in the image of unknown truth counts, over 6 images.
    assert froc["malignant/sens@0.125"] == 0
    assert froc["malignant/threshold@0.125"] == np.inf
    assert froc["malignant/sens@0.25"] == 0.5
    content = json.loads((tmp_path / "froc.json").read_text())
    assert content["metrics"]["malignant/threshold@0.125"] is None
    boxes = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert [(box["image_id"], box["score"]) for box in boxes] == [
        (1, 0.75), (1, 0.25), (3, 0.5), (4, 0.625), (5, 0.875), (6, 0.125),
    ]  # fmt: skip
    assert boxes[0] == {"image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20], "score": 0.75}


def test_froc_where_images_are_called_positive(dataset, tmp_path):
    cfg = config(["froc_classified"])
    cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY = 0.5
    probabilities = [0.9, 0.1, 0.2, 0.8, 0.95, 0.7]  # images 1 and 6 have the class; 5 is unknown
    outputs = [{**o, "image_scores": {"malignant": p}} for o, p in zip(OUTPUTS, probabilities, strict=True)]
    froc = run(build_evaluators(cfg, dataset, tmp_path), outputs)["froc_classified"]
    # Called positive at 0.9: images 1 and 5, which is unknown. Hit at 0.75, miss at 0.25, over 5 images.
    assert froc["malignant/sens@0.125"] == froc["malignant/sens@8"] == 1
    assert froc["malignant/threshold@0.125"] == 0.75
    assert froc["malignant/threshold@0.25"] == 0.25
    assert froc["malignant/num_lesions"] == 1
    content = json.loads((tmp_path / "froc_classified.json").read_text())
    assert "called positive at sensitivity 0.5" in content["options"]
    assert content["curves"]["malignant"]["threshold"] == 0.9
    assert content["curves"]["malignant"]["images_called_positive"] == 2
    assert (tmp_path / "froc_classified.png").is_file()
    with pytest.raises(ValueError, match=r'"froc_classified" needs image_scores of malignant'):
        run(build_evaluators(cfg, dataset, None))
    cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY = 0.0
    with pytest.raises(ValueError, match=r"CLASSIFICATION_SENSITIVITY is 0\.0"):
        build_evaluators(cfg, dataset, None)
