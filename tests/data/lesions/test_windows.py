"""Windows on and beside lesions."""

import numpy as np
import pytest
from scipy import stats

from mammo_d2.data.lesions.patch_store import cut_patch
from mammo_d2.data.lesions.windows import (
    LesionRegion,
    WindowRule,
    has_room_outside,
    lesion_region,
    window_on_lesion,
    window_outside,
)

SIZE = (900, 700)


def ring(side=60, width=4):
    """A lesion that is only the border of its box."""
    mask = np.ones((side, side), bool)
    mask[width:-width, width:-width] = False
    return LesionRegion((300, 400, 300 + side, 400 + side), mask)


def test_sides_are_uniform_and_every_window_overlaps_the_mask():
    rule, rng, lesion = WindowRule(), np.random.default_rng(1), ring()
    windows = []
    for _ in range(1500):
        side, rotation = rule.draw(rng)
        window, turned = window_on_lesion(lesion, SIZE, side, rng, rotation)
        assert turned == rotation
        windows.append(window)
    windows = np.array(windows)
    assert (windows[:, 2] - windows[:, 0] == windows[:, 3] - windows[:, 1]).all()
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= SIZE[::-1]).all()
    for x0, y0, x1, y1 in windows:
        full = np.zeros(SIZE, bool)
        full[400:460, 300:360] = lesion.mask
        assert full[y0:y1, x0:x1].any()
    sides = windows[:, 2] - windows[:, 0]
    # 257 possible sides in 16 bins (the last one side wider); a wrong distribution has a p-value near 0.
    counts, edges = np.histogram(sides, bins=[*range(128, 384, 16), 385])
    assert stats.chisquare(counts, 1500 * np.diff(edges) / 257).pvalue > 1e-3
    assert 128 <= sides.min() <= 130
    assert 382 <= sides.max() <= 384


def test_places_are_uniform_among_those_that_overlap():
    """A box of one pixel and a side of 3: nine places, each as often."""
    rng, lesion = np.random.default_rng(2), LesionRegion((10, 20, 11, 21))
    windows = [window_on_lesion(lesion, (40, 40), 3, rng)[0] for _ in range(900)]
    places, counts = np.unique(np.array(windows)[:, :2], axis=0, return_counts=True)
    assert places.tolist() == [[x, y] for x in (8, 9, 10) for y in (18, 19, 20)]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_hole_of_the_mask_is_not_the_lesion():
    lesion = ring()
    assert not lesion.overlaps((310, 410, 350, 450))
    assert lesion.overlaps((303, 410, 343, 450))
    assert LesionRegion(lesion.box).overlaps((310, 410, 350, 450))


def test_overlap_of_a_turned_square():
    """The square 100..200 turned by 45 degrees reaches 150 ± 70.7 on its axes and loses its corners."""
    window = (100, 100, 200, 200)
    corner, beside = LesionRegion((101, 101, 105, 105)), LesionRegion((205, 149, 210, 151))
    assert corner.overlaps(window)
    assert not corner.overlaps(window, 45.0)
    assert not beside.overlaps(window)
    assert beside.overlaps(window, 45.0)


def test_the_turned_square_is_the_one_that_the_patch_shows():
    """Of the square 100..200, turned by 30 degrees, a corner reaches (218, 132) and none (218, 168); -30: mirrored."""
    window = (100, 100, 200, 200)
    for box, seen in (((213, 130, 216, 133), 30.0), ((213, 167, 216, 170), -30.0)):
        image = np.zeros((300, 300), np.uint16)
        image[box[1] : box[3], box[0] : box[2]] = 60000
        for rotation in (seen, -seen):
            assert LesionRegion(box).overlaps(window, rotation) == (rotation == seen)
            assert (cut_patch(image, window, 100, rotation).max() > 50) == (rotation == seen)


def test_a_training_patch_always_shows_its_lesion():
    image = np.zeros((500, 500), np.uint16)
    image[240:250, 240:250] = 60000
    rule, rng = WindowRule((128, 200)), np.random.default_rng(8)
    for _ in range(200):
        side, rotation = rule.draw(rng)
        window, turned = window_on_lesion(LesionRegion((240, 240, 250, 250)), (500, 500), side, rng, rotation)
        assert cut_patch(image, window, 128, turned).max() > 0


def test_windows_avoid_lesions_of_the_other_pathology():
    rng, mine, other = np.random.default_rng(3), LesionRegion((300, 300, 340, 340)), LesionRegion((400, 300, 440, 340))
    for _ in range(200):
        window, rotation = window_on_lesion(mine, SIZE, 150, rng, 20.0, [other])
        assert mine.overlaps(window, rotation)
        assert not other.overlaps(window, rotation)


