import math

import pytest
import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import get_cfg
from mammo_d2.modeling.image_labels import Finding, findings_from_config, image_targets

CPU = torch.device("cpu")
BOTH = [Finding("benign", ("benign",)), Finding("malignant", ("malignant",))]


def test_labels_become_one_zero_or_nan():
    inputs = [{"labels": {"benign": 0, "malignant": 1}}, {"labels": {"benign": None}}]
    targets = image_targets(inputs, BOTH, CPU)
    assert targets[0].tolist() == [0.0, 1.0]
    assert targets[1].isnan().all()


@pytest.mark.parametrize(
    ("benign", "malignant", "expected"), [(0, 0, 0.0), (0, 1, 1.0), (None, 1, 1.0), (None, 0, math.nan)]
)
def test_merged_finding_is_present_if_any_label_is(benign, malignant, expected):
    target = Finding("lesion", ("benign", "malignant")).target({"benign": benign, "malignant": malignant})
    assert target == pytest.approx(expected, nan_ok=True)


def test_findings_follow_the_categories():
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
    assert findings_from_config(cfg) == BOTH
    cfg.DATASETS.MERGE_CATEGORIES = "lesion"
    assert findings_from_config(cfg) == [Finding("lesion", ("benign", "malignant"))]


def test_a_record_without_labels_is_named():
    with pytest.raises(ValueError, match=r"image 7, a\.png: the record has no labels"):
        image_targets([{"image_id": 7, "file_name": "a.png"}], BOTH, CPU)


def test_no_images():
    assert image_targets([], BOTH, CPU).shape == (0, 2)
