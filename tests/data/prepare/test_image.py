import os
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.converters.converter import SourceAnnotation
from mammo_d2.data.prepare import image as image_module
from mammo_d2.data.prepare.image import prepare_image
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.reading.reader import read_image
from tests.data.dicom_files import write_dicom
from tests.data.toy_source import ToySource, write_breasts

# Rows 40..359, columns 0..179 of 400 x 300 are breast.
BOX = (60, 100, 40, 20)


def run(tmp_path, options=None, boxes=(BOX,), side="left", change=None, force=False, check_hashes=False, **facts):
    write_breasts(tmp_path, ["a"], side)
    converter = ToySource(tmp_path, [("a", "p1", list(boxes))], **facts)
    source = next(converter.images())
    if change:
        source = change(source)
    return prepare_image(converter, source, options or ImageOptions(), tmp_path / "out", force, check_hashes)


def prepared(tmp_path, outcome):
    return cv2.imread(str(tmp_path / "out" / "images" / outcome.image["file_name"]), cv2.IMREAD_UNCHANGED)


def test_unchanged_image_keeps_its_pixels(tmp_path):
    outcome = run(tmp_path)
    assert outcome.issues == []
    np.testing.assert_array_equal(prepared(tmp_path, outcome), cv2.imread(str(tmp_path / "a.png"), -1))
    assert (outcome.image["height"], outcome.image["width"]) == (400, 300)
    assert outcome.annotations == [
        {"category": "malignant", "bbox": [60, 100, 40, 20], "pathology": "malignant", "lesion_id": "a-1"}
    ]
    x, y, w, h = outcome.image["breast_box"]
    np.testing.assert_allclose([x, y, x + w, y + h], [0, 40, 180, 360], atol=3)
    assert ImageTransform.from_dict(outcome.image["transform"]).is_identity
    assert outcome.image["source"]["file"] == "a.png"


def test_crop_flip_and_scale_move_image_and_box_together(tmp_path):
    def paint(source):
        # A white lesion in the source file, exactly its box.
        image = cv2.imread(str(source.path), -1)
        x, y, w, h = BOX
        image[y : y + h, x : x + w] = 65535
        cv2.imwrite(str(source.path), image)
        return source

    options = ImageOptions(crop=True, margin=0.0, flip_to="right", max_side=160)
    outcome = run(tmp_path, options, change=paint, pixel_spacing=(0.1, 0.1))
    transform = ImageTransform.from_dict(outcome.image["transform"])
    assert transform.flip
    assert max(transform.prepared_size) == 160
    image = prepared(tmp_path, outcome)
    assert image.shape == transform.prepared_size
    x, y, w, h = outcome.annotations[0]["bbox"]
    rows, cols = np.nonzero(image > 60000)
    np.testing.assert_allclose([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1], [x, y, x + w, y + h], atol=1)
    # And back: the box in source pixels is the one given.
    np.testing.assert_allclose(transform.boxes_to_source([x, y, x + w, y + h]), [60, 100, 100, 120], atol=1e-3)
    # Twice the pixel's size at half the scale.
    np.testing.assert_allclose(outcome.image["pixel_spacing"], [0.1 / s for s in transform.scale])


def test_target_spacing_by_hand(tmp_path):
    outcome = run(tmp_path, ImageOptions(spacing=0.2), pixel_spacing=(0.1, 0.05))
    assert (outcome.image["height"], outcome.image["width"]) == (200, 75)
    np.testing.assert_allclose(outcome.annotations[0]["bbox"], [15, 50, 10, 10])
    np.testing.assert_allclose(outcome.image["pixel_spacing"], [0.2, 0.2])


def test_target_spacing_needs_a_spacing(tmp_path):
    outcome = run(tmp_path, ImageOptions(spacing=0.2))
    assert outcome.image is None
    assert "no pixel spacing in the file" in outcome.issues[0].problem


def test_small_images_are_not_enlarged(tmp_path):
    assert run(tmp_path, ImageOptions(max_side=1000)).image["height"] == 400


def test_image_already_on_its_side_is_not_mirrored(tmp_path):
    assert not run(tmp_path, ImageOptions(flip_to="left")).image["transform"]["flip"]
    assert run(tmp_path, ImageOptions(flip_to="left"), side="right", force=True).image["transform"]["flip"]