def test_another_lesion_that_cannot_be_avoided_is_taken_in():
    lesion = LesionRegion((300, 300, 340, 340))
    window, _ = window_on_lesion(lesion, SIZE, 150, np.random.default_rng(3), 0.0, [lesion])
    assert lesion.overlaps(window)


def test_a_lesion_in_the_corner_is_not_turned_out_of_its_window():
    lesion = LesionRegion((0, 0, 3, 3))
    window, rotation = window_on_lesion(lesion, SIZE, 200, np.random.default_rng(4), 30.0)
    assert (window, rotation) == ((0, 0, 200, 200), 0.0)


def test_a_window_larger_than_the_image_covers_it():
    window, _ = window_on_lesion(LesionRegion((5, 5, 9, 9)), (50, 400), 100, np.random.default_rng(5))
    x0, y0, x1, y1 = window
    assert y0 <= 0
    assert y1 >= 50
    assert (x1 - x0, y1 - y0) == (100, 100)


def test_outside_windows_show_nothing_of_any_lesion():
    rng = np.random.default_rng(6)
    lesions = [LesionRegion((100, 100, 300, 300)), LesionRegion((400, 500, 600, 700))]
    for _ in range(300):
        window, rotation = window_outside(lesions, SIZE, int(rng.integers(128, 300)), rng, 25.0, 128)
        assert not any(lesion.overlaps(window, rotation) for lesion in lesions)


def test_outside_falls_back_to_the_smallest_window_where_there_is_no_room():
    """The lesion leaves a strip of 130 pixels at the right."""
    lesions = [LesionRegion((0, 0, 570, 900))]
    window, rotation = window_outside(lesions, SIZE, 300, np.random.default_rng(7), 10.0, 128)
    assert (window, rotation) == ((570, 0, 698, 128), 0.0)
    assert has_room_outside(lesions, SIZE, 130)
    assert not has_room_outside(lesions, SIZE, 131)
    with pytest.raises(ValueError, match="no window of 200 pixels"):
        window_outside(lesions, SIZE, 300, np.random.default_rng(7), 0.0, 200)


def test_region_from_polygon_run_length_and_box():
    polygon = {"id": 1, "bbox": [0, 0, 30, 30], "segmentation": [[10, 12, 20, 12, 20, 18, 10, 18]]}
    assert lesion_region(polygon, (40, 50)).box == (10, 12, 20, 18)
    assert lesion_region(polygon, (40, 50), masks=False).box == (0, 0, 30, 30)
    # Columns of 4 pixels: the second pixel of the first column, then the whole second column.
    runs = {"id": 2, "bbox": [0, 0, 2, 4], "segmentation": {"size": [4, 3], "counts": [1, 1, 2, 4, 4]}}
    region = lesion_region(runs, (4, 3))
    assert region.box == (0, 0, 2, 4)
    assert region.mask.tolist() == [[False, True], [True, True], [False, True], [False, True]]
    assert lesion_region({"id": 3, "bbox": [-4, 35.5, 10.2, 20]}, (40, 50)).box == (0, 35, 7, 40)


def test_a_mask_of_another_size_is_named():
    runs = {"id": 2, "bbox": [0, 0, 2, 4], "segmentation": {"size": [4, 3], "counts": [1, 1, 2, 4, 4]}}
    with pytest.raises(ValueError, match=r"annotation 2.*\[4, 3\].*\[40, 50\]"):
        lesion_region(runs, (40, 50))


def test_windows_outside_keep_away_from_a_mask_that_is_larger_than_its_box():
    polygon = {"bbox": [15, 14, 2, 2], "segmentation": [[10, 12, 20, 12, 20, 18, 10, 18]]}
    assert lesion_region(polygon, (40, 50), masks=False).box == (10, 12, 20, 18)
    runs = {"bbox": [0, 2, 1, 1], "segmentation": {"size": [4, 3], "counts": [1, 1, 2, 4, 4]}}
    assert lesion_region(runs, (4, 3), masks=False).box == (0, 0, 2, 4)


def test_a_box_outside_the_image_is_named():
    with pytest.raises(ValueError, match=r"annotation 9.*no pixel inside"):
        lesion_region({"id": 9, "bbox": [60, 5, 10, 10]}, (40, 50))


@pytest.mark.parametrize("wrong", [{"sides": (0, 5)}, {"sides": (9, 5)}, {"rotation": 60.0}])
def test_wrong_rules_are_named(wrong):
    with pytest.raises(ValueError, match=r"MODEL.LESION"):
        WindowRule(**wrong)
