import cv2
import numpy as np
import pytest

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.film.mini_mias import MiniMias, read_info
from mammo_d2.data.format.annotations import check_splits, validate_coco
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions

INFO = """
        MIAS MiniMammographic Database
1st column: MIAS database reference number.
mdb001 G CIRC B 535 425 197
mdb002 G NORM
mdb005 F CIRC B 477 133 30
mdb005 F CIRC B 500 168 26
mdb059 F CIRC B
mdb144 F MISC B 233 994 29
mdb144 F MISC M 313 540 27
mdb216 D CALC M *NOTE 3*
mdb322 D NORM
"""


@pytest.fixture
def source(tmp_path):
    (tmp_path / "Info.txt").write_text(INFO)
    for name in ("mdb001", "mdb002", "mdb005", "mdb059", "mdb144", "mdb216", "mdb300"):
        cv2.imwrite(str(tmp_path / f"{name}.pgm"), np.zeros((1024, 1024), np.uint8))
    return tmp_path


def images(source, **arguments):
    converter = MiniMias(source, **arguments)
    return {i.key: i for i in converter.images()}, converter.skipped


def test_circle_is_turned_over_and_becomes_a_box(source):
    found, _ = images(source)
    (lesion,) = found["mdb001"].annotations
    # Row 425 from the bottom is row 1024 - 425 = 599 from the top; the pixel's centre is at (535.5, 599.5).
    np.testing.assert_allclose(xywh_to_xyxy(lesion.bbox), [338.5, 402.5, 732.5, 796.5])
    assert (lesion.category, lesion.pathology, lesion.extra) == ("benign", "benign", {"finding": "CIRC"})


def test_facts(source):
    found, _ = images(source)
    right, left = found["mdb001"], found["mdb002"]
    assert (right.laterality, left.laterality) == ("R", "L")
    assert right.patient_id == left.patient_id == "mias001"
    assert found["mdb005"].patient_id == "mias003"
    assert found["mdb144"].patient_id == "mias072"
    assert (right.view, right.pixel_spacing) == ("MLO", (0.2, 0.2))
    assert left.labels == {"benign": 0, "malignant": 0}
    assert left.annotations == ()


def test_several_lesions_and_both_pathologies(source):
    found, _ = images(source)
    assert [a.lesion_id for a in found["mdb005"].annotations] == ["mdb005_1", "mdb005_2"]
    assert [a.category for a in found["mdb144"].annotations] == ["benign", "malignant"]
    assert found["mdb144"].labels == {"benign": 1, "malignant": 1}
    # The upper lesion, 994 from the bottom, sticks out at the top: clipped.
    assert found["mdb144"].annotations[0].bbox == (204.5, 1.5, 58, 58)


def test_lesions_without_place_are_dropped_or_kept_unboxed(source):
    found, skipped = images(source)
    assert "mdb059" not in found
    assert "mdb216" not in found
    assert ("mdb216.pgm", "CALC without coordinates") in skipped
    kept, _ = images(source, unlocated="keep")
    assert kept["mdb216"].labels == {"benign": 0, "malignant": 1}
    assert kept["mdb216"].annotations == ()


def test_images_and_rows_without_each_other_are_skipped(source):
    _, skipped = images(source)
    assert ("mdb300.pgm", "not in Info.txt") in skipped
    assert ("mdb322", "in Info.txt, but there is no such image") in skipped


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mdb001 G CIRCLE B 1 2 3", "the class must be one of CALC"),
        ("mdb001 G", "the class must be one of CALC"),
        ("mdb001 G CIRC X 1 2 3", "the severity must be B or M"),
        ("mdb001 G CIRC B 535", "expected x, y and radius"),
        ("mdb001 G CIRC B 535 a 4", "expected x, y and radius"),
        ("mdb001 G CIRC B 1535 425 197", r"must lie in 0\.\.1023"),
        ("no rows at all", "no row starts with an image's name"),
    ],
)
def test_bad_rows_name_the_line(tmp_path, row, message):
    path = tmp_path / "Info.txt"
    path.write_text(f"text\n{row}\n")
    with pytest.raises(ConverterError, match=message) as caught:
        read_info(path)
    assert "Info.txt" in str(caught.value)


def test_missing_info(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Info\.txt: no such file"):
        list(MiniMias(tmp_path).images())
    with pytest.raises(ConverterError, match="unlocated 'x'"):
        MiniMias(tmp_path, unlocated="x")


@pytest.mark.shared_data
def test_real_images(shared_data, tmp_path):
    converter = MiniMias(shared_data / "mini-mias")
    found = {i.key: i for i in converter.images()}
    # 122 images, of which mdb059 and mdb216 have a lesion at an unknown place.
    assert len(found) == 120
    assert len(converter.skipped) == 2
    assert sum(len(i.annotations) for i in found.values()) == 44
    assert sum(bool(i.annotations) for i in found.values()) == 42
    # Boxes lie on tissue: turned over the wrong way, many would be in the air.
    for key in ("mdb023", "mdb028", "mdb178", "mdb209"):
        pixels, _ = converter.read(found[key])
        x, y, w, h = (round(v) for v in found[key].annotations[0].bbox)
        assert np.median(pixels[y : y + h, x : x + w]) > 100
    result = prepare(converter, tmp_path, PrepareOptions(limit=10, progress=False))
    assert result.errors == []
    assert check_splits(result.files).problems == []
    for file in result.files:
        assert validate_coco(file, tmp_path / "images", check_images="full").problems == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mdb001 G CIRC B 535 425 197", "the same row is there twice"),
        ("mdb001 G NORM", "mdb001 is NORM in one row and has another row"),
        ("mdb006 G NORM B 535 425 197", "NORM ends the row"),
        ("mdb006 G CIRC B 535 425 inf", "the radius between 0 and 1024"),
        ("mdb006 G CIRC B 535 425 nan", "the radius between 0 and 1024"),
        ("mdb006 G CIRC B 535 425 20 7", "and no more"),
        ("mdb6 G CIRC B 535 425 20", "'mdb6' is no image's name"),
    ],
)
def test_rows_that_would_be_wrong_without_a_word(source, line, message):
    (source / "Info.txt").write_text(f"{INFO}{line}\n")
    with pytest.raises(ConverterError, match=message):
        list(MiniMias(source).images())


@pytest.mark.shared_data
def test_real_table(shared_data):
    rows = read_info(shared_data / "mini-mias" / "Info.txt")
    assert len(rows) == 124
    assert sum(row.circle is None and row.finding != "NORM" for row in rows) == 2
