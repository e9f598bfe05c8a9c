import numpy as np
import pytest

from mammo_d2.data.breast.mask import breast_box, breast_mask, chest_wall_side, laterality_of_side
from mammo_d2.data.reading.reader import read_image
from tests.data.breast_images import half_ellipse, overlap


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("method", ["auto", "otsu", "triangle"])
def test_clean_image(method, side):
    image, truth = half_ellipse(side=side)
    mask = breast_mask(image, method)
    assert mask.shape == image.shape
    assert mask.dtype == bool
    assert overlap(mask, truth) > 0.97
    assert chest_wall_side(mask) == side


def test_film_base_labels_and_scanner_strip_are_left_out():
    rng = np.random.default_rng(0)
    image, truth = half_ellipse(background=150)
    image += rng.normal(0, 20, image.shape)
    image[20:60, 230:280] = 4000  # a label in the free corner
    image[:, 295:] = 4000  # a bright strip along the border
    image[:10] = 0  # padding
    assert overlap(breast_mask(image), truth) > 0.95


def test_digital_background_keeps_dark_fat():
    image, truth = half_ellipse()
    y, x = np.mgrid[:400, :300] + 0.5
    rim = truth & ~((x / 140) ** 2 + ((y - 200) / 125) ** 2 < 1)
    image[rim] = 330  # fat under the skin, between black and the gland
    assert overlap(breast_mask(image, "otsu"), truth) < 0.8
    assert overlap(breast_mask(image), truth) > 0.97


def test_dark_fat_at_the_chest_wall_is_no_hole():
    image, truth = half_ellipse()
    image[180:220, :50] = 0
    assert overlap(breast_mask(image), truth) > 0.97


def test_scale_of_the_values_does_not_matter():
    image, _ = half_ellipse()
    np.testing.assert_array_equal(breast_mask(image), breast_mask((image * 16).astype(np.uint16)))


def test_image_without_contrast_is_all_breast():
    mask = breast_mask(np.full((30, 20), 7.0))
    assert mask.all()
    assert chest_wall_side(mask) is None


@pytest.mark.parametrize(
    ("image", "method", "message"), [(np.zeros((2, 3, 4)), "auto", "got shape"), (np.zeros((5, 5)), "x", "method 'x'")]
)
def test_bad_arguments(image, method, message):
    with pytest.raises(ValueError, match=message):
        breast_mask(image, method)


def test_box_by_hand():
    mask = np.zeros((50, 40), bool)
    mask[10:30, 5:15] = True
    assert breast_box(mask) == (5, 10, 10, 20)
    # Margin 0.1 of the longer side, 20: 2 pixels; clipped at the border.
    assert breast_box(mask, 0.1) == (3, 8, 14, 24)
    assert breast_box(mask, 0.5) == (0, 0, 25, 40)
    assert breast_box(np.zeros((50, 40), bool)) == (0, 0, 40, 50)


def test_laterality_convention():
    assert [laterality_of_side(s) for s in ("left", "right", None)] == ["L", "R", None]


@pytest.mark.shared_data
def test_real_films(shared_data):
    # All but mdb151 and mdb152, where the breast is larger than the film, come out right; every sixth is tested here.
    wrong = []
    for path in sorted((shared_data / "mini-mias").glob("mdb*.png"))[::6]:
        image, _ = read_image(path)
        expected = "RL"[int(path.stem[3:]) % 2 == 0]
        if laterality_of_side(chest_wall_side(breast_mask(image))) != expected:
            wrong.append(path.stem)
    assert wrong == []


@pytest.mark.shared_data
def test_real_digital_exam(shared_data):
    for name, side in (("L-CC", "left"), ("L-MLO", "left"), ("R-CC", "right"), ("R-MLO", "right")):
        image, _ = read_image(shared_data / "gmic_sample" / f"0_{name}.png")
        mask = breast_mask(image)
        assert chest_wall_side(mask) == side
        # Digital air is exactly 0, so the breast is what is not, but for view markers.
        assert overlap(mask, image > 0) > 0.97