def test_polygons_points_and_masks_go_along(tmp_path):
    mask = np.zeros((400, 300), np.uint8)
    mask[100:120, 60:100] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    rle = {"size": [400, 300], "counts": rle["counts"].decode()}
    lesions = (
        SourceAnnotation("benign", BOX, [[60.0, 100.0, 100.0, 100.0, 100.0, 120.0]]),
        SourceAnnotation("benign", BOX, rle),
    )

    def change(source):
        points = {"nipple": [180.0, 200.0], "pectoral": [[0.0, 40.0], [90.0, 40.0], [0.0, 200.0]], "none": None}
        boxes = {"distractors": [[10.0, 10.0, 10.0, 10.0]]}
        return replace(source, annotations=lesions, points=points, boxes=boxes, extra={"device": "x"})

    # Halved and mirrored: x -> (300 - x) / 2, y -> y / 2.
    outcome = run(tmp_path, ImageOptions(flip_to="right", max_side=200), change=change)
    assert outcome.annotations[0]["segmentation"] == [[120, 50, 100, 50, 100, 60]]
    decoded = coco_mask.decode(outcome.annotations[1]["segmentation"])
    rows, cols = np.nonzero(decoded)
    assert decoded.shape == (200, 150)
    assert (cols.min(), cols.max() + 1, rows.min(), rows.max() + 1) == (100, 120, 50, 60)
    image = outcome.image
    assert image["nipple"] == [60, 100]
    assert image["pectoral"] == [[150, 20], [105, 20], [150, 100]]
    assert image["none"] is None
    assert image["distractors"] == [[140, 5, 5, 5]]
    assert image["device"] == "x"


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((60, 100, 0, 20), "lesion 1: box .* has no area"),
        ((60, 100, float("nan"), 20), "lesion 1: box .* has no area"),
        ((400, 100, 40, 20), "lesion 1: box .* lies outside the image .width 300, height 400"),
    ],
)
def test_a_bad_box_leaves_the_image_out(tmp_path, box, message):
    outcome = run(tmp_path, boxes=[box])
    assert outcome.image is None
    assert [i.level for i in outcome.issues] == ["error"]
    assert re.search(message, outcome.issues[0].problem)


def test_a_box_in_fractions_leaves_the_image_out(tmp_path):
    outcome = run(tmp_path, boxes=[(0.2, 0.25, 0.1, 0.05)])
    assert outcome.image is None
    assert "is at most a pixel large; boxes are x, y, width and height in pixels" in outcome.issues[0].problem


@pytest.mark.parametrize(
    ("facts", "kept", "warned"),
    [
        ({"density": "C", "birads": "4A"}, ("C", "4A"), []),
        ({"density": 2, "birads": 0}, (2, 0), []),
        ({"density": "0", "birads": "BI-RADS 2"}, (None, "BI-RADS 2"), ["density '0' is none of 1, 2, 3, 4, A, B, C"]),
        ({"density": "nan", "birads": "7"}, (None, None), ["density 'nan'", "birads '7' is no BI-RADS assessment"]),
    ],
)
def test_a_density_or_assessment_that_is_none_is_unknown(tmp_path, facts, kept, warned):
    outcome = run(tmp_path, change=lambda source: replace(source, **facts))
    assert (outcome.image["density"], outcome.image["birads"]) == kept
    assert len(outcome.issues) == len(warned)
    for issue, text in zip(outcome.issues, warned, strict=True):
        assert issue.level == "warning"
        assert issue.problem.startswith(text)


def test_a_box_over_the_edge_is_clipped_and_reported(tmp_path):
    outcome = run(tmp_path, boxes=[(-10, 100, 40, 20)])
    assert outcome.annotations[0]["bbox"] == [0, 100, 30, 20]
    assert "reaches outside the image, clipped" in outcome.issues[0].problem


@pytest.mark.parametrize("key", ["category", "bbox", "category_id", "segmentation", "pathology", "iscrowd"])
def test_no_further_key_of_a_lesion_replaces_one_of_the_format(tmp_path, key):
    def change(source):
        (lesion,) = source.annotations
        return replace(source, annotations=(replace(lesion, extra={key: "benign"}),))

    (issue,) = run(tmp_path, change=change).issues
    assert (issue.level, issue.problem) == (
        "error",
        f"{tmp_path / 'a.png'}: the converter's further key {key!r} is one of the format's own; rename it",
    )


@pytest.mark.parametrize("key", ["file_name", "labels", "id", "patient_id", "source"])
def test_no_further_key_of_an_image_replaces_one_of_the_format(tmp_path, key):
    (issue,) = run(tmp_path, extra={key: "x"}).issues
    assert issue.problem.endswith(f"a.png: the converter's further key {key!r} is one of the format's own; rename it")


def test_crop_is_widened_for_a_lesion_outside_the_breast(tmp_path):
    outcome = run(tmp_path, ImageOptions(crop=True, margin=0.0), boxes=[(250, 370, 20, 20)])
    x, _, w, h = outcome.annotations[0]["bbox"]
    assert (w, h) == (20, 20)
    assert x + w <= outcome.image["width"]
    assert "the crop was widened" in outcome.issues[0].problem


