import cv2
import numpy as np
import pytest

from mammo_d2.data.breast.breast_window import BreastWindow
from mammo_d2.data.loading.augmentation import Augmentation
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.framework import BoxMode
from tests.data.breast_images import breast
from tests.data.toy_dataset import toy_config


def window_mapper(tmp_path, *overrides):
    cfg = toy_config(tmp_path)
    cfg.INPUT.PREPROCESSING, cfg.INPUT.SIZE = "breast_window", [64, 48]
    cfg.INPUT.WINDOW.EROSION, cfg.INPUT.WINDOW.MARGIN = 3, 2
    cfg.MODEL.META_ARCHITECTURE = "GMIC"
    cfg.merge_from_list(list(overrides))
    return MammoMapper(cfg, is_train=False, with_instances=True)


def test_the_window_takes_the_place_of_the_resized_image(tmp_path):
    image = breast(side="right")
    assert cv2.imwrite(str(tmp_path / "a.png"), image.astype(np.uint16))
    annotation = {"bbox": [20.0, 25.0, 6.0, 4.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record = {"file_name": str(tmp_path / "a.png"), "height": 60, "width": 40, "image_id": 1, "view": "CC"}
    sample = window_mapper(tmp_path)({**record, "annotations": [annotation]})
    expected, transform = BreastWindow((64, 48), 3, 2)(image, record)
    assert np.array_equal(sample["image"][0].numpy(), expected)
    assert sample["network_transform"] == transform
    assert sample["instances"].gt_boxes.tensor.tolist() == transform.boxes_to_prepared([20, 25, 26, 29]).tolist()


def test_bad_names(tmp_path):
    with pytest.raises(ValueError, match=r"'window' is unknown; choose one of resize, breast_window"):
        window_mapper(tmp_path, "INPUT.PREPROCESSING", "window")


def test_changes_of_grey_levels_of_0_to_255(tmp_path):
    with pytest.raises(ValueError, match=r"INPUT\.AUG\.CONTRAST is 0\.2: .* set it to 0"):
        window_mapper(tmp_path, "INPUT.AUG.CONTRAST", 0.2)


def test_augmentation_brings_in_background(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), breast().astype(np.uint16))
    record = {"file_name": str(tmp_path / "a.png"), "height": 60, "width": 40, "image_id": 1, "annotations": []}
    mapper = window_mapper(tmp_path)
    mapper.augmentation = Augmentation(rotation=40.0, shift=0.2, cutout_size=9, cutout_prob=1.0)
    black = float(mapper.prepare_image(record).pixels.min())
    for seed in range(4):
        image = mapper(record, np.random.default_rng(seed))["image"]
        assert image[0, 0, -1].item() == pytest.approx(black, rel=1e-6)  # a corner from beyond the border
        assert (image == 0).float().mean() < 0.01
        assert image.min().item() >= black - 1e-5


def test_windows_of_training_and_test_are_moved_at_random(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), breast().astype(np.uint16))
    record = {"file_name": str(tmp_path / "a.png"), "height": 60, "width": 40, "image_id": 1, "annotations": []}
    mapper = window_mapper(tmp_path, "INPUT.SIZE", [90, 60], "TEST.WINDOWS.COUNT", 3, "TEST.WINDOWS.SHIFT", 6)
    sample, again = mapper(record), mapper(record)
    still = sample["network_transform"].shift
    shifts = [version["network_transform"].shift for version in sample["windows"]]
    assert len(set(shifts)) == 3
    assert all(abs(x - still[0]) <= 6 and abs(y - still[1]) <= 6 for x, y in shifts)
    assert shifts == [version["network_transform"].shift for version in again["windows"]]
    expected = BreastWindow((90, 60), 3, 2, offset=(0, shifts[0][1] - still[1]))(breast(), record)[0]
    assert np.array_equal(np.sort(sample["windows"][0]["image"][0].numpy().ravel()), np.sort(expected.ravel()))

    cfg = toy_config(tmp_path)
    cfg.INPUT.PREPROCESSING, cfg.INPUT.SIZE, cfg.INPUT.WINDOW.RANDOM_SHIFT = "breast_window", [90, 60], 6
    cfg.INPUT.WINDOW.EROSION, cfg.INPUT.WINDOW.MARGIN, cfg.INPUT.AUG.FLIP_HORIZONTAL = 3, 2, 0.0
    trained = MammoMapper(cfg, is_train=True)
    seen = {trained(record, np.random.default_rng(seed))["network_transform"].shift for seed in range(20)}
    assert len(seen) > 10
    first, second = (trained(record, np.random.default_rng(3))["image"] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("key", ["INPUT.WINDOW.RANDOM_SHIFT", "TEST.WINDOWS.SHIFT"])
def test_only_the_breast_window_is_moved(tmp_path, key):
    with pytest.raises(ValueError, match=rf"{key} is 4, but INPUT.PREPROCESSING is resize"):
        window_mapper(tmp_path, "INPUT.PREPROCESSING", "resize", key, 4)
