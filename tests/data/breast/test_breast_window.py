import numpy as np
import pytest
from scipy import ndimage

from mammo_d2.data.breast.breast_window import (
    BreastBox,
    BreastWindow,
    breast_component,
    find_breast,
    place_window,
    standardize,
    view_in_name,
)
from tests.data.breast_images import breast


class TestComponent:
    @pytest.mark.parametrize("erosion", [0, 1, 4])
    def test_equal_to_iterated_morphology(self, erosion):
        image = breast()
        mask = image > 0
        cross = ndimage.generate_binary_structure(2, 1)
        if erosion:
            mask = ndimage.binary_erosion(mask, cross, iterations=erosion)
        labels, _ = ndimage.label(mask, cross)
        expected = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        if erosion:
            expected = ndimage.binary_dilation(expected, cross, iterations=erosion)
        assert np.array_equal(breast_component(image, erosion), expected)

    def test_marker_is_dropped(self):
        assert not breast_component(breast(), 3)[:8, 30:].any()

    def test_nothing_left_by_the_erosion(self):
        image = np.zeros((9, 9), np.float32)
        image[2:5, 2:6] = 1
        image[7, 7] = 1
        assert np.array_equal(breast_component(image, 100), (image > 0) & (np.arange(9) < 7)[:, None])

    def test_black_image(self):
        assert breast_component(np.zeros((4, 5), np.float32), 2).all()


def test_box_has_a_margin_but_not_at_the_chest_wall():
    mask = np.zeros((40, 30), bool)
    mask[10:22, 3:15] = True
    mask[19, 15] = True
    box = find_breast(mask, mirrored=False, margin=5)
    assert box == BreastBox((3, 5, 18, 22), rightmost=12, bottommost=16)
    assert find_breast(mask, mirrored=True, margin=5).rightmost == 13
    # the upper third does not count for the rightmost column
    mask[19, 15], mask[11, 15] = False, True
    assert find_breast(mask, mirrored=False, margin=100) == BreastBox((3, 0, 27, 40), rightmost=11, bottommost=21)


class TestPlace:
    @pytest.mark.parametrize(("view", "top"), [("CC", 2), ("MLO", 0), ("ML", 0), ("XCCL", 2)])
    def test_smaller_crop_is_padded(self, view, top):
        assert place_window(np.ones((5, 3)), BreastBox((0, 0, 3, 5), 2, 4), view, (10, 8)) == (0, top)

    def test_wide_crop_has_its_rightmost_point_at_the_right_edge(self):
        part = np.ones((10, 30))
        # centre 20 - 5 = 15, left edge 15 - 4 = 11
        assert place_window(part, BreastBox((0, 0, 30, 10), 20, 9), "CC", (10, 8)) == (-11, 0)
        assert place_window(part, BreastBox((0, 0, 30, 10), 3, 9), "CC", (10, 8)) == (0, 0)

    def test_tall_mlo_has_its_lowest_point_at_the_lower_edge(self):
        part = np.ones((40, 8))
        assert place_window(part, BreastBox((0, 0, 8, 40), 7, 30), "MLO", (10, 8)) == (0, -(30 - 6 - 5))

    def test_tall_cc_holds_as_much_tissue_as_possible(self):
        part = np.zeros((40, 8))
        part[12:20] = 1  # windows from 10 to 12 hold all of it; 12 is nearest to the middle
        assert place_window(part, BreastBox((0, 0, 8, 40), 7, 39), "CC", (10, 8)) == (0, -12)


def test_standardize():
    window = standardize(np.array([[0, 0], [2, 2]], np.uint16))
    assert window.dtype == np.float32
    assert window.tolist() == [[-1, -1], [1, 1]]
    assert standardize(np.full((3, 3), 7.0)).tolist() == [[0] * 3] * 3


