"""TID 4000 reports, written and read back."""

import numpy as np
import pydicom
import pytest

from mammo_d2.inference.dicom_export.cad_report import cad_report
from mammo_d2.inference.dicom_export.coded_findings import write_object
from tests.inference.dicom_export.exams import BOXES, FACTS, check_with_dciodvfy, check_with_dsrdump, exam


@pytest.fixture
def path(tmp_path):
    pairs = exam(tmp_path)
    return write_object(tmp_path / "cad.dcm", cad_report(pairs, FACTS, 1), FACTS, pairs[0][1].header, "CAD")


def named(item) -> str:
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def at(root, identifier):
    """The content item of a by-reference relationship, e.g. [1, 2, 1]."""
    for place in identifier[1:]:
        root = root.ContentSequence[place - 1]
    return root


def test_the_tree(path):
    root = pydicom.dcmread(path)
    assert root.ContentTemplateSequence[0].TemplateIdentifier == "4000"
    assert [named(item) for item in root.ContentSequence] == [
        "Language of Content Item and Descendants", "Image Library", "CAD Processing and Findings Summary",
        "Summary of Detections", "Summary of Analyses",
    ]  # fmt: skip
    library = root.ContentSequence[1].ContentSequence
    facts = [{named(item): item for item in image.ContentSequence} for image in library]
    assert [image["Image Laterality"].ConceptCodeSequence[0].CodeMeaning for image in facts] == [
        "Left breast", "Right breast",
    ]  # fmt: skip
    assert [image["Image View"].ConceptCodeSequence[0].CodeValue for image in facts] == ["399162004", "399368009"]
    assert facts[0]["Horizontal Pixel Spacing"].MeasuredValueSequence[0].NumericValue == 0.2


def test_boxes_come_back_on_their_images(path):
    root = pydicom.dcmread(path)
    summary = root.ContentSequence[2]
    assert summary.ConceptCodeSequence[0].CodeValue == "111242"
    for impression, box in zip(summary.ContentSequence, BOXES, strict=True):
        finding = impression.ContentSequence[1]
        parts = {named(item): item for item in finding.ContentSequence}
        outline = np.array(parts["Outline"].GraphicData).reshape(-1, 2)
        np.testing.assert_allclose([*outline[0], *outline[2]], box, atol=1e-3)
        np.testing.assert_allclose(parts["Center"].GraphicData, (box[:2] + box[2:]) / 2, atol=1e-3)
        image = at(root, parts["Outline"].ContentSequence[0].ReferencedContentItemIdentifier)
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5.1"


def test_without_boxes_it_says_that_nothing_was_found(tmp_path):
    _, second = exam(tmp_path)
    root = cad_report([second], FACTS, 1)
    assert root.ContentSequence[2].ConceptCodeSequence[0].CodeValue == "111241"
    assert "ContentSequence" not in root.ContentSequence[2]
    path = write_object(tmp_path / "cad.dcm", root, FACTS, second[1].header, "CAD")
    check_with_dciodvfy(path)


def test_other_programs_accept_it(path):
    check_with_dciodvfy(path)
    assert "Mammography CAD SR Document" in check_with_dsrdump(path)
