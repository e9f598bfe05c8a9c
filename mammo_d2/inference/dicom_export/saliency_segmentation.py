"""Saliency maps of an image: a fractional Segmentation with a segment per class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence, seg
from pydicom.sr.codedict import codes
from pydicom.uid import UID, RLELossless

from mammo_d2.inference.dicom_export.coded_findings import MANUFACTURER, ExportFacts, finding_code, refer_to_frame
from mammo_d2.inference.dicom_export.source_instances import SourceInstance


def saliency_segmentation(
    maps: np.ndarray,
    classes: Sequence[str],
    source: SourceInstance,
    facts: ExportFacts,
    number: int,
    transfer_syntax: UID = RLELossless,
) -> seg.Segmentation:
    """The saliency maps of an image in 255 steps, pixel by pixel.

    Args:
        maps: (C, rows, columns) float in [0, 1] on the pixels of the source file.
        classes: the C classes.
        source: the file.
        facts: of the export.
        number: of the instance in its series.
        transfer_syntax: of the pixels; maps of few cells are a twentieth of their size in RLE.

    Raises:
        ValueError: maps of another size than the file, or of another number than the classes.
    """
    header = source.header
    if maps.shape != (len(classes), *source.size):
        raise ValueError(f"{source.path}: saliency of shape {maps.shape} for {len(classes)} classes on {source.size}")
    algorithm = AlgorithmIdentificationSequence(
        facts.model[:64], codes.DCM.ArtificialIntelligence, facts.version[:64], source=MANUFACTURER
    )
    segments = [
        seg.SegmentDescription(
            row,
            f"{label}"[:64],
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=finding_code(label),
            algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=facts.uid("segment", header.SOPInstanceUID, label),
            tracking_id=f"saliency {label}"[:64],
        )
        for row, label in enumerate(classes, start=1)
    ]
    pixels = np.clip(np.moveaxis(maps, 0, -1)[None], 0, 1).astype(np.float32, copy=False)
    result = seg.Segmentation(
        [header],
        pixels,
        seg.SegmentationTypeValues.FRACTIONAL,
        segments,
        fractional_type=seg.SegmentationFractionalTypeValues.PROBABILITY,
        max_fractional_value=255,
        content_label="SALIENCY",
        content_description="saliency maps of research software",
        transfer_syntax_uid=transfer_syntax,
        omit_empty_frames=False,
        **facts.equipment("seg", number, header),
    )
    # Required of images without a position in the patient, if only empty.
    result.PatientOrientation = header.get("PatientOrientation", "")
    refer_to_frame(result, source)
    return result
