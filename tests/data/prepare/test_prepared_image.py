"""Pixels of one image: what is found in it, and what is done."""

import numpy as np
import pytest

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.prepare.prepared_image import ImageOptions, prepare_pixels, untouched
from mammo_d2.data.reading.image_meta import ImageMeta


@pytest.fixture
def half_disc():
    """60 x 100, 12 bits: a half disc of 1000 at the right border, background 0."""
    rows, columns = np.mgrid[:60, :100] + 0.5
    inside = ((100 - columns) / 60) ** 2 + ((rows - 30) / 25) ** 2 < 1
    return np.where(inside, 1000, 0).astype(np.float32), ImageMeta("a.dcm", "dicom", 60, 100, 12, 4095.0)


def test_breast_and_chest_wall_are_found(half_disc):
    prepared = prepare_pixels(*half_disc, ImageOptions())
    assert prepared.chest_wall == "right"
    x, y, width, height = prepared.breast_box
    assert abs(np.array([x, y, x + width, y + height]) - [40, 5, 100, 55]).max() <= 2
    assert prepared.transform.is_identity
    assert (prepared.stored.dtype, prepared.max_value) == (np.uint16, 65535.0)
    assert prepared.stored.max() == round(1000 * 65535 / 4095)
    np.testing.assert_array_equal(prepared.pixels, prepared.stored)
    assert prepared.warnings == ()


def test_a_crop_holds_every_lesion(half_disc):
    prepared = prepare_pixels(*half_disc, ImageOptions(crop=True, margin=0.0), [(2.5, 3.5, 4, 4)])
    assert prepared.transform.crop[:2] == (2, 3)
    assert len(prepared.warnings) == 1
    assert "crop was widened" in prepared.warnings[0]


def test_target_spacing(half_disc):
    options = ImageOptions(spacing=0.2)
    assert prepare_pixels(*half_disc, options, pixel_spacing=(0.1, 0.4)).stored.shape == (30, 200)
    with pytest.raises(ValueError, match="no pixel spacing in the file"):
        prepare_pixels(*half_disc, options)


@pytest.mark.parametrize(
    ("options", "shape", "scale"),
    [
        ({"aspect": 0.75}, (60, 45), (1.0, 0.45)),
        ({"aspect": 0.75, "max_side": 30}, (30, 22), (0.5, 0.22)),
        ({"aspect": 2.5}, (40, 100), (40 / 60, 1.0)),  # wider than the file: rows are reduced, nothing is enlarged
        ({"aspect": 100 / 60}, (60, 100), (1.0, 1.0)),
    ],
)
def test_squashed_files_get_the_ratio_of_the_films(half_disc, options, shape, scale):
    prepared = prepare_pixels(*half_disc, ImageOptions(**options))
    assert prepared.stored.shape == shape
    assert prepared.transform.scale == pytest.approx(scale)


def test_a_crop_of_a_squashed_file_keeps_the_films_ratio(half_disc):
    prepared = prepare_pixels(*half_disc, ImageOptions(crop=True, margin=0.0, aspect=0.75))
    _, _, width, height = prepared.transform.crop
    assert prepared.stored.shape == (height, round(0.45 * width))


def test_kept_files_are_looked_at_only(half_disc):
    prepared = prepare_pixels(*half_disc, ImageOptions(keep_files=True))
    assert prepared.stored is None
    assert prepared.pixels is half_disc[0]
    assert prepared.max_value == 4095.0
    assert prepared.chest_wall == "right"


def test_untouched(half_disc):
    prepared = untouched(*half_disc)
    assert prepared.pixels is half_disc[0]
    assert prepared.transform == ImageTransform.identity((60, 100))
    assert (prepared.breast_box, prepared.chest_wall) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip_to": "up"}, "flip_to 'up'"),
        ({"max_side": -1}, "max_side -1"),
        ({"margin": 1.0}, "margin 1.0"),
        ({"max_side": 10, "spacing": 0.1}, "not both"),
        ({"aspect": 0.6, "spacing": 0.1}, "squashed files have no known pixel spacing"),
        ({"aspect": float("nan")}, "aspect nan"),
        ({"aspect": -0.6}, "aspect -0.6"),
        ({"keep_files": True, "aspect": 0.6}, "keep_files leaves images as they are"),
        ({"keep_files": True, "crop": True}, "keep_files leaves images as they are"),
    ],
)
def test_bad_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageOptions(**arguments)