def test_laterality_is_checked_against_the_image(tmp_path):
    assert run(tmp_path, laterality="L").issues == []
    outcome = run(tmp_path, laterality="R")
    assert "laterality R, but the chest wall is on the left" in outcome.issues[0].problem
    assert outcome.image["laterality"] == "R"


def test_12_bit_dicom_uses_the_whole_16_bits_without_loss(tmp_path):
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    path = write_dicom(
        tmp_path / "a.dcm", stored, ImageLaterality="L", ViewPosition="MLO", ImagerPixelSpacing=[0.1, 0.1]
    )

    outcome = run(tmp_path, boxes=[], change=lambda s: replace(s, path=path))
    image = prepared(tmp_path, outcome)
    assert (image.dtype, image.max()) == (np.uint16, 65535)
    np.testing.assert_array_equal(np.rint(image * (4095 / 65535)), stored)
    assert outcome.image["source"]["bits_stored"] == 12
    # Facts that only the file knows.
    assert (outcome.image["laterality"], outcome.image["view"]) == ("L", "MLO")
    assert outcome.image["pixel_spacing_source"] == "ImagerPixelSpacing"


def test_tiles_hold_the_same_values_as_a_png(tmp_path):
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    path = write_dicom(tmp_path / "a.dcm", stored)

    def both(**changes):
        outcomes = []
        for pixels in ("png", "tiff"):
            options = ImageOptions(pixels=pixels, **changes)
            outcomes.append(run(tmp_path, options, boxes=[], change=lambda s: replace(s, path=path)))
            assert [p.name for p in (tmp_path / "out" / "images").iterdir()] == [outcomes[-1].image["file_name"]]
            yield read_image(tmp_path / "out" / "images" / outcomes[-1].image["file_name"])
        first, second = (outcome.image for outcome in outcomes)
        assert (first.pop("file_name"), second.pop("file_name")) == ("a.png", "a.tif")
        for image in (first, second):
            assert image["source"].pop("prepared_sha256")
            assert image["source"].pop("prepared_bytes")
        assert first == second

    for changes in ({}, {"max_side": 30}, {"flip_to": "right", "crop": True}):
        (expected, expected_meta), (pixels, meta) = both(**changes)
        np.testing.assert_array_equal(pixels, expected)
        assert (meta.max_value, meta.bits_stored) == (expected_meta.max_value, expected_meta.bits_stored)
    # Unscaled where that is exact: the stored bits.
    run(tmp_path, ImageOptions(pixels="tiff"), boxes=[], change=lambda s: replace(s, path=path))
    data = (tmp_path / "out" / "images" / "a.tif").read_bytes()
    np.testing.assert_array_equal(imagecodecs.tiff_decode(data), stored)


def test_an_unknown_format():
    with pytest.raises(ValueError, match="pixels 'jpeg' must be one of png, tiff"):
        ImageOptions(pixels="jpeg")


def test_8_bit_files_stay_8_bit(tmp_path):
    def change(source):
        image = (cv2.imread(str(source.path), -1) >> 8).astype(np.uint8)
        cv2.imwrite(str(source.path), image)
        return source

    outcome = run(tmp_path, ImageOptions(flip_to="right"), change=change)
    image = prepared(tmp_path, outcome)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[:, ::-1], cv2.imread(str(tmp_path / "a.png"), -1))


def test_keep_files_links_to_the_source(tmp_path):
    outcome = run(tmp_path, ImageOptions(keep_files=True))
    link = tmp_path / "out" / "images" / outcome.image["file_name"]
    assert link.is_symlink()
    np.testing.assert_array_equal(read_image(link)[0], read_image(tmp_path / "a.png")[0])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (cv2.error("OpenCV(4):\n  pixels <= MAX"), "error: OpenCV(4): pixels <= MAX; the file is damaged or too large"),
        (RecursionError("maximum depth"), "RecursionError: maximum depth; the file is damaged"),
        (KeyError("PixelData"), "KeyError: 'PixelData'; the file is damaged"),
        (AttributeError(), "AttributeError; the file is damaged"),
        (ValueError(), "ValueError; the file is damaged"),
        (MemoryError(), "not enough memory; use fewer workers"),
    ],
)
def test_an_error_of_any_kind_costs_one_image(tmp_path, monkeypatch, error, text):
    def fail(*_):
        raise error

    monkeypatch.setattr(ToySource, "read", fail)
    outcome = run(tmp_path)
    assert outcome.image is None
    (issue,) = outcome.issues
    assert issue.problem.startswith(f"{tmp_path / 'a.png'}: {text}")


def test_a_header_that_asks_for_four_thousand_megapixels_costs_one_image(tmp_path):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 65535, 65535, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    (tmp_path / "b.png").write_bytes(content)
    (issue,) = run(tmp_path, change=lambda source: replace(source, path=tmp_path / "b.png")).issues
    assert str(tmp_path / "b.png") in issue.problem


