"""Boxes to lay over an image: a Grayscale Softcopy Presentation State."""

from __future__ import annotations

import numpy as np
from highdicom import PresentationLUTTransformation, pr
from highdicom.color import CIELabColor

from mammo_d2.inference.dicom_export.coded_findings import ExportFacts, corners, refer_to_frame
from mammo_d2.inference.dicom_export.result_images import ResultImage
from mammo_d2.inference.dicom_export.source_instances import SourceInstance

_YELLOW = CIELabColor(97.1, -21.6, 94.5)


def box_presentation(
    image: ResultImage, source: SourceInstance, facts: ExportFacts, number: int
) -> pr.GrayscaleSoftcopyPresentationState:
    """The boxes of an image, each a closed line with class and score beside it.

    The image is shown whole, with its own window and grey scale.

    Args:
        image: with at least one box.
        source: its file.
        facts: of the export.
        number: of the instance in its series.
    """
    header, (rows, columns) = source.header, source.size
    layer = pr.GraphicLayer("FINDINGS", 1, f"boxes of {facts.model}"[:64], display_color=_YELLOW)
    lines, texts = [], []
    for row, (box, score, label) in enumerate(zip(image.boxes, image.scores, image.labels, strict=True), start=1):
        uid = facts.uid("finding", header.SOPInstanceUID, f"image {image.number} box {row}")
        name = f"image {image.number} box {row}"
        units = pr.AnnotationUnitsValues.PIXEL
        outline = np.array(corners(box))
        lines.append(
            pr.GraphicObject(pr.GraphicTypeValues.POLYLINE, outline, units, tracking_id=name, tracking_uid=uid)
        )
        # An anchor at the upper right corner of the box, inside the image.
        anchor = (min(max(float(box[2]), 0.0), float(columns)), min(max(float(box[1]), 0.0), float(rows)))
        texts.append(
            pr.TextObject(
                f"{label} {score:.2f}", units, anchor_point=anchor, anchor_point_visible=False, tracking_id=name,
                tracking_uid=uid,
            )
        )  # fmt: skip
    annotation = pr.GraphicAnnotation([header], layer, graphic_objects=lines, text_objects=texts)
    # A presentation state takes no heed of the image's own Photometric Interpretation.
    shape = "INVERSE" if header.get("PhotometricInterpretation") == "MONOCHROME1" else "IDENTITY"
    state = pr.GrayscaleSoftcopyPresentationState(
        [header],
        content_label="FINDINGS",
        content_description="boxes of research software",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=PresentationLUTTransformation(presentation_lut_shape=shape),
        **facts.equipment("gsps", number, header),
    )
    # Required of paired organs, if only empty.
    state.Laterality = source.laterality or ""
    refer_to_frame(state, source)
    return state