class TestBreastWindow:
    window = BreastWindow((64, 48), erosion=3, margin=2)

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_faces_right_and_keeps_the_pixels(self, side):
        image = breast(side=side)
        pixels, transform = self.window(image, {"view": "CC"})
        assert pixels.shape == (64, 48)
        assert transform.flip is (side == "right")
        back = transform.map_to_source(pixels, spacing=1, fill=pixels.min())
        tissue = breast_component(image, 3)
        np.testing.assert_allclose(np.corrcoef(back[tissue], image[tissue])[0, 1], 1, atol=1e-6)
        assert (pixels[:, 0] > pixels.min()).any()  # the chest wall is at the left

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_background_that_is_not_black(self, side):
        """A film's base, or what lossy compression leaves: the window is where it is on black."""
        image = np.kron(breast(side=side), np.ones((8, 8), np.float32)).astype(np.float32)
        noise = np.random.default_rng(0).uniform(5, 30, image.shape).astype(np.float32)
        large = BreastWindow((512, 384), erosion=24, margin=16)
        _, on_black = large(image, {"view": "CC"})
        found, transform = large(image + noise, {"view": "CC"})
        assert transform.flip is on_black.flip is (side == "right")
        np.testing.assert_allclose(transform.crop, on_black.crop, atol=16)
        np.testing.assert_allclose(transform.shift, on_black.shift, atol=16)
        assert found[0, -1] == found.min()  # black, as in the images that the models were trained on
        seen = transform.map_to_source(found, spacing=1, fill=found.min())
        assert np.corrcoef(seen.ravel(), (image * breast_component(image, 24)).ravel())[0, 1] > 0.95

    def test_image_without_contrast(self):
        pixels, transform = self.window(np.full((60, 40), 7, np.float32), {})
        assert transform.crop == (0, 0, 40, 60)
        assert np.isfinite(pixels).all()

    def test_scale_of_the_values_does_not_matter(self):
        one, two = (self.window(breast() * scale, {"view": "CC"})[0] for scale in (1, 16))
        np.testing.assert_allclose(one, two, atol=1e-5)

    def test_view_from_the_file_name(self):
        rows = [
            self.window(breast(), facts)[1].shift[1]
            for facts in ({"view": "MLO"}, {"file_name": "/x/0_L-MLO.png"}, {"file_name": "exam_l_cc.png"}, {})
        ]
        assert rows[0] == rows[1] == 0
        assert rows[2] == rows[3] > 0

    def test_laterality_decides_where_the_image_does_not(self):
        square = np.zeros((60, 60), np.float32)
        square[10:50, 10:50] = 1
        assert [self.window(square, {"laterality": side})[1].flip for side in ("L", "R", None)] == [False, True, False]

    def test_bad_options(self):
        with pytest.raises(ValueError, match="EROSION -1"):
            BreastWindow((4, 4), erosion=-1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exam/0_L-CC.png", ("L", "CC")),
        ("R_MLO.dcm", ("R", "MLO")),
        ("p12-lmlo-2.png", ("L", "MLO")),
        ("17_cc.png", (None, "CC")),
        ("L-CC/image.png", (None, None)),  # a folder's name is not the file's
        ("success.png", (None, None)),
        ("CCA.png", (None, None)),
    ],
)
def test_view_in_name(name, expected):
    assert view_in_name(name) == expected


class TestOffset:
    """A breast of 60×40 pixels and its margin."""

    def test_a_smaller_breast_is_moved_inside_the_window(self):
        image = breast()
        plain, at = BreastWindow((90, 60), 3, 2)(image, {"view": "CC"})
        moved, other = BreastWindow((90, 60), 3, 2, offset=(4, -5))(image, {"view": "CC"})
        assert other.shift == (at.shift[0] + 4, at.shift[1] - 5)
        assert np.array_equal(np.roll(plain, (-5, 4), (0, 1)), moved)
        far = BreastWindow((90, 60), 3, 2, offset=(-999, 999))(image, {"view": "CC"})[1]
        assert far.shift == (0, 90 - at.crop[3])

    def test_a_larger_breast_covers_the_window(self):
        for offset in ((0, 999), (0, -999)):
            transform = BreastWindow((20, 60), 3, 2, offset=offset)(breast(), {"view": "CC"})[1]
            assert transform.shift[1] == (0 if offset[1] > 0 else 20 - transform.crop[3])