def test_missing_and_truncated_files_are_reported(tmp_path):
    outcome = run(tmp_path, change=lambda s: replace(s, path=tmp_path / "none.png"))
    assert outcome.image is None
    assert "none.png" in outcome.issues[0].problem

    def cut(source):
        source.path.write_bytes(source.path.read_bytes()[:5000])
        return source

    outcome = run(tmp_path, change=cut)
    assert "truncated PNG" in outcome.issues[0].problem
    assert not (tmp_path / "out" / "images" / "a.png").exists()


# --- resuming ---------------------------------------------------------------------------------------------------------
def test_second_run_reuses_the_first(tmp_path):
    first = run(tmp_path, laterality="R")
    written = (tmp_path / "out" / "images" / "a.png").stat().st_mtime_ns
    second = run(tmp_path, laterality="R")
    assert (first.reused, second.reused) == (False, True)
    assert (second.image, second.annotations, second.issues) == (first.image, first.annotations, first.issues)
    assert (tmp_path / "out" / "images" / "a.png").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "what", ["options", "facts", "box", "source", "image gone", "image cut", "record cut", "force"]
)
def test_what_makes_an_image_anew(tmp_path, what):
    run(tmp_path)
    image, record = tmp_path / "out" / "images" / "a.png", tmp_path / "out" / "records" / "a.json"
    arguments = {}
    if what == "options":
        arguments["options"] = ImageOptions(max_side=100)
    elif what == "facts":
        arguments["view"] = "CC"
    elif what == "box":
        arguments["boxes"] = [(1, 2, 3, 4)]
    elif what == "source":
        arguments["side"] = "right"
    elif what == "image gone":
        image.unlink()
    elif what == "image cut":
        image.write_bytes(image.read_bytes()[:100])
    elif what == "record cut":
        record.write_text(record.read_text()[:100])
    else:
        arguments["force"] = True
    outcome = run(tmp_path, **arguments)
    assert outcome.image is not None
    assert not outcome.reused
    assert image.is_file()


YEAR_2020 = 1_577_836_800


def settled(tmp_path, **arguments):
    """Prepare a.png, which was last changed in 2020 (``write_breasts`` writes the same bytes each time)."""

    def age(source):
        os.utime(source.path, (YEAR_2020, YEAR_2020))
        return source

    return run(tmp_path, **{"change": age, **arguments})


def test_an_unchanged_source_is_not_read_again(tmp_path, monkeypatch):
    settled(tmp_path)
    read = []
    monkeypatch.setattr(image_module, "sha256_file", lambda path: read.append(Path(path).name))
    assert settled(tmp_path).reused
    assert read == []


def test_a_source_that_was_just_changed_is_hashed(tmp_path, monkeypatch):
    run(tmp_path)
    hashed = []
    original = image_module.sha256_file
    monkeypatch.setattr(image_module, "sha256_file", lambda path: hashed.append(Path(path).name) or original(path))
    assert run(tmp_path).reused
    assert hashed == ["a.png"]
    # Once it has settled, one more hash makes its size and time known.
    assert [settled(tmp_path).reused, settled(tmp_path).reused] == [True, True]
    assert hashed == ["a.png", "a.png"]


@pytest.mark.parametrize(("check_hashes", "reused"), [(False, True), (True, False)])
@pytest.mark.parametrize("changed", ["source", "prepared"])
def test_only_hashes_show_a_change_that_keeps_size_and_time(tmp_path, changed, check_hashes, reused):
    settled(tmp_path)
    prepared_file = tmp_path / "out" / "images" / "a.png"

    def change(source):
        path = source.path if changed == "source" else prepared_file
        data = bytearray(path.read_bytes())
        data[-1] ^= 1  # the checksum of the end chunk
        path.write_bytes(data)
        os.utime(source.path, (YEAR_2020, YEAR_2020))
        return source

    outcome = settled(tmp_path, change=change, check_hashes=check_hashes)
    assert outcome.reused is reused
    if changed == "source" and check_hashes:
        assert "damaged PNG" in outcome.issues[0].problem
    elif check_hashes:
        assert outcome.image is not None
        assert read_image(prepared_file)[0].shape == (400, 300)


def test_an_older_time_of_change_is_a_change_too(tmp_path):
    settled(tmp_path)

    def older(source):
        image = cv2.imread(str(source.path), -1)
        cv2.imwrite(str(source.path), image[:, ::-1])
        os.utime(source.path, (YEAR_2020 - 1000, YEAR_2020 - 1000))
        return source

    outcome = settled(tmp_path, change=older)
    assert not outcome.reused
    np.testing.assert_array_equal(prepared(tmp_path, outcome), cv2.imread(str(tmp_path / "a.png"), -1))
