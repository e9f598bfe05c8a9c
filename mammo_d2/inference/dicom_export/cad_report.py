"""A mammography CAD report of an exam: TID 4000 in a Mammography CAD SR, for viewers that show CAD marks.

It has what the templates require (PS3.16 TID 4000, 4001, 4003, 4006, 4015, 4017, 4019, 4020, 4021): a library of the
images, a finding per box, and the algorithm that looked for them. Findings refer to the images of the library.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, MammographyCADSRStorage

from mammo_d2.data.reading.dicom.tags import VIEW_OF_CODE
from mammo_d2.inference.dicom_export.coded_findings import (
    ExportFacts,
    cad_finding_code,
    corners,
    percent_of,
)
from mammo_d2.inference.dicom_export.result_images import ResultImage
from mammo_d2.inference.dicom_export.source_instances import SourceInstance

# Where the Image Library is in the tree: the second item of the root.
_LIBRARY = (1, 2)
_SIDES = {"L": Code("80248007", "SCT", "Left breast"), "R": Code("73056007", "SCT", "Right breast")}
# pydicom's meaning has an invisible character in it.
_IMPRESSION = Code("111034", "DCM", "Individual Impression/Recommendation")
_PRESENT = codes.DCM.PresentationRequiredRenderingDeviceIsExpectedToPresent


def cad_report(results: Sequence[tuple[ResultImage, SourceInstance]], facts: ExportFacts, number: int) -> Dataset:
    """The report of the images of a study.

    Args:
        results: images of one study, with or without boxes.
        facts: of the export.
        number: of the instance in its series.
    """
    headers = [source.header for _, source in results]
    header = headers[0]
    report = SOPClass(
        study_instance_uid=header.StudyInstanceUID,
        sop_class_uid=MammographyCADSRStorage,
        modality="SR",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **{
            argument: header.get(keyword, "")
            for argument, keyword in {
                "patient_id": "PatientID", "patient_name": "PatientName", "patient_birth_date": "PatientBirthDate",
                "patient_sex": "PatientSex", "accession_number": "AccessionNumber", "study_id": "StudyID",
                "study_date": "StudyDate", "study_time": "StudyTime",
                "referring_physician_name": "ReferringPhysicianName",
            }.items()
        },
        specific_character_set=header.get("SpecificCharacterSet"),
        **facts.equipment("cad", number, header),
    )  # fmt: skip
    report.copy_patient_and_study_information(header)
    report.update(_root(results, facts))
    report.ReferencedPerformedProcedureStepSequence = Items([])
    report.PerformedProcedureCodeSequence = Items([])
    report.CompletionFlag, report.VerificationFlag = "COMPLETE", "UNVERIFIED"
    for keyword in ("ContentDate", "ContentTime"):
        setattr(report, keyword, "")  # filled in when it is written
    report.CurrentRequestedProcedureEvidenceSequence = Items([_evidence(headers)])
    return report


def _evidence(headers: Sequence[Dataset]) -> Dataset:
    """The images of the study, by series."""
    study = Dataset()
    study.StudyInstanceUID = headers[0].StudyInstanceUID
    series: dict[str, list[Dataset]] = {}
    for header in headers:
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        series.setdefault(header.SeriesInstanceUID, []).append(reference)
    study.ReferencedSeriesSequence = Items([])
    for uid, references in series.items():
        item = Dataset()
        item.ReferencedSOPSequence = Items(references)
        item.SeriesInstanceUID = uid
        study.ReferencedSeriesSequence.append(item)
    return study


# --- the tree -----------------------------------------------------------------------------------------------------
def _root(results: Sequence[tuple[ResultImage, SourceInstance]], facts: ExportFacts) -> Dataset:
    """TID 4000."""
    sources = [source for _, source in results]
    findings = [
        _impression(box, score, label, place, facts)
        for place, (image, _) in enumerate(results, start=1)
        for box, score, label in zip(image.boxes.tolist(), image.scores.tolist(), image.labels, strict=True)
    ]
    summary = (
        codes.DCM.AllAlgorithmsSucceededWithFindings if findings else codes.DCM.AllAlgorithmsSucceededWithoutFindings
    )
    # Without a finding nothing tells what was looked for.
    looked_for = {cad_finding_code(label) for image, _ in results for label in (*image.labels, *image.image_scores)}
    performed = [
        _code(
            "CONTAINS", codes.DCM.DetectionPerformed, code,
            *_algorithm(facts), *(_library_image("HAS PROPERTIES", place) for place in range(1, len(sources) + 1)),
        )
        for code in sorted(looked_for or {cad_finding_code("")}, key=lambda code: code.value)
    ]  # fmt: skip
    root = _container(
        "", codes.DCM.MammographyCADReport,
        _code("HAS CONCEPT MOD", codes.DCM.LanguageOfContentItemAndDescendants, Code("en", "RFC5646", "English")),
        _container("CONTAINS", codes.DCM.ImageLibrary, *map(_entry, sources)),
        _code("CONTAINS", codes.DCM.CADProcessingAndFindingsSummary, summary, *findings),
        _code(
            "CONTAINS", codes.DCM.SummaryOfDetections, codes.DCM.Succeeded,
            _container("INFERRED FROM", codes.DCM.SuccessfulDetections, *performed),
        ),
        _code("CONTAINS", codes.DCM.SummaryOfAnalyses, codes.DCM.NotAttempted),
    )  # fmt: skip
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "4000"
    root.ContentTemplateSequence = Items([template])
    return root


def _entry(source: SourceInstance) -> Dataset:
    """TID 4020: an image with laterality, view, orientation and pixel spacing, as far as they are known."""
    facts = []
    if source.laterality in _SIDES:
        facts.append(_code("HAS ACQ CONTEXT", codes.DCM.ImageLaterality, _SIDES[source.laterality]))
    view = next((code for code, name in _view_codes() if name == source.view), None)
    if view is not None:
        facts.append(_code("HAS ACQ CONTEXT", codes.DCM.ImageView, view))
    orientation, spacing = source.header.get("PatientOrientation"), source.header.get("ImagerPixelSpacing")
    if orientation and len(orientation) == 2:
        facts.append(_text("HAS ACQ CONTEXT", codes.DCM.PatientOrientationRow, str(orientation[0])))
        facts.append(_text("HAS ACQ CONTEXT", codes.DCM.PatientOrientationColumn, str(orientation[1])))
    if spacing and len(spacing) == 2:
        unit = codes.UCUM.Millimeter
        facts.append(_number("HAS ACQ CONTEXT", codes.DCM.HorizontalPixelSpacing, float(spacing[1]), unit))
        facts.append(_number("HAS ACQ CONTEXT", codes.DCM.VerticalPixelSpacing, float(spacing[0]), unit))
    return _image("CONTAINS", source, *facts)


def _impression(box: Sequence[float], score: float, label: str, place: int, facts: ExportFacts) -> Dataset:
    """TID 4003 with one finding (TID 4006): centre and outline (TID 4021) on image ``place`` of the library."""
    x1, y1, x2, y2 = box
    center = [((x1 + x2) / 2, (y1 + y2) / 2)]
    intent = (codes.DCM.RenderingIntent, _PRESENT)
    finding = _code(
        "CONTAINS", codes.DCM.SingleImageFinding, cad_finding_code(label),
        _code("HAS CONCEPT MOD", *intent),
        *_algorithm(facts, label),
        _number("HAS PROPERTIES", codes.DCM.CertaintyOfFinding, percent_of(score), codes.UCUM.Percent),
        _region(codes.DCM.Center, "POINT", center, place),
        _region(codes.DCM.Outline, "POLYLINE", corners(box), place),
    )  # fmt: skip
    return _container("INFERRED FROM", _IMPRESSION, _code("HAS CONCEPT MOD", *intent), finding)


def _algorithm(facts: ExportFacts, label: str = "") -> list[Dataset]:
    """TID 4019; the class of a box is a parameter, since no row of the templates holds it."""
    items = [
        _text("HAS PROPERTIES", codes.DCM.AlgorithmName, facts.model),
        _text("HAS PROPERTIES", codes.DCM.AlgorithmVersion, facts.version),
    ]
    if label:
        items.append(_text("HAS PROPERTIES", codes.DCM.AlgorithmParameters, f"class {label}"))
    return items


def _view_codes() -> list[tuple[Code, str]]:
    """SNOMED CT codes of views with the names of this package."""
    meanings = {"CC": "cranio-caudal", "MLO": "medio-lateral oblique", "ML": "medial-lateral", "LM": "latero-medial"}
    scheme = [(value, name) for value, name in VIEW_OF_CODE.items() if value.isdigit()]
    return [(Code(value, "SCT", meanings.get(name, name)), name) for value, name in scheme]


# --- content items ------------------------------------------------------------------------------------------------
def _item(relationship: str, value_type: str, name: Code | None, children: Sequence[Dataset] = ()) -> Dataset:
    item = Dataset()
    if relationship:
        item.RelationshipType = relationship
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = Items([_coded(name)])
    if children:
        item.ContentSequence = Items(children)
    return item


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _container(relationship: str, name: Code, *children: Dataset) -> Dataset:
    item = _item(relationship, "CONTAINER", name, children)
    item.ContinuityOfContent = "SEPARATE"
    return item


def _code(relationship: str, name: Code, value: Code, *children: Dataset) -> Dataset:
    item = _item(relationship, "CODE", name, children)
    item.ConceptCodeSequence = Items([_coded(value)])
    return item


def _text(relationship: str, name: Code, value: str) -> Dataset:
    item = _item(relationship, "TEXT", name)
    item.TextValue = value
    return item


def _number(relationship: str, name: Code, value: float, unit: Code) -> Dataset:
    measured = Dataset()
    measured.NumericValue = f"{value:.10g}"
    measured.MeasurementUnitsCodeSequence = Items([_coded(unit)])
    item = _item(relationship, "NUM", name)
    item.MeasuredValueSequence = Items([measured])
    return item


def _image(relationship: str, source: SourceInstance, *children: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.header.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.header.SOPInstanceUID
    if source.frame is not None:
        reference.ReferencedFrameNumber = source.frame
    item = _item(relationship, "IMAGE", None, children)
    item.ReferencedSOPSequence = Items([reference])
    return item


def _library_image(relationship: str, place: int) -> Dataset:
    """A reference to an image of the library, by its place in the tree."""
    item = Dataset()
    item.RelationshipType = relationship
    item.ReferencedContentItemIdentifier = [*_LIBRARY, place]
    return item


def _region(name: Code, kind: str, points: Sequence[tuple[float, float]], place: int) -> Dataset:
    item = _item("HAS PROPERTIES", "SCOORD", name, [_library_image("SELECTED FROM", place)])
    item.GraphicData = [value for point in points for value in point]
    item.GraphicType = kind
    return item
