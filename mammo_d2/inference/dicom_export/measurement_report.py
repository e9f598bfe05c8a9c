"""A structured report of an exam's boxes and scores: TID 1500 Measurement Report in a Comprehensive SR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import highdicom as hd
import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from mammo_d2.inference.dicom_export.coded_findings import (
    CLASS_OF_FINDING,
    MANUFACTURER,
    RESEARCH,
    ExportFacts,
    class_code,
    corners,
    finding_code,
    percent_of,
)
from mammo_d2.inference.dicom_export.result_images import ResultImage
from mammo_d2.inference.dicom_export.source_instances import SourceInstance

_Group = sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations


def measurement_report(
    results: Sequence[tuple[ResultImage, SourceInstance]], facts: ExportFacts, number: int
) -> sr.ComprehensiveSR:
    """The report of the images of a study.

    A box is a measurement group (TID 1410) with its closed outline, the score as Certainty of Finding in percent, and
    the class. A score of the whole image is a group (TID 1501) without outline.

    Args:
        results: images of one study, with or without boxes.
        facts: of the export.
        number: of the instance in its series.
    """
    groups: list[_Group] = [*_boxes(results, facts), *_image_scores(results, facts)]
    headers = [source.header for _, source in results]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DCM.Device,
                observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                    uid=facts.device_uid,
                    name=facts.model,
                    manufacturer_name=MANUFACTURER,
                    model_name=facts.version,
                ),
            )
        ),
        procedure_reported=codes.SCT.Mammography,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=headers if all(map(_is_described, headers)) else None,
    )
    content[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.DCM.Comment,
            value=f"{RESEARCH}. Scores are outputs of a model, not calibrated probabilities.",
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
    )
    return sr.ComprehensiveSR(
        evidence=headers,
        content=content[0],
        is_complete=True,
        is_verified=False,
        **facts.equipment("sr", number, headers[0]),
    )


def _boxes(
    results: Sequence[tuple[ResultImage, SourceInstance]], facts: ExportFacts
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    for image, source in results:
        for row, (box, score, label) in enumerate(zip(image.boxes, image.scores, image.labels, strict=True), start=1):
            region = sr.ImageRegion(
                sr.GraphicTypeValues.POLYLINE,
                np.array(corners(box)),
                sr.SourceImageForRegion(*_reference(source)),
            )
            yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                referenced_region=region, **_group(facts, source, f"image {image.number} box {row}", label, score)
            )


def _image_scores(
    results: Sequence[tuple[ResultImage, SourceInstance]], facts: ExportFacts
) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    for image, source in results:
        for label, score in image.image_scores.items():
            yield sr.MeasurementsAndQualitativeEvaluations(
                source_images=[sr.SourceImageForMeasurementGroup(*_reference(source))],
                **_group(facts, source, f"image {image.number} {label}"[:64], label, score),
            )


def _is_described(header: Dataset) -> bool:
    """Whether an image has what an entry of the image library (TID 1603) must say about it."""
    orientation, spacing = header.get("PatientOrientation"), header.get("ImagerPixelSpacing")
    return all(value is not None and len(value) == 2 for value in (orientation, spacing))


def _reference(source: SourceInstance) -> tuple[str, str, list[int] | None]:
    return source.header.SOPClassUID, source.header.SOPInstanceUID, source.frames


def _group(facts: ExportFacts, source: SourceInstance, identifier: str, label: str, score: float) -> dict:
    """What groups with and without an outline have in common."""
    return {
        "tracking_identifier": sr.TrackingIdentifier(
            hd.UID(facts.uid("finding", source.header.SOPInstanceUID, identifier)), identifier
        ),
        "finding_type": finding_code(label),
        "algorithm_id": sr.AlgorithmIdentification(facts.model, facts.version, family=codes.DCM.ArtificialIntelligence),
        "measurements": [
            sr.Measurement(name=codes.DCM.CertaintyOfFinding, value=percent_of(float(score)), unit=codes.UCUM.Percent)
        ],
        "qualitative_evaluations": [sr.QualitativeEvaluation(CLASS_OF_FINDING, class_code(label))],
    }
