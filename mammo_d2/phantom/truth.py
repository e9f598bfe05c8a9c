"""The truth of a phantom set as COCO, in pixels of the DICOM files.

Boxes and masks follow the body of a mass with its margin; spicules are not included, as radiologists' contours seldom
are. A calcification cluster's mask is the convex hull of its calcifications, dilated by about a millimetre.
Look-alikes are not annotations: they are listed under the top-level key ``distractors``.
"""

from __future__ import annotations

from typing import Any

from mammo_d2.core.lesion_classes import CATEGORIES
from mammo_d2.core.masks import encode_mask
from mammo_d2.phantom.settings import PhantomConfig
from mammo_d2.phantom.streams import class_counts
from mammo_d2.phantom.views import PhantomFinding, PhantomView

_BIRADS = {"malignant": 5, "benign": 2}


def view_record(view: PhantomView, file_name: str, sha256: str) -> dict[str, Any]:
    """Truth of one view without ids: {"image": ..., "annotations": [...], "distractors": [...]}.

    Args:
        view: the view.
        file_name: path relative to the DICOM folder, with forward slashes.
        sha256: of the file.
    """
    rows, cols = view.image.shape
    grades = [_BIRADS[f.pathology] for f in view.findings]
    image = {
        "file_name": file_name,
        "height": rows,
        "width": cols,
        "patient_id": view.patient_id,
        "exam_id": view.exam_id,
        "laterality": view.laterality,
        "view": view.view,
        "labels": dict(view.labels),
        "birads": max(grades, default=1),
        "density": view.patient.density,
        "pixel_spacing": [round(v, 8) for v in view.pixel_spacing],
        "pixel_spacing_source": "ImagerPixelSpacing",
        "breast_box": list(view.breast_box),
        "pectoral": view.pectoral,
        "nipple": [round(v, 2) for v in view.nipple],
        "patient_class": view.patient.patient_class,
        "source": {"file": file_name, "sha256": sha256},
    }
    return {
        "image": image,
        "annotations": [_annotation(f) for f in view.findings],
        "distractors": [_distractor(f) for f in view.distractors],
    }


def collect_truth(config: PhantomConfig, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Number the records (ids from 1) and put them into one COCO dict."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    distractors: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, start=1):
        images.append({"id": image_id, **record["image"]})
        for found, into in ((record["annotations"], annotations), (record["distractors"], distractors)):
            for item in found:
                into.append({"id": len(into) + 1, "image_id": image_id, **item})
    return {
        "info": {
            "description": "mammo_d2 phantom: synthetic mammograms, no person's data",
            "settings": config.to_dict(),
            "patients_per_class": class_counts(config),
        },
        "images": images,
        "annotations": annotations,
        "categories": [dict(c) for c in CATEGORIES],
        "distractors": distractors,
    }


def _shape(finding: PhantomFinding) -> dict[str, Any]:
    return {
        "bbox": [float(v) for v in finding.bbox],
        "area": float(finding.mask.sum()),
        "iscrowd": 0,
        "segmentation": encode_mask(finding.mask),
    }


def _annotation(finding: PhantomFinding) -> dict[str, Any]:
    category = next(c["id"] for c in CATEGORIES if c["name"] == finding.pathology)
    return {
        "category_id": category,
        **_shape(finding),
        "pathology": finding.pathology,
        "lesion_id": finding.lesion_id,
        "finding": finding.kind,
        "look": finding.look,
        "decided_by": finding.decided_by,
        "diameter_mm": round(2 * finding.radius_mm, 2),
    }


def _distractor(finding: PhantomFinding) -> dict[str, Any]:
    return {
        **_shape(finding),
        "distractor_id": finding.lesion_id,
        "look": finding.look,
        "diameter_mm": round(2 * finding.radius_mm, 2),
    }
