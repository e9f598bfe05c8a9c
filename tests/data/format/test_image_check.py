import cv2
import numpy as np
import pytest

from mammo_d2.data.format.annotations import validate_coco
from tests.data.format.coco_content import GOOD


@pytest.fixture
def image_root(tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.arange(8000, dtype=np.uint16).reshape(100, 80))
    return tmp_path


@pytest.mark.parametrize("how", ["exists", "size", "full"])
def test_image_files_that_are_right(image_root, how):
    assert validate_coco(GOOD, image_root, check_images=how).problems == []


def test_missing_image(image_root):
    (image_root / "b.png").unlink()
    report = validate_coco(GOOD, image_root, check_images="exists")
    assert [(p.code, p.record, p.value) for p in report.errors] == [("missing-image", "image 2", "b.png")]


def test_wrong_size(image_root):
    cv2.imwrite(str(image_root / "a.png"), np.zeros((10, 20), np.uint8))
    report = validate_coco(GOOD, image_root, check_images="size")
    assert [(p.code, p.record, p.value) for p in report.errors] == [("wrong-size", "image 1", [100, 80])]
    assert "height 10 and width 20" in str(report.errors[0])


def test_truncated_image_is_found_by_the_full_check(image_root):
    data = (image_root / "a.png").read_bytes()
    (image_root / "a.png").write_bytes(data[: len(data) // 2])
    report = validate_coco(GOOD, image_root, check_images="full")
    assert [(p.code, p.record) for p in report.errors] == [("unreadable-image", "image 1")]
    assert "truncated PNG" in report.errors[0].message
