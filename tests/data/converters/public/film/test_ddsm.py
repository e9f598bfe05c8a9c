import argparse
import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError, set_unknown_apart
from mammo_d2.data.converters.public.film.ddsm import Ddsm, optical_density, scanner_of
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.converters.public.film.test_ddsm_overlay import ICS, OVERLAY
from tests.data.pvrg_files import pvrg_stream

VIEWS = ("LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO")


def film(seed, width=60):
    y, x = np.mgrid[:90, :width]
    inside = (x / 45) ** 2 + ((y - 45) / 35) ** 2 < 1
    return np.where(inside, 2500 + 5 * x + 3 * y + seed, 100).astype(np.uint16)


def write_case(folder, name="A_1141_1", overlays=None, ics=ICS, views=VIEWS):
    """A case folder as in the download: .ics, four LJPEG files, an OVERLAY per film with something."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name.replace('_', '-')}.ics").write_text(ics.replace("A-1141-1", name.replace("_", "-")))
    for seed, view in enumerate(views):
        pixels = film(seed + 10 * sum(map(ord, name)) % 97, 61 if view == "LEFT_MLO" else 60)
        size = pixels.shape[::-1] if view == "RIGHT_CC" else None
        (folder / f"{name}.{view}.LJPEG").write_bytes(pvrg_stream(pixels, header_size=size))
        (folder / f"{name}.{view}.LJPEG.1_highpass.gif").write_bytes(b"GIF")
    for view, text in (overlays or {}).items():
        (folder / f"{name}.{view}.OVERLAY").write_text(text)
    return folder


NORMAL = ICS.replace("RESOLUTION 43.5 OVERLAY", "RESOLUTION 43.5 NON_OVERLAY")


@pytest.fixture
def source(tmp_path):
    write_case(tmp_path / "cancers" / "cancer_06" / "case1141", overlays={"LEFT_CC": OVERLAY})
    write_case(tmp_path / "normals" / "normal_07" / "case4000", "D_4000_1", ics=NORMAL)
    return tmp_path


def records(out):
    data = json.loads((out / "annotations" / "train.json").read_text())
    return {i["file_name"]: i for i in data["images"]}, data["annotations"]


def test_prepared(source, tmp_path):
    options = PrepareOptions(fractions=(("train", 1),), progress=False)
    result = prepare(Ddsm(source, calibration="none"), tmp_path / "out", options)
    assert result.errors == []
    images, annotations = records(tmp_path / "out")
    assert sorted(images) == [f"{case}/{view}.png" for case in ("A_1141_1", "D_4000_1") for view in VIEWS]
    left = images["A_1141_1/LEFT_CC.png"]
    assert (left["patient_id"], left["exam_id"], left["laterality"], left["view"]) == ("A_1141", "A_1141_1", "L", "CC")
    assert (left["pixel_spacing"], left["pixel_spacing_source"]) == ([0.0435, 0.0435], "DDSM .ics RESOLUTION")
    assert (left["labels"], left["birads"], left["density"]) == ({"benign": 1, "malignant": 1}, "5", "3")
    assert left["core_boxes"] == [[12, 22, 3, 2]]
    first, second = annotations
    assert (first["category_id"], first["bbox"], first["finding"]) == (2, [10, 20, 11, 11], ["mass", "calcification"])
    # Corners of the outline only, at the centres of its pixels.
    square = [10.5, 20.5, 20.5, 20.5, 20.5, 30.5, 10.5, 30.5, 10.5, 20.5]
    assert (first["segmentation"], first["pathology"], first["birads"]) == ([square], "MALIGNANT", "5")
    assert (second["category_id"], second["bbox"], second["pathology"]) == (
        1, [40, 50, 2, 2], "BENIGN_WITHOUT_CALLBACK",
    )  # fmt: skip
    stored = cv2.imread(str(tmp_path / "out" / "images" / "A_1141_1" / "LEFT_CC.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(stored, film(10 * sum(map(ord, "A_1141_1")) % 97) / 4095 * 65535, atol=0.51)
    # Height and width are exchanged in its header.
    assert (images["A_1141_1/RIGHT_CC.png"]["height"], images["A_1141_1/RIGHT_CC.png"]["width"]) == (90, 60)


def labels_of(source):
    return {image.key: (image.labels["benign"], image.labels["malignant"]) for image in Ddsm(source).images()}


def test_films_without_an_outline(source):
    write_case(source / "benigns" / "benign_03" / "case9", "B_9_1", ics=NORMAL)
    labels = labels_of(source)
    # The abnormality is not seen in the other view of its breast, or was not outlined there.
    assert labels["A_1141_1/LEFT_MLO"] == (None, None)
    assert labels["A_1141_1/RIGHT_CC"] == labels["A_1141_1/RIGHT_MLO"] == (0, 0)
    assert {labels[f"D_4000_1/{view}"] for view in VIEWS} == {(0, 0)}
    # No outline at all, but not among the normals.
    assert {labels[f"B_9_1/{view}"] for view in VIEWS} == {(None, None)}


def test_unproven_abnormalities_are_neither_benign_nor_malignant(source):
    path = source / "cancers" / "cancer_06" / "case1141" / "A_1141_1.LEFT_CC.OVERLAY"
    path.write_text(OVERLAY.replace("BENIGN_WITHOUT_CALLBACK", "UNPROVEN"))
    left, other_view, *_ = Ddsm(source).images()
    assert [(a.category, a.bbox) for a in left.annotations] == [
        ("malignant", (10, 20, 11, 11)),
        ("unknown", (40, 50, 2, 2)),
    ]
    assert left.labels == {"benign": None, "malignant": 1}
    assert other_view.labels == {"benign": None, "malignant": None}
    image = set_unknown_apart(left)
    assert image.boxes == {"core_boxes": [[12, 22, 3, 2]], "unassessed_boxes": [[40, 50, 2, 2]]}


def test_label_rules(source, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "finding:\n  - {pathology: malignant, is: malignant}\n  - {birads: 2, is: left out}\n"
    )
    converter = Ddsm(source)
    converter.use_label_rules(tmp_path / "rules.yaml")
    labels = {image.key: image.labels for image in converter.images()}
    # Its film is left out, and what is known of the breast's other film less.
    assert "A_1141_1/LEFT_CC" not in labels
    assert labels["A_1141_1/LEFT_MLO"] == {"benign": None, "malignant": None}
    assert labels["A_1141_1/RIGHT_CC"] == {"benign": 0, "malignant": 0}
    assert converter.skipped == [("A_1141_1.LEFT_CC", "left out by the label rules (rules.yaml)")]


def test_an_overlay_that_is_missing_or_damaged_leaves_out_its_film(source, tmp_path):
    path = source / "cancers" / "cancer_06" / "case1141" / "A_1141_1.LEFT_CC.OVERLAY"
    path.unlink()
    first, second, third, _ = (image for image in Ddsm(source).images() if image.patient_id == "A_1141")
    assert "LEFT_CC has an OVERLAY, but there is no A_1141_1.LEFT_CC.OVERLAY" in first.problem
    # What it would have said of the breast is unknown.
    assert (second.problem, second.labels, third.labels["malignant"]) == (None, {"benign": None, "malignant": None}, 0)
    path.write_text(OVERLAY.replace("12 22 2 2 4 6 6 0 #", "12 22 2 2"))
    result = prepare(Ddsm(source), tmp_path / "out", PrepareOptions(progress=False))
    (issue,) = result.errors
    assert "line 12: the outline's chain code does not end with #" in issue.problem


def test_an_outline_that_leaves_the_film_is_clipped(source, tmp_path):
    path = source / "cancers" / "cancer_06" / "case1141" / "A_1141_1.LEFT_CC.OVERLAY"
    path.write_text(OVERLAY.replace("10 20 2", "55 20 2"))
    result = prepare(Ddsm(source), tmp_path / "out", PrepareOptions(fractions=(("train", 1),), progress=False))
    assert result.errors == []
    assert records(tmp_path / "out")[1][0]["bbox"] == [55, 20, 5, 11]
    assert any("reaches outside the image, clipped" in issue.problem for issue in result.issues)


def test_optical_densities_of_each_scanner():
    # Values at which the formulas give a density that is known.
    assert optical_density(np.array([4096.99 - 1009.01]), "lumisys") == pytest.approx([1])
    assert optical_density(np.array([(3.789 - 1) / 0.00094568]), "howtek-mgh") == pytest.approx([1])
    assert optical_density(np.array([10 ** (4.80662 - 1.07553), 0]), "dba") == pytest.approx([1, 4.80662 / 1.07553])
    assert optical_density(np.array([0]), "howtek-ismd") == pytest.approx([3.96604095240593])
    with pytest.raises(ValueError, match=r"no calibration for this scanner .* use --calibration none"):
        optical_density(np.array([0]), "")
    assert scanner_of("A_1_1", "DBA M2100 ImageClear") == "dba"
    assert [scanner_of(f"{site}_1_1", "HOWTEK 43.5") for site in "AD"] == ["howtek-mgh", "howtek-ismd"]
    assert (scanner_of("B_1_1", "LUMISYS LASER"), scanner_of("B_1_1", "HOWTEK 43.5")) == ("lumisys", "")


def test_calibrated_pixels_are_bright_on_dark(source):
    image = next(iter(Ddsm(source).images()))
    pixels, meta = Ddsm(source).read(image)
    raw, _ = Ddsm(source, calibration="none").read(next(iter(Ddsm(source, calibration="none").images())))
    density = 3.789 - 0.00094568 * raw
    np.testing.assert_allclose(pixels, (1 - density.clip(0, 4) / 4) * 65535, rtol=1e-5)
    assert (meta.max_value, meta.bits_stored, meta.format) == (65535, 16, "ljpeg")


def test_copies_of_another_size_and_their_outlines(source, tmp_path):
    folder = source / "cancers" / "cancer_06" / "case1141"
    for view in VIEWS:
        (folder / f"A_1141_1.{view}.LJPEG").unlink()
    (folder / "PNGFiles").mkdir()
    cv2.imwrite(str(folder / "PNGFiles" / "A_1141_1.LEFT_CC.LJPEG.png"), cv2.resize(film(0) * 16, (120, 180)))
    cv2.imwrite(str(folder / "PNGFiles" / "A_1141_1.LEFT_CC.mask.png"), film(0))
    cv2.imwrite(str(folder / "A_1141_1.RIGHT_CC.tif"), film(1)[:50])
    converter = Ddsm(source)
    result = prepare(converter, tmp_path / "out", PrepareOptions(fractions=(("train", 1),), progress=False))
    (issue,) = result.errors
    assert "has 50 x 60 pixels (height x width), its lesions were drawn on 90 x 60" in issue.problem
    images, annotations = records(tmp_path / "out")
    assert annotations[0]["bbox"] == [20, 40, 22, 22]
    assert annotations[0]["segmentation"][0][:4] == [21, 41, 41, 41]
    assert images["A_1141_1/LEFT_CC.png"]["pixel_spacing"] == [0.02175, 0.02175]
    assert images["A_1141_1/LEFT_CC.png"]["core_boxes"] == [[24, 44, 6, 4]]
    assert [what for what, _ in converter.skipped] == ["A_1141_1.LEFT_MLO.LJPEG", "A_1141_1.RIGHT_MLO.LJPEG"]


def test_files_that_are_still_packed(source):
    folder = source / "cancers" / "cancer_06" / "case1141"
    (folder / "A_1141_1.LEFT_CC.LJPEG").rename(folder / "A_1141_1.LEFT_CC.LJPEG.gz")
    converter = Ddsm(source)
    assert len(list(converter.images())) == 7
    assert converter.skipped == [
        ("A_1141_1.LEFT_CC.LJPEG", "no such file in case1141; unpack A_1141_1.LEFT_CC.LJPEG.gz")
    ]


def test_a_case_that_cannot_be_read_is_left_out(source):
    path = source / "cancers" / "cancer_06" / "case1141" / "A-1141-1.ics"
    path.write_text(ICS.replace("LINES 90", "LINES many"))
    path.with_name("readme.ics").write_text("")
    converter = Ddsm(source)
    assert {image.patient_id for image in converter.images()} == {"D_4000"}
    (first, why), (second, other) = converter.skipped
    assert (first.split("/")[-1], second.split("/")[-1]) == ("A-1141-1.ics", "readme.ics")
    assert "line 11 ('LEFT_CC LINES many" in why
    assert other == "not the name of a case, e.g. A-1141-1.ics"


def test_eight_bit_copies_are_not_calibrated(source):
    folder = source / "cancers" / "cancer_06" / "case1141"
    (folder / "A_1141_1.LEFT_CC.LJPEG").unlink()
    cv2.imwrite(str(folder / "A_1141_1.LEFT_CC.png"), (film(0) // 16).astype(np.uint8))
    converter = Ddsm(source, calibration="density")
    with pytest.raises(ValueError, match="8 bits are no scanner's values"):
        converter.read(next(iter(converter.images())))
    assert Ddsm(source).read(next(iter(Ddsm(source).images())))[1].max_value == 255


def test_bad_arguments(source):
    with pytest.raises(ConverterError, match="calibration 'od' must be one of auto, density, none"):
        Ddsm(source, calibration="od")


def from_words(source, *words, keep_files=False):
    parser = argparse.ArgumentParser()
    Ddsm.add_arguments(parser)
    return Ddsm.from_arguments(
        parser.parse_args(["--source", str(source), *words], argparse.Namespace(keep_files=keep_files))
    )


def test_arguments(source):
    converter = from_words(source, "--calibration", "density", "--bits", "12")
    assert (converter.calibration, converter.read_options.bits) == ("density", 12)
    assert converter.parameters()["calibration"] == "density"
    with pytest.raises(ValueError, match="--keep-files: DDSM's films are decoded and calibrated"):
        from_words(source, keep_files=True)
