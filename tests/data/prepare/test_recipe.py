"""Preparation in memory: what it does to a file, and its file form."""

import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.data.reading.image_meta import ReadOptions


@pytest.fixture
def file(tmp_path):
    """8-bit PNG, 60 x 100: background 0, a half disc of 100 with its tip in column 40, one pixel of 200 in it."""
    rows, columns = np.mgrid[:60, :100]
    pixels = np.where(((100 - columns) / 60) ** 2 + ((rows - 30) / 31) ** 2 < 1, 100, 0).astype(np.uint8)
    pixels[30, 50] = 200
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    return tmp_path / "a.png"


def test_without_options_a_file_stays_as_it_is(file):
    prepared = Preparation().apply(file)
    assert prepared.pixels is prepared.source
    assert prepared.transform.is_identity
    assert (prepared.max_value, prepared.pixels.max()) == (255, 200)


def test_kept_files_stay_as_they_are(file):
    prepared = Preparation(image=ImageOptions(keep_files=True)).apply(file)
    assert prepared.pixels is prepared.source
    assert prepared.transform.is_identity


def test_crop_and_flip_move_grey_values_unchanged(file):
    prepared = Preparation(image=ImageOptions(crop=True, margin=0.0, flip_to="left")).apply(file)
    x0, y0, width, height = prepared.transform.crop
    assert (y0, height) == (0, 60)
    assert abs(x0 - 40) <= 2
    assert x0 + width == 100
    assert prepared.transform.flip
    assert prepared.max_value == 255
    assert prepared.pixels.dtype == np.float32
    # Column 50 of the file, counted from the other side.
    assert prepared.pixels[30, 99 - 50] == 200
    assert prepared.pixels.shape == (60, width)


def test_scaled_images_use_16_bits(file):
    prepared = Preparation(image=ImageOptions(max_side=50)).apply(file)
    assert prepared.transform.scale == (0.5, 0.5)
    assert prepared.max_value == 65535
    # The area average of 200 and three times 100, on the 16-bit scale.
    assert prepared.pixels[15, 25] == round(125 * 65535 / 255)


def test_target_spacing_needs_a_spacing(file):
    with pytest.raises(ValueError, match=r"a\.png: no pixel spacing in the file"):
        Preparation(image=ImageOptions(spacing=0.1)).apply(file)


def test_file_form_is_that_of_a_manifest(tmp_path):
    preparation = Preparation(
        ReadOptions("none", (("fuji", "window"),), frame=2), ImageOptions(crop=True, flip_to="right", max_side=99)
    )
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**preparation.to_dict(), "versions": {}}))
    assert Preparation.from_file(path) == preparation
    path.write_text(json.dumps(Preparation().to_dict()))
    assert Preparation.from_file(path) == Preparation()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"read": {}}', "KeyError: 'options'"),
        ('{"read": {}, "options": {"image": {"zoom": 2}}}', "unexpected keyword argument 'zoom'"),
        ('{"read": {"voi": "sigmoid"}, "options": {"image": null}}', "voi 'sigmoid' must be one of"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, problem):
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"p\.json: does not say how images were prepared.*{problem}"):
        Preparation.from_file(path)


def test_missing_file_and_broken_json_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"p\.json: no such file; name the manifest\.json"):
        Preparation.from_file(tmp_path / "p.json")
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(ValueError, match=r"p\.json: not valid JSON at line 1 .*; name the manifest\.json"):
        Preparation.from_file(tmp_path / "p.json")
