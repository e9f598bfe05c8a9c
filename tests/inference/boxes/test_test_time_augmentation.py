"""Versions of an image and their boxes, alone and through a predictor."""

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.inference.boxes.test_time_augmentation import (
    TestTimeAugmentation,
    Version,
    boxes_of_version,
    version_of_sample,
)
from mammo_d2.inference.predictor import Predictor
from tests.inference.tiny_model import CROP_FLIP_SCALE, LESION, brightest_cfg, make_cfg, write_mammogram


def test_every_scale_has_every_flip_and_the_image_itself_comes_first():
    versions = TestTimeAugmentation(("horizontal", "vertical"), (0.5, 1.0)).versions
    flips = ((), ("horizontal",), ("vertical",))
    assert versions == tuple(Version(flip, scale) for scale in (1.0, 0.5) for flip in flips)
    assert TestTimeAugmentation().versions == (Version(),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("left",),), "flips"),
        (((), (9.0,)), "between 0.25 and 4"),
        (((), (float("nan"),)), "scales"),
        (((), (), 2), "IoU"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        TestTimeAugmentation(*arguments)


def test_a_sample_is_mirrored_and_scaled():
    image = torch.arange(12.0).reshape(1, 3, 4)
    sample = {"file_name": "a", "image": image, "tissue": image.bool(), "height": 30, "width": 40}
    mirrored = version_of_sample(sample, Version(("horizontal",)))
    assert mirrored["image"][0, 0].tolist() == [3, 2, 1, 0]
    assert mirrored["tissue"][0, 0].tolist() == [True, True, True, False]
    assert version_of_sample(sample, Version(("vertical",)))["image"][0, :, 0].tolist() == [8, 4, 0]
    scaled = version_of_sample(sample, Version((), 2.0))
    assert scaled["image"].shape == (1, 6, 8)
    assert (scaled["height"], scaled["width"]) == (30, 40)
    with pytest.raises(ValueError, match="a: test-time augmentation is for models that take the whole image"):
        version_of_sample({**sample, "windows": []}, Version())


def test_boxes_of_a_mirrored_image():
    boxes = torch.tensor([[1.0, 2, 5, 9]])
    assert boxes_of_version(boxes, Version(("horizontal",)), (30, 40)).tolist() == [[35, 2, 39, 9]]
    assert boxes_of_version(boxes, Version(("vertical",)), (30, 40)).tolist() == [[1, 21, 5, 28]]
    assert boxes_of_version(boxes, Version((), 2.0), (30, 40)).tolist() == boxes.tolist()
    assert boxes_of_version(torch.zeros(0, 4), Version(("vertical",)), (3, 4)).shape == (0, 4)


def test_a_lesion_is_at_its_place_in_every_version(tmp_path):
    file = write_mammogram(tmp_path / "a.png")
    augmentation = TestTimeAugmentation(("horizontal", "vertical"), (2.0,))
    predictor = Predictor(
        brightest_cfg(tmp_path, "INPUT.SIZE", "[160, 160]"), CROP_FLIP_SCALE, augmentation=augmentation
    )
    (prediction,) = predictor([file])
    # Six versions agree on the outer and on the inner box, whose overlap joins them.
    np.testing.assert_allclose(prediction.boxes[0], LESION, atol=3)
    assert prediction.image_scores == {"malignant": 0.75}


def test_augmentation_changes_the_scores_of_a_real_detector(tmp_path):
    file = write_mammogram(tmp_path / "a.png")
    cfg = make_cfg(tmp_path)
    (plain,) = Predictor(cfg)([file])
    (same,) = Predictor(cfg, augmentation=TestTimeAugmentation())([file])
    np.testing.assert_array_equal(same.boxes, plain.boxes)
    (augmented,) = Predictor(cfg, augmentation=TestTimeAugmentation(("horizontal",)))([file])
    assert 0 < len(augmented.scores) <= cfg.TEST.DETECTIONS_PER_IMAGE
    assert augmented.image_scores != plain.image_scores


def test_boxes_beside_the_breast_are_counted_and_do_not_score(tmp_path):
    file = write_mammogram(tmp_path / "a.png")
    label = write_mammogram(tmp_path / "label.png")
    pixels = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    pixels[LESION[1] : LESION[3], LESION[0] : LESION[2]] = 15000
    pixels[5:25, 5:30] = 60000  # at the dark side
    assert cv2.imwrite(str(label), pixels)
    cfg = brightest_cfg(tmp_path, "INPUT.SIZE", "[120, 200]")
    (found, beside) = Predictor(cfg, in_breast=True)([file, label])
    assert (len(found.scores), found.outside, found.image_scores) == (2, 0, {"malignant": 0.75})
    assert (len(beside.scores), beside.outside, beside.image_scores) == (0, 2, {"malignant": 0.0})
    (kept,) = Predictor(cfg)([label])
    assert kept.outside == 0
    np.testing.assert_allclose(kept.boxes[0], [5, 5, 30, 25])
