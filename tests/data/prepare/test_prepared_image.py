"""Pixels of one image: what is found in it, and what is done."""

from dataclasses import replace

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
    assert prepared.orientation.to_dict() == {"chest_wall": "right", "decided_by": "image", "mirrored": None}
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
    assert prepared.orientation.chest_wall == "right"


def test_untouched(half_disc):
    prepared = untouched(*half_disc)
    assert prepared.pixels is half_disc[0]
    assert prepared.transform == ImageTransform.identity((60, 100))
    assert (prepared.breast_box, prepared.orientation) == (None, None)


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


def test_the_side_of_a_tag_is_taken_where_the_image_says_nothing(half_disc):
    _, meta = half_disc
    whole = np.tile(np.linspace(900, 1100, 100, dtype=np.float32), (60, 1))
    tagged = replace(meta, chest_wall="right")
    prepared = prepare_pixels(whole, tagged, ImageOptions(flip_to="left"))
    assert prepared.transform.flip
    assert prepared.orientation.decided_by == "PatientOrientation"
    assert "not found; mirrored or not by its PatientOrientation" in prepared.warnings[-1]
    by_side = prepare_pixels(whole, meta, ImageOptions(flip_to="right"), laterality="L")
    assert by_side.transform.flip
    assert by_side.orientation.decided_by == "laterality"
    unknown = prepare_pixels(whole, meta, ImageOptions(flip_to="right"))
    assert not unknown.transform.flip
    assert unknown.warnings[-1].endswith("not mirrored")


def film(half_disc):
    """The half disc on film: grey base, a white edge at the top and a label in the corner."""
    pixels, meta = half_disc
    large = np.kron(pixels, np.ones((8, 8), np.float32)) + 100
    large[:10] = 4000
    for number in range(8):
        large[60:80, 40 + 16 * number : 44 + 16 * number] = 3500
        large[68:72, 40 + 16 * number : 50 + 16 * number] = 3500
    return large, replace(meta, height=480, width=800)


def test_film_is_cleaned_when_asked_for(half_disc):
    pixels, meta = film(half_disc)
    before = prepare_pixels(pixels, meta, ImageOptions())
    assert before.stored[5, 100] == round(4000 * 65535 / 4095)
    assert before.film_edges is None
    after = prepare_pixels(pixels, meta, ImageOptions(clean_film=True), [(300, 0, 50, 20)])
    background = round(100 * 65535 / 4095)
    assert after.stored[5, 100] == after.stored[70, 45] == background
    assert after.stored[240, 700] == before.stored[240, 700] == round(1100 * 65535 / 4095)
    assert 0.01 < after.film_edges < 0.05
    assert "lesion 1: 100% of its box was cleaned as film" in after.warnings[0]
    np.testing.assert_array_equal(after.source, pixels)


def test_text_is_reported_or_blanked(half_disc):
    pixels, meta = film(half_disc)
    pixels[:10] = 100
    found = prepare_pixels(pixels, meta, ImageOptions())
    assert found.text == ((40, 60, 122, 20),)
    assert "text seems to be burnt into the pixels (1 lines, up to 8 characters" in found.warnings[0]
    blank = prepare_pixels(pixels, meta, ImageOptions(blank_text=True))
    assert blank.warnings == ()
    assert blank.stored[60:80, 40:162].max() == round(100 * 65535 / 4095)
    assert blank.source[60:80, 40:162].max() == 100
    assert blank.stored[240, 700] == found.stored[240, 700]


def test_kept_files_cannot_be_cleaned():
    with pytest.raises(ValueError, match="keep_files leaves images as they are"):
        ImageOptions(keep_files=True, blank_text=True)
