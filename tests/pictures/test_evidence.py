import numpy as np
import pytest

from mammo_d2.pictures.evidence import Evidence, heat, panels

PICTURE = np.full((60, 80), 100, np.uint8)


def test_heat_is_transparent_where_there_is_no_saliency():
    saliency = np.zeros((60, 80), np.float32)
    saliency[10, 20] = 1
    shown = heat(PICTURE, saliency)
    assert shown[30, 30].tolist() == [100, 100, 100]
    # the strongest colour of the map is a dark red (128, 0, 0): 0.4 of 100 and 0.6 of it
    assert shown[10, 20].tolist() == [117, 40, 40]


def test_panels():
    evidence = Evidence(np.zeros((2, 60, 80), np.float32), np.array([[10.0, 10, 30, 30]]), np.array([1.0]))
    shown = panels(PICTURE, evidence, ["benign", "malignant"])
    assert len(shown) == 3
    assert {one.shape for one in shown} == {shown[0].shape}
    assert (shown[0][10, 10:30] != 100).any()  # the patch's frame
    assert np.array_equal(shown[1][:60], np.full((60, 80, 3), 100))
    without = Evidence(evidence.saliency, np.zeros((0, 4)), np.zeros(0))
    assert len(panels(PICTURE, without, ["benign", "malignant"])) == 2


def test_patches_beyond_the_image_have_no_label():
    boxes = np.array([[10.0, 20, 30, 40], [10, 60, 30, 80], [-20, 5, 0, 25], [390, 50, 410, 70]])
    picture, maps, attention = np.full((60, 400), 100, np.uint8), np.zeros((1, 60, 400), np.float32), np.full(4, 0.25)
    shown = panels(picture, Evidence(maps, boxes, attention), ["malignant"])[0]
    seen = panels(picture, Evidence(maps, boxes[[0, 3]], attention[[0, 3]]), ["malignant"])[0]
    assert np.array_equal(shown[:60], seen[:60])
    assert not np.array_equal(shown[60:], seen[60:])  # the caption counts the other two


def test_maps_that_do_not_fit():
    evidence = Evidence(np.zeros((1, 30, 80), np.float32), np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(ValueError, match=r"\(1, 30, 80\) does not fit 1 classes"):
        panels(PICTURE, evidence, ["malignant"])
