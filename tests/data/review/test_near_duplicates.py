import cv2
import numpy as np
import pytest

from mammo_d2.data.review.fingerprint import fingerprint
from mammo_d2.data.review.near_duplicates import LEAST_SHARED, near_duplicates, shared_structures
from tests.data.review.textured_breasts import textured_breast

IMAGE = textured_breast(0)
OTHERS = [fingerprint(textured_breast(seed)) for seed in range(1, 7)]


def half_size_jpeg(image):
    small = cv2.resize((image >> 8).astype(np.uint8), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_GRAYSCALE)


COPIES = {
    "window": lambda image: ((image.astype(np.float32) - 8000).clip(0, 30000) * 2).astype(np.uint16),
    "half size as JPEG": half_size_jpeg,
    "cropped": lambda image: image[12:388, :285],
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_changed_copy_is_found(name):
    prints = [fingerprint(IMAGE), *OTHERS, fingerprint(COPIES[name](IMAGE))]
    ((i, j, shared),) = near_duplicates(prints)
    assert (i, j) == (0, 7)
    assert shared >= LEAST_SHARED
    assert shared == shared_structures(prints[0], prints[7])


def test_different_images_are_none():
    assert near_duplicates(OTHERS) == []


def test_images_without_structure_and_single_ones():
    empty = fingerprint(np.zeros((40, 30), np.uint8))
    assert near_duplicates([]) == []
    assert near_duplicates([OTHERS[0]]) == []
    assert near_duplicates([empty, empty]) == []
    assert shared_structures(empty, OTHERS[0]) == 0
