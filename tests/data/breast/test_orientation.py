import cv2
import numpy as np
import pytest

from mammo_d2.data.breast.mask import breast_mask
from mammo_d2.data.breast.orientation import (
    Orientation,
    find_orientation,
    is_inverted,
    is_rotated,
    padded_columns,
    presence_problem,
)
from tests.data.breast_images import half_ellipse

LEFT = half_ellipse()[0]
RIGHT = half_ellipse(side="right")[0]
# A whole breast without any background.
FULL = np.tile(np.linspace(900, 1000, 300, dtype=np.float32), (400, 1))


def orientation(image, *facts):
    return find_orientation(image, breast_mask(image), *facts)


def test_the_image_decides():
    assert orientation(LEFT) == Orientation("left", "image", None)
    assert orientation(LEFT, "L") == Orientation("left", "image", False)
    assert orientation(RIGHT, "R", "right") == Orientation("right", "image", False)


def test_a_mirrored_image_is_said():
    got = orientation(RIGHT, "L")
    assert (got.chest_wall, got.decided_by, got.mirrored) == ("right", "image", True)
    assert got.doubts == ("laterality L, but the chest wall is on the right; check it, or the image is mirrored",)
    # A file whose tag describes the unusual hanging is right.
    assert orientation(RIGHT, "L", "right") == Orientation("right", "image", True)
    wrong_tag = orientation(LEFT, "L", "right")
    assert wrong_tag.chest_wall == "left"
    assert "Patient Orientation puts the chest wall on the right, in the image it is on the left" in wrong_tag.doubts[0]


def test_tags_decide_where_the_image_says_nothing():
    assert orientation(FULL, "R", "left") == Orientation("left", "PatientOrientation", None)
    assert orientation(FULL, "R") == Orientation("right", "laterality", None)
    assert orientation(FULL) == Orientation(None, None, None)


def test_inverted():
    assert not is_inverted(LEFT)
    assert not is_inverted(FULL)
    assert is_inverted(1300 - LEFT)
    assert "seems inverted (MONOCHROME1 without the tag?)" in orientation(1300 - LEFT).doubts[0]


@pytest.mark.parametrize("turns", [1, 3])
def test_rotated(turns):
    turned = np.ascontiguousarray(np.rot90(LEFT, turns))
    assert is_rotated(turned)
    assert not is_rotated(LEFT)
    assert not is_rotated(RIGHT)
    assert any("the image is rotated" in doubt for doubt in orientation(turned).doubts)


def test_padded_at_the_chest_wall():
    padded = np.pad(LEFT, ((0, 0), (20, 0)))
    assert padded_columns(LEFT, "left") == 0
    assert padded_columns(padded, "left") == 20
    assert padded_columns(padded, "right") == 120  # the air side
    assert orientation(padded).doubts == (
        "20 columns of one value lie between the border and the chest wall: the image was padded; crop it",
    )
    assert padded_columns(padded, None) == 0


def test_images_without_a_breast():
    rng = np.random.default_rng(0)
    noise = rng.normal(1000, 100, (400, 300)).astype(np.float32)
    speck = np.zeros((400, 300), np.float32)
    speck[100:110, 100:110] = 1000
    for image, text in (
        (np.full((400, 300), 5.0), "every pixel has the same value"),
        (noise, "neighbouring pixels have nothing in common"),
        (speck, "no bright part of more than 2% of the image"),
    ):
        got = orientation(image, "L")
        assert text in got.doubts[0]
        assert (got.chest_wall, got.decided_by) == ("left", "laterality")
    assert presence_problem(LEFT, breast_mask(LEFT)) is None
    assert presence_problem(FULL, breast_mask(FULL)) is None


@pytest.mark.shared_data
def test_real_films(shared_data):
    """12 digitised films as they are, inverted, and rotated: no false alarm; each inverted one is found."""
    files = sorted((shared_data / "mini-mias").glob("*.png"))[::10]
    assert len(files) >= 12
    rotated = 0
    for number, file in enumerate(files):
        film = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert not is_inverted(film), number
        assert not is_rotated(film), number
        assert presence_problem(film, breast_mask(film)) is None, number
        assert is_inverted(255 - film), number
        rotated += is_rotated(np.ascontiguousarray(np.rot90(film)))
    assert rotated >= len(files) // 2
