"""The check of every record of a COCO file; called by ``mammo_d2.data.format.annotations``."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from typing import Any

from mammo_d2.core.boxes import clip_xywh, overhang_xywh
from mammo_d2.core.files import path_problem
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.core.lesion_classes import LABELS
from mammo_d2.data.format.problems import Report

LATERALITIES = ("L", "R")
# Defined terms of DICOM's View Position for mammography, and those that public data sets add.
VIEWS = (
    "CC", "MLO", "ML", "LM", "LMO", "XCC", "XCCL", "XCCM", "FB", "SIO", "ISO", "CV", "AT", "SPECIMEN",
)  # fmt: skip

# Room for rounding when a box is compared with the image's edge, in pixels.
_EDGE_TOLERANCE = 1e-3
# Largest whole number that a 64-bit float, and so every JSON reader, holds exactly.
_MAX_WHOLE = 2**53
_OPTIONAL_TEXT = ("exam_id", "pixel_spacing_source")


class RecordChecker:
    """Walks over the records of one file and collects problems."""

    def __init__(self, file: str, report: Report) -> None:
        self.file = file
        self.report = report

    def error(self, code: str, record: str, field: str, value: Any, message: str, remedy: str) -> None:
        self.report.add("error", code, self.file, record, field, value, message, remedy)

    def warn(self, code: str, record: str, field: str, value: Any, message: str, remedy: str) -> None:
        self.report.add("warning", code, self.file, record, field, value, message, remedy)

    def top_level(self, data: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
        """The records under ``key`` that are objects; anything else is reported."""
        if key not in data:
            remedy = f'add "{key}": [...]'
            if key == "annotations":
                self.warn("missing-key", "file", key, None, "no annotations, all images are negatives", remedy)
            else:
                self.error("missing-key", "file", key, None, "missing", remedy)
            return []
        value = data[key]
        if not isinstance(value, list):
            self.error("wrong-type", "file", key, value, "must be a list", f'write "{key}": [...]')
            return []
        for index, record in enumerate(value):
            if not isinstance(record, Mapping):
                self.error("wrong-type", f"{key}[{index}]", "", record, "must be an object", "write {...} or delete it")
        return [record for record in value if isinstance(record, Mapping)]

    def required(self, record: Mapping[str, Any], name: str, fields: tuple[str, ...]) -> bool:
        missing = [f for f in fields if f not in record]
        for field in missing:
            self.error("missing-key", name, field, None, "missing", f"add the key {field!r}")
        return not missing

    def whole(self, value: Any, record: str, field: str, minimum: int) -> bool:
        if not _is_int(value):
            self.error("wrong-type", record, field, value, "must be a whole number", "write it without quotes or dot")
            return False
        if value < minimum:
            self.error("out-of-range", record, field, value, f"must be at least {minimum}", "number from 1 on")
            return False
        if value > _MAX_WHOLE:
            self.error("out-of-range", record, field, value, f"must be at most {_MAX_WHOLE}", "write a smaller number")
            return False
        return True

    # --- categories ---------------------------------------------------------------------------------------------
    def categories(self, records: list[Mapping[str, Any]]) -> dict[int, str]:
        """Check the categories; returns id -> name."""
        names: dict[int, str] = {}
        for index, record in enumerate(records):
            label = f"category {record.get('id', f'[{index}]')}"
            if not self.required(record, label, ("id", "name")) or not self.whole(record["id"], label, "id", 0):
                continue
            if not isinstance(record["name"], str) or not record["name"]:
                self.error("wrong-type", label, "name", record["name"], "must be a name", "write a non-empty string")
            elif record["id"] in names:
                self.error("duplicate-id", label, "id", record["id"], "used by two categories", "use each id once")
            elif record["name"] in names.values():
                self.error("duplicate-name", label, "name", record["name"], "two categories", "merge or rename them")
            else:
                names[record["id"]] = record["name"]
        return names

    # --- images -------------------------------------------------------------------------------------------------
    def images(self, records: list[Mapping[str, Any]]) -> dict[int, tuple[int, int]]:
        """Check the images; returns id -> (height, width) of those with a usable id and size."""
        sizes: dict[int, tuple[int, int]] = {}
        files: dict[str, Any] = {}
        ids: set[int] = set()
        without_patient = 0
        for index, image in enumerate(records):
            name = f"image {image.get('id', f'[{index}]')}"
            if not self.required(image, name, ("id", "file_name", "height", "width")):
                continue
            if not self.whole(image["id"], name, "id", 0):
                continue
            if image["id"] in ids:
                self.error("duplicate-id", name, "id", image["id"], "used by two images", "use each id once")
                continue
            ids.add(image["id"])
            self.file_name(image, name, files)
            sized = [self.whole(image[side], name, side, 1) for side in ("height", "width")]
            if all(sized):
                sizes[image["id"]] = (image["height"], image["width"])
                self.geometry(image, name)
            self.clinical(image, name)
            without_patient += image.get("patient_id") is None
        if without_patient:
            self.warn(
                "no-patient-id", f"{without_patient} images", "patient_id", None, "missing",
                "add it: patient-wise metrics and the check for leaking splits need it",
            )  # fmt: skip
        return sizes

    def file_name(self, image: Mapping[str, Any], name: str, files: dict[str, Any]) -> None:
        value = image["file_name"]
        if not isinstance(value, str) or not value:
            self.error("wrong-type", name, "file_name", value, "must be a path", "write a non-empty string")
        elif problem := path_problem(value):
            self.error("unsafe-path", name, "file_name", value, problem, "write the path relative to the image folder")
        elif (spelling := posixpath.normpath(value.replace("\\", "/"))) in files:
            self.error(
                "duplicate-file", name, "file_name", value, f"also used by image {files[spelling]}",
                "keep one record per file and move the annotations to it",
            )  # fmt: skip
        else:
            files[spelling] = image["id"]

    def geometry(self, image: Mapping[str, Any], name: str) -> None:
        size = (image["height"], image["width"])
        spacing = image.get("pixel_spacing")
        if spacing is not None and not (_is_numbers(spacing, 2) and min(spacing) > 0):
            self.error(
                "bad-spacing", name, "pixel_spacing", spacing, "must be [row, column] in mm, both positive",
                "correct it, or write null when unknown",
            )  # fmt: skip
        box = image.get("breast_box")
        if box is not None:
            if not _is_numbers(box, 4) or box[2] <= 0 or box[3] <= 0:
                self.error("bad-box", name, "breast_box", box, "must be [x, y, width, height]", "correct or remove it")
            elif overhang_xywh(box, size) > _EDGE_TOLERANCE:
                self.warn(
                    "breast-box-outside", name, "breast_box", box, f"reaches outside the image {_wh(size)}",
                    "it belongs in pixels of the prepared image",
                )  # fmt: skip
        if image.get("transform") is not None:
            try:
                prepared = ImageTransform.from_dict(image["transform"]).prepared_size
            except ValueError as error:
                self.error("bad-transform", name, "transform", image["transform"], str(error), "prepare it again")
                return
            if prepared != size:
                self.error(
                    "transform-size", name, "transform", image["transform"],
                    f"gives {_wh(prepared)} but the image is {_wh(size)}", "prepare the image again",
                )  # fmt: skip

    def clinical(self, image: Mapping[str, Any], name: str) -> None:
        self.one_of(image, name, "laterality", LATERALITIES, "bad-laterality")
        self.one_of(image, name, "view", VIEWS, "bad-view")
        if image.get("patient_id") is not None and not isinstance(image["patient_id"], (str, int)):
            value = image["patient_id"]
            self.error("wrong-type", name, "patient_id", value, "must be text or a number", "write a string")
        for field in _OPTIONAL_TEXT:
            if image.get(field) is not None and not isinstance(image[field], (str, int)):
                self.error("wrong-type", name, field, image[field], "must be text", "write a string or null")
        source = image.get("source")
        if source is not None and not isinstance(source, Mapping):
            self.error("wrong-type", name, "source", source, "must be an object", 'write {"file": ..., "sha256": ...}')
        labels = image.get("labels")
        if labels is None:
            return
        remedy = 'write {"benign": 0, 1 or null, "malignant": 0, 1 or null}'
        if not isinstance(labels, Mapping):
            self.error("bad-labels", name, "labels", labels, "must be an object", remedy)
            return
        for key, value in labels.items():
            # bool is refused: a tool that writes true may mean "known" rather than "positive".
            if value is not None and not (_is_int(value) and value in (0, 1)):
                self.error("bad-labels", name, f"labels.{key}", value, "must be 0, 1 or null (unknown)", remedy)
        if not set(labels) & set(LABELS):
            self.warn("bad-labels", name, "labels", labels, "has neither benign nor malignant", remedy)

    def one_of(self, image: Mapping[str, Any], name: str, field: str, allowed: tuple[str, ...], code: str) -> None:
        value = image.get(field)
        if value is not None and value not in allowed:
            remedy = f"use one of {', '.join(allowed)}, or null when unknown"
            self.error(code, name, field, value, "unknown value", remedy)

    # --- annotations --------------------------------------------------------------------------------------------
    def annotations(
        self, records: list[Mapping[str, Any]], sizes: dict[int, tuple[int, int]], categories: dict[int, str]
    ) -> None:
        ids: set[int] = set()
        for index, annotation in enumerate(records):
            name = f"annotation {annotation.get('id', f'[{index}]')}"
            if not self.required(annotation, name, ("id", "image_id", "category_id", "bbox")):
                continue
            if annotation["id"] == 0 and _is_int(annotation["id"]):
                self.error(
                    "annotation-id-zero", name, "id", 0, "pycocotools never matches annotation id 0",
                    "number the annotations from 1",
                )  # fmt: skip
            elif self.whole(annotation["id"], name, "id", 1) and annotation["id"] in ids:
                self.error("duplicate-id", name, "id", annotation["id"], "used by two annotations", "use each id once")
            if _is_int(annotation["id"]):
                ids.add(annotation["id"])
            if not _is_int(annotation["category_id"]) or annotation["category_id"] not in categories:
                known = ", ".join(f"{i} ({n})" for i, n in categories.items()) or "none"
                self.error(
                    "unknown-category", name, "category_id", annotation["category_id"], "not among the categories",
                    f"use one of {known}, or add the category",
                )  # fmt: skip
            image_id = annotation["image_id"]
            if not _is_int(image_id) or image_id not in sizes:
                self.error(
                    "unknown-image", name, "image_id", image_id, "no usable image with this id",
                    "add the image, or delete the annotation",
                )  # fmt: skip
                continue
            self.box(annotation, name, sizes[image_id])
            self.extras(annotation, name)
        self.unit(records)

    def unit(self, records: list[Mapping[str, Any]]) -> None:
        """Report boxes that all lie within the first pixel: they are fractions of their images."""
        boxes: list[Any] = [record.get("bbox") for record in records]
        pixels = (not _is_numbers(box, 4) or max(box[0] + box[2], box[1] + box[3]) > 1 for box in boxes)
        if boxes and not any(pixels) and min(min(box[2:]) for box in boxes) > 0:
            self.error(
                "box-unit", f"all {len(boxes)} annotations", "bbox", boxes[0], "lie within the first pixel",
                "write pixels, not fractions of the width and height",
            )  # fmt: skip

    def box(self, annotation: Mapping[str, Any], name: str, size: tuple[int, int]) -> None:
        box = annotation["bbox"]
        if not (isinstance(box, list) and len(box) == 4 and all(_is_number(v) for v in box)):
            self.error("bad-box", name, "bbox", box, "must be four numbers", "write [x, y, width, height] in pixels")
        elif not all(math.isfinite(v) for v in box):
            self.error("nan-box", name, "bbox", box, "holds NaN or infinity", "correct the box or delete it")
        elif box[2] <= 0 or box[3] <= 0:
            self.error(
                "empty-box", name, "bbox", box, "has zero or negative area",
                "a box is [x, y, width, height], not two corners; correct it or delete the annotation",
            )  # fmt: skip
        elif min(clip_xywh(box, size)[2:]) <= 0:
            self.error(
                "box-outside", name, "bbox", box, f"lies outside the image {_wh(size)}",
                "correct the box (swapped x and y? pixels of another resolution?) or delete the annotation",
            )  # fmt: skip
        elif overhang_xywh(box, size) > _EDGE_TOLERANCE:
            self.warn(
                "box-partly-outside", name, "bbox", box, f"reaches outside the image {_wh(size)}",
                "it is clipped when the file is loaded",
            )  # fmt: skip

    def extras(self, annotation: Mapping[str, Any], name: str) -> None:
        if annotation.get("iscrowd", 0) not in (0, 1):
            self.error("wrong-type", name, "iscrowd", annotation["iscrowd"], "must be 0 or 1", "write 0")
        area = annotation.get("area")
        if area is not None and not (_is_number(area) and math.isfinite(area) and area > 0):
            self.error("bad-area", name, "area", area, "must be a positive number", "write width x height of the box")
        if annotation.get("pathology") is not None and not isinstance(annotation["pathology"], str):
            self.error("wrong-type", name, "pathology", annotation["pathology"], "must be text", "write a string")
        segmentation = annotation.get("segmentation")
        if segmentation is None or (isinstance(segmentation, Mapping) and {"size", "counts"} <= set(segmentation)):
            return
        if not isinstance(segmentation, list) or not all(
            isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and _is_numbers(p, len(p)) for p in segmentation
        ):
            self.error(
                "bad-segmentation", name, "segmentation", segmentation, "must be polygons or RLE",
                "write [[x1, y1, x2, y2, x3, y3, ...], ...] or {size, counts}",
            )  # fmt: skip

    def labels_agree(
        self, images: list[Mapping[str, Any]], annotations: list[Mapping[str, Any]], categories: dict[int, str]
    ) -> None:
        """Warn where an annotated lesion contradicts the image's label."""
        by_id = {i["id"]: i for i in images if _is_int(i.get("id"))}
        for annotation in annotations:
            category, image_id = annotation.get("category_id"), annotation.get("image_id")
            if not isinstance(category, int) or not isinstance(image_id, int) or image_id not in by_id:
                continue
            labels = by_id[image_id].get("labels")
            name = categories.get(category)
            if isinstance(labels, Mapping) and name in LABELS and labels.get(name) == 0:
                self.warn(
                    "label-contradiction", f"image {image_id}", f"labels.{name}", 0,
                    f"annotation {annotation.get('id')} is {name}", f"set labels.{name} to 1",
                )  # fmt: skip


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Whether a value is a number that fits into a float; NaN and infinity do."""
    return isinstance(value, float) or (_is_int(value) and abs(value) <= _MAX_WHOLE)


def _is_numbers(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_is_number(v) and math.isfinite(v) for v in value)


def _wh(size: tuple[int, int]) -> str:
    return f"(width {size[1]}, height {size[0]})"
