"""Everything known about a source image, in prepared pixels: its COCO records without ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.boxes import clip_xywh, xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.core.masks import decode_mask, encode_mask
from mammo_d2.data.converters.birads import parse_birads
from mammo_d2.data.converters.converter import SourceAnnotation, SourceImage
from mammo_d2.data.format.annotations import validate_coco
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.prepare.prepared_image import PreparedImage
from mammo_d2.data.reading.dicom.vendors import vendor_of

# BI-RADS density, in letters since its fifth edition, in numbers before.
DENSITIES = ("1", "2", "3", "4", "A", "B", "C", "D")


def usable_annotation(
    annotation: SourceAnnotation, size: tuple[int, int], number: int, warn: Callable[[str], None]
) -> SourceAnnotation:
    """Check and clip a lesion's box.

    Raises:
        ValueError: no area within the image. Leaving out the lesion alone would turn its image into a negative one.
    """
    box, height, width = annotation.bbox, *size
    if box is None or not all(math.isfinite(v) for v in box) or box[2] <= 0 or box[3] <= 0:
        raise ValueError(f"lesion {number}: box {box} has no area; correct it in the source's annotations")
    if max(box[2:]) <= 1:
        raise ValueError(
            f"lesion {number}: box {box} is at most a pixel large; boxes are x, y, width and height in pixels of the "
            "source file, not fractions of its size: correct it in the source's annotations"
        )
    clipped = clip_xywh(box, size)
    if clipped[2] <= 0 or clipped[3] <= 0:
        raise ValueError(
            f"lesion {number}: box {box} lies outside the image (width {width}, height {height}); correct it in the "
            "source's annotations (swapped x and y? pixels of another resolution?)"
        )
    if clipped is not box:
        warn(f"lesion {number}: box {tuple(round(v, 1) for v in box)} reaches outside the image, clipped")
    return replace(annotation, bbox=(clipped[0], clipped[1], clipped[2], clipped[3]))


def usable_facts(source: SourceImage, warn: Callable[[str], None]) -> SourceImage:
    """The image without a density or BI-RADS assessment that is none, and a warning for each; the rest is kept."""
    changed: dict[str, Any] = {}
    if source.density is not None and str(source.density).strip().upper() not in DENSITIES:
        warn(f"density {source.density!r} is none of {', '.join(DENSITIES)}; left out as unknown")
        changed["density"] = None
    try:
        parse_birads("" if source.birads is None else str(source.birads))
    except ValueError as error:
        warn(f"birads {error}; left out as unknown")
        changed["birads"] = None
    return replace(source, **changed)


def image_record(
    source: SourceImage, prepared: PreparedImage, file_name: str, written: Mapping[str, Any]
) -> dict[str, Any]:
    """COCO image record without id.

    Args:
        source: with everything that its file knows filled in.
        prepared: the image.
        file_name: of the prepared file, relative to the image folder.
        written: ``sha256`` of the source file, ``prepared_sha256`` and ``prepared_bytes`` of the prepared one.
    """
    meta, transform = prepared.meta, prepared.transform
    height, width = transform.prepared_size
    spacing = source.pixel_spacing
    record = {
        "file_name": file_name,
        "height": height,
        "width": width,
        "patient_id": source.patient_id,
        "exam_id": source.exam_id,
        "laterality": source.laterality,
        "view": source.view,
        **({"labels": source.labels} if source.labels else {}),
        "birads": source.birads,
        "density": source.density,
        "pixel_spacing": [spacing[0] / transform.scale[0], spacing[1] / transform.scale[1]] if spacing else None,
        "pixel_spacing_source": source.pixel_spacing_source,
        "breast_box": _map_xywh(source.breast_box or prepared.breast_box, transform),
        "transform": transform.to_dict(),
        "source": {
            "file": source.source_name,
            "sha256": written["sha256"],
            "bits_stored": meta.bits_stored,
            "photometric": meta.photometric,
            "voi": meta.voi,
            "transfer_syntax": meta.transfer_syntax,
            **({"vendor": vendor} if (vendor := vendor_of(meta.manufacturer)) else {}),
            **({"unusual": list(meta.unusual)} if meta.unusual else {}),
            **({"orientation": prepared.orientation.to_dict()} if prepared.orientation else {}),
            **({"text": [list(box) for box in prepared.text]} if prepared.text else {}),
            **({"film_edges": round(prepared.film_edges, 4)} if prepared.film_edges is not None else {}),
            **({"kinds": sorted({*source.kinds, *meta.kinds})} if source.kinds or meta.kinds else {}),
            "prepared_sha256": written["prepared_sha256"],
            "prepared_bytes": written["prepared_bytes"],
        },
        **{key: _map_points(points, transform) for key, points in source.points.items()},
        **{key: [_map_xywh(b, transform) for b in boxes] for key, boxes in source.boxes.items()},
    }
    return _with_further_keys(record, source.extra, ("id", "labels"))


def check_records(image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> None:
    """Check an image's records against the format, so that a wrong fact leaves out the image rather than end the run.

    Raises:
        ValueError: the first thing that is wrong.
    """
    builder = CocoBuilder()
    image_id = builder.add_image(**image)
    for annotation in annotations:
        builder.add_annotation(image_id, **annotation)
    errors = validate_coco(builder.to_dict()).errors
    if errors:
        wrong = errors[0]
        of_lesion = f"lesion {wrong.record.split()[-1]}: " if wrong.record.startswith("annotation") else ""
        raise ValueError(f"{of_lesion}{wrong.field} = {wrong.value!r}: {wrong.message}; {wrong.remedy}")


def annotation_record(annotation: SourceAnnotation, transform: ImageTransform) -> dict[str, Any]:
    """COCO annotation record without ids, with "category" by name."""
    record: dict[str, Any] = {"category": annotation.category, "bbox": _map_xywh(annotation.bbox, transform)}
    if annotation.segmentation is not None:
        record["segmentation"] = _map_segmentation(annotation.segmentation, transform)
    record |= {"pathology": annotation.pathology, "lesion_id": annotation.lesion_id}
    own = ("id", "image_id", "category_id", "area", "iscrowd", "segmentation")
    return _with_further_keys(record, annotation.extra, own)


def _with_further_keys(record: dict[str, Any], extra: Mapping[str, Any], own: Sequence[str]) -> dict[str, Any]:
    """A record with a converter's further keys, none of which may replace a key of the record or of the format."""
    taken = sorted(key for key in extra if key in record or key in own)
    if taken:
        raise ValueError(f"the converter's further key {taken[0]!r} is one of the format's own; rename it")
    return {**record, **extra}


def _map_xywh(box: Any, transform: ImageTransform) -> list[float]:
    """An XYWH box in prepared pixels, clipped to the image."""
    mapped = xyxy_to_xywh(transform.boxes_to_prepared(xywh_to_xyxy(box)))
    return [round(float(v), 4) for v in clip_xywh(mapped.tolist(), transform.prepared_size)]


def _map_points(points: Any, transform: ImageTransform) -> Any:
    """Points (flat x, y, x, y, ... or pairs) in prepared pixels, in the same nesting; None stays None."""
    if points is None:
        return None
    array = np.asarray(points, dtype=np.float64)
    return transform.points_to_prepared(array.reshape(-1, 2)).round(3).reshape(array.shape).tolist()


def _map_segmentation(segmentation: Any, transform: ImageTransform) -> Any:
    if isinstance(segmentation, dict):
        mask = decode_mask(segmentation, transform.source_size)
        part = np.ascontiguousarray(transform.crop_and_flip(mask), np.uint8)
        height, width = transform.prepared_size
        return encode_mask(cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST))
    return [_map_points(polygon, transform) for polygon in segmentation]
