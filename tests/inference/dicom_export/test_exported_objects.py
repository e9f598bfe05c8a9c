"""The export of a folder: clipping, repeated images, what goes together."""

import pytest

from mammo_d2.inference.dicom_export.exported_objects import KINDS, export_objects
from mammo_d2.inference.dicom_export.source_instances import SourceFinder
from tests.inference.dicom_export.exams import FACTS, check_with_dciodvfy, result, write_view


def test_boxes_are_clipped_to_the_image(tmp_path):
    import pydicom

    image = result(write_view(tmp_path), boxes=[[-5, 10, 250, 20], [250, 10, 300, 20]])
    outcome = export_objects([image], SourceFinder([]), FACTS, tmp_path, ["gsps"])
    assert outcome.warnings == [(image.name, "1 boxes without an area in the image are left out")]
    state = pydicom.dcmread(tmp_path / "image_00001_gsps.dcm")
    (line,) = state.GraphicAnnotationSequence[0].GraphicObjectSequence
    assert list(line.GraphicData[:6]) == [0, 10, 200, 10, 200, 20]


def test_an_instance_is_exported_once(tmp_path):
    files = [write_view(tmp_path, name) for name in ("a.dcm", "b.dcm")]
    images = [result(file, number) for number, file in enumerate(files, start=1)]
    outcome = export_objects(images, SourceFinder([]), FACTS, tmp_path, ["sr", "gsps"])
    assert (outcome.images, dict(outcome.written)) == (1, {"sr": 1, "gsps": 1})
    ((name, problem),) = outcome.problems
    assert name == str(files[1])
    assert "is the same image (SOP instance) as" in problem
    with pytest.raises(ValueError, match="is the same image"):
        export_objects(images, SourceFinder([]), FACTS, tmp_path, ["sr"], strict=True)


def test_all_objects_of_other_sources_are_valid(tmp_path):
    """A file without window, orientation, spacing, laterality and view, with MONOCHROME1 and another character set."""
    file = write_view(
        tmp_path, PhotometricInterpretation="MONOCHROME1", WindowCenter=None, WindowWidth=None, PatientOrientation=None,
        ImagerPixelSpacing=None, ImageLaterality=None, ViewPosition=None, SpecificCharacterSet="ISO_IR 100",
        PatientName="Müller^Eva",
    )  # fmt: skip
    finder = SourceFinder([], keep_ids=True)
    export_objects([result(file)], finder, FACTS, tmp_path / "out", [kind for kind in KINDS if kind != "seg"])
    paths = sorted((tmp_path / "out").glob("*.dcm"))
    assert len(paths) == 3
    for path in paths:
        check_with_dciodvfy(path)
