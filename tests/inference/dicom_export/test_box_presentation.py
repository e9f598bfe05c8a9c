"""Presentation states, written and read back."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from mammo_d2.inference.dicom_export.box_presentation import box_presentation
from mammo_d2.inference.dicom_export.coded_findings import write_object
from mammo_d2.inference.dicom_export.source_instances import SourceFinder
from tests.inference.dicom_export.exams import BOXES, FACTS, SIZE, check_with_dciodvfy, exam, result, write_view


@pytest.fixture
def state(tmp_path):
    image, source = exam(tmp_path)[0]
    made = box_presentation(image, source, FACTS, 1)
    return write_object(tmp_path / "gsps.dcm", made, FACTS, source.header, "Boxes")


def test_boxes_come_back(state):
    dataset = pydicom.dcmread(state)
    (annotation,) = dataset.GraphicAnnotationSequence
    assert annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5.1"
    for line, box in zip(annotation.GraphicObjectSequence, BOXES, strict=True):
        points = np.array(line.GraphicData).reshape(-1, 2)
        np.testing.assert_allclose([*points[0], *points[2]], box, atol=1e-3)
        assert (line.GraphicAnnotationUnits, line.GraphicType, len(points)) == ("PIXEL", "POLYLINE", 5)
    texts = [item.UnformattedTextValue for item in annotation.TextObjectSequence]
    assert texts == ["malignant 0.93", "benign 0.47"]


def test_the_whole_image_is_shown_with_its_window(state):
    dataset = pydicom.dcmread(state)
    (area,) = dataset.DisplayedAreaSelectionSequence
    # Whole pixels counted from 1, unlike the points of boxes.
    assert list(area.DisplayedAreaTopLeftHandCorner) == [1, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [SIZE[1], SIZE[0]]
    assert dataset.SoftcopyVOILUTSequence[0].WindowCenter == 2048
    assert dataset.PresentationLUTShape == "IDENTITY"


def test_dark_on_bright_stays_so(tmp_path):
    image = result(write_view(tmp_path, PhotometricInterpretation="MONOCHROME1"))
    made = box_presentation(image, SourceFinder([]).find(image), FACTS, 1)
    assert made.PresentationLUTShape == "INVERSE"


def test_a_frame_is_named_everywhere(tmp_path):
    image, source = exam(tmp_path)[0]
    made = box_presentation(image, replace(source, frame=2), FACTS, 1)
    references = [
        made.ReferencedSeriesSequence[0].ReferencedImageSequence[0],
        made.GraphicAnnotationSequence[0].ReferencedImageSequence[0],
    ]
    assert [item.ReferencedFrameNumber for item in references] == [2, 2]


def test_other_programs_accept_it(state):
    check_with_dciodvfy(state)


def test_a_viewer_shows_the_image_through_it(state, tmp_path):
    """DCMTK's renderer takes grey scale and area from the state; it does not draw lines."""
    program = shutil.which("dcmp2pgm")
    if program is None:
        pytest.skip("dcmp2pgm (dcmtk) is not installed")
    picture = tmp_path / "shown.pgm"
    command = [program, "-p", str(state), str(tmp_path / "L_CC.dcm"), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().split()[1:3] == [b"200", b"300"]
