"""TID 1500 reports, written and read back."""

import numpy as np
import pydicom
import pytest
from highdicom import sr
from pydicom.sr.codedict import codes

from mammo_d2.inference.dicom_export.coded_findings import CLASS_OF_FINDING, write_object
from mammo_d2.inference.dicom_export.measurement_report import measurement_report
from tests.inference.dicom_export.exams import BOXES, FACTS, check_with_dciodvfy, check_with_dsrdump, exam, result


@pytest.fixture
def report(tmp_path):
    pairs = exam(tmp_path)
    made = measurement_report(pairs, FACTS, 1)
    return write_object(tmp_path / "sr.dcm", made, FACTS, pairs[0][1].header, "Boxes and scores")


def test_boxes_and_scores_come_back(report):
    content = sr.srread(report).content
    groups = content.get_planar_roi_measurement_groups()
    assert len(groups) == 2
    for group, box, score, label in zip(groups, BOXES, (0.9321738, 0.4660869), ("malignant", "benign"), strict=True):
        points = group.roi.value
        np.testing.assert_allclose(points[0], box[:2], atol=1e-3)
        np.testing.assert_allclose(points[2], box[2:], atol=1e-3)
        np.testing.assert_array_equal(points[0], points[-1])
        (certainty,) = group.get_measurements(codes.DCM.CertaintyOfFinding)
        assert certainty.value == pytest.approx(100 * score, abs=1e-8)
        assert certainty.unit == codes.UCUM.Percent
        assert group.get_qualitative_evaluations(CLASS_OF_FINDING)[0].value.meaning == label
        assert group.finding_type == codes.SCT.Lesion


def test_image_scores_are_groups_without_outline(report):
    groups = sr.srread(report).content.get_image_measurement_groups()
    values = [group.get_measurements(codes.DCM.CertaintyOfFinding)[0].value for group in groups]
    assert values == [75, 75]


def test_references_are_those_of_the_images(report):
    dataset = pydicom.dcmread(report)
    (study,) = dataset.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == dataset.StudyInstanceUID == "1.2.3.4"
    named = {
        (series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {("1.2.3.4.1", "1.2.3.4.5.1"), ("1.2.3.4.2", "1.2.3.4.5.2")}
    group = sr.srread(report).content.get_planar_roi_measurement_groups()[0]
    region = group.reference_type
    assert region == codes.DCM.ImageRegion
    assert group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5.1"


def test_it_says_what_made_it_and_when(report):
    dataset = pydicom.dcmread(report)
    text = str(dataset)
    assert "Research software, no medical device" in dataset.SeriesDescription
    assert "Research software, no medical device" in str(dataset.ContentSequence[-1].TextValue)
    assert (dataset.ManufacturerModelName, dataset.SoftwareVersions[0]) == ("Detector", "2.1")
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260102", "030405")
    assert dataset.VerificationFlag == "UNVERIFIED"
    assert "Algorithm Name" in text


def test_a_frame_of_a_multi_frame_file_is_named(tmp_path):
    from dataclasses import replace

    image, source = exam(tmp_path)[0]
    made = measurement_report([(image, replace(source, frame=3))], FACTS, 1)
    path = write_object(tmp_path / "sr.dcm", made, FACTS, source.header, "Boxes")
    group = sr.srread(path).content.get_planar_roi_measurement_groups()[0]
    assert group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == 3


def test_images_without_orientation_have_no_library_entry(tmp_path):
    """The template requires it of an entry; the images are referred to all the same."""
    from tests.inference.dicom_export.exams import SourceFinder, write_view

    image = result(write_view(tmp_path, PatientOrientation=None))
    source = SourceFinder([]).find(image)
    path = write_object(
        tmp_path / "sr.dcm", measurement_report([(image, source)], FACTS, 1), FACTS, source.header, "Boxes"
    )
    assert len(sr.srread(path).content.get_planar_roi_measurement_groups()) == 2
    check_with_dciodvfy(path)


def test_other_programs_accept_it(report):
    check_with_dciodvfy(report)
    printed = check_with_dsrdump(report)
    assert 'Certainty of Finding")="93.21738"' in printed
