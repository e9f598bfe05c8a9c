"""Preparing one image: read, crop, flip, scale, write, and map everything known about it (runs in a worker)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.boxes import clip_xywh, xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.files import read_json, sha256_bytes, sha256_file, write_bytes_atomic, write_json
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.core.masks import decode_mask, encode_mask
from mammo_d2.data.breast.mask import breast_box, breast_mask, chest_wall_side, laterality_of_side
from mammo_d2.data.converters.converter import Converter, SourceAnnotation, SourceImage
from mammo_d2.data.prepare.recipe import ImageOptions, choose_transform, prepared_pixels
from mammo_d2.data.reading.image_meta import ImageMeta

# Raised when prepared files change although source and options do not; older ones are then made anew.
FORMAT_VERSION = 1
IMAGE_FOLDER = "images"
RECORD_FOLDER = "records"


@dataclass(frozen=True)
class Issue:
    """Something about one image for the error table.

    Attributes:
        level: "error" (the image is left out) or "warning".
        key: the image.
        file: its source.
        problem: what, with the remedy.
    """

    level: str
    key: str
    file: str
    problem: str


@dataclass
class Outcome:
    """Result of one image: its records, or an error.

    Attributes:
        key: of the source image.
        image: COCO image record without id, or None on error.
        annotations: COCO annotation records without ids, with "category" by name.
        issues: for the error table.
        reused: whether an earlier run's result was taken.
    """

    key: str
    image: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    reused: bool = False


def prepare_image(converter: Converter, source: SourceImage, options: ImageOptions, out: Path, force: bool) -> Outcome:
    """Prepare one image and write it, unless an earlier run did so from the same bytes with the same options.

    Errors of this image become an ``Issue``; nothing is raised for bad input.
    """
    outcome = Outcome(source.key)
    try:
        record_path = out / RECORD_FOLDER / f"{source.key}.json"
        sha = sha256_file(source.path)
        fingerprint = _fingerprint(converter, source, options, sha)
        if not force and _reuse(record_path, fingerprint, out, outcome):
            return outcome
        pixels, meta = converter.read(source)
        complete = converter.complete(source, pixels, meta)
        _convert(complete, pixels, meta, options, out, sha, outcome)
        issues = [asdict(issue) for issue in outcome.issues]
        kept = {"image": outcome.image, "annotations": outcome.annotations, "issues": issues}
        write_json(record_path, {"fingerprint": fingerprint, **kept}, indent=None, durable=False)
    except (ValueError, OSError, MemoryError) as error:
        text = str(error) or "not enough memory; use fewer workers"
        outcome = Outcome(source.key, issues=[Issue("error", source.key, str(source.path), text)])
    return outcome


def _fingerprint(converter: Converter, source: SourceImage, options: ImageOptions, sha: str) -> str:
    """Hash of everything the result depends on; where the file lies does not matter."""
    facts = {
        "version": FORMAT_VERSION,
        "converter": converter.name,
        "source": {k: v for k, v in asdict(source).items() if k not in ("path", "split")},
        "options": asdict(options),
        "read": asdict(converter.read_options),
        "sha256": sha,
    }
    return sha256_bytes(json.dumps(facts, sort_keys=True, default=str).encode())


def _reuse(record_path: Path, fingerprint: str, out: Path, outcome: Outcome) -> bool:
    try:
        kept = read_json(record_path)
        written = out / IMAGE_FOLDER / kept["image"]["file_name"]
        if kept["fingerprint"] != fingerprint or written.stat().st_size != kept["image"]["source"]["prepared_bytes"]:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    outcome.image, outcome.annotations, outcome.reused = kept["image"], kept["annotations"], True
    outcome.issues = [Issue(**issue) for issue in kept["issues"]]
    return True


def _convert(
    source: SourceImage,
    pixels: np.ndarray,
    meta: ImageMeta,
    options: ImageOptions,
    out: Path,
    sha: str,
    outcome: Outcome,
) -> None:
    def warn(problem: str) -> None:
        outcome.issues.append(Issue("warning", source.key, str(source.path), problem))

    for warning in meta.warnings:
        warn(warning)
    size = (pixels.shape[0], pixels.shape[1])
    annotations = [_usable(a, size, n, warn) for n, a in enumerate(source.annotations, start=1)]
    mask = breast_mask(pixels, options.mask_method)
    side = chest_wall_side(mask)
    box = source.breast_box or breast_box(mask)
    expected = laterality_of_side(side)
    if source.laterality and expected and expected != source.laterality:
        warn(f"laterality {source.laterality}, but the chest wall is on the {side}; check it, or the image is mirrored")
    lesions = [a.bbox for a in annotations if a.bbox is not None]
    transform = choose_transform(mask, side, options, warn, lesions, source.pixel_spacing)
    file_name, prepared_sha, prepared_bytes = _write(source, pixels, meta, transform, options, out)
    height, width = transform.prepared_size
    spacing = source.pixel_spacing
    outcome.annotations = [_annotation_record(a, transform) for a in annotations]
    outcome.image = {
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
        "breast_box": _map_xywh(box, transform),
        "transform": transform.to_dict(),
        "source": {
            "file": source.source_name,
            "sha256": sha,
            "bits_stored": meta.bits_stored,
            "photometric": meta.photometric,
            "voi": meta.voi,
            "transfer_syntax": meta.transfer_syntax,
            "prepared_sha256": prepared_sha,
            "prepared_bytes": prepared_bytes,
        },
        **{key: _map_points(points, transform) for key, points in source.points.items()},
        **{key: [_map_xywh(b, transform) for b in boxes] for key, boxes in source.boxes.items()},
        **source.extra,
    }


def _usable(annotation: SourceAnnotation, size: tuple[int, int], number: int, warn: Any) -> SourceAnnotation:
    """Check and clip a lesion's box.

    Raises:
        ValueError: no area within the image. Leaving out the lesion alone would turn its image into a negative one.
    """
    box, height, width = annotation.bbox, *size
    if box is None or not all(math.isfinite(v) for v in box) or box[2] <= 0 or box[3] <= 0:
        raise ValueError(f"lesion {number}: box {box} has no area; correct it in the source's annotations")
    clipped = clip_xywh(box, size)
    if clipped[2] <= 0 or clipped[3] <= 0:
        raise ValueError(
            f"lesion {number}: box {box} lies outside the image (width {width}, height {height}); correct it in the "
            "source's annotations (swapped x and y? pixels of another resolution?)"
        )
    if clipped is not box:
        warn(f"lesion {number}: box {tuple(round(v, 1) for v in box)} reaches outside the image, clipped")
    return replace(annotation, bbox=(clipped[0], clipped[1], clipped[2], clipped[3]))


def _write(
    source: SourceImage,
    pixels: np.ndarray,
    meta: ImageMeta,
    transform: ImageTransform,
    options: ImageOptions,
    out: Path,
) -> tuple[str, str, int]:
    """Write the prepared image; its file name under the image folder, hash and size."""
    folder = out / IMAGE_FOLDER
    if options.keep_files:
        file_name = source.key + source.path.suffix
        target = folder / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source.path.resolve())
        return file_name, sha256_file(source.path), source.path.stat().st_size
    file_name = source.key + ".png"
    stored = prepared_pixels(pixels, meta, transform)
    ok, encoded = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, options.png_level])
    if not ok:
        raise ValueError(f"PNG of shape {stored.shape} could not be encoded; report this")
    data = encoded.tobytes()
    write_bytes_atomic(folder / file_name, data)
    return file_name, sha256_bytes(data), len(data)


# --- mapping records ------------------------------------------------------------------------------------------------
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


def _annotation_record(annotation: SourceAnnotation, transform: ImageTransform) -> dict[str, Any]:
    record: dict[str, Any] = {"category": annotation.category, "bbox": _map_xywh(annotation.bbox, transform)}
    if annotation.segmentation is not None:
        record["segmentation"] = _map_segmentation(annotation.segmentation, transform)
    return {**record, "pathology": annotation.pathology, "lesion_id": annotation.lesion_id, **annotation.extra}
