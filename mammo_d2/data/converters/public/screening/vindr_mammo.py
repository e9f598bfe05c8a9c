"""VinDr-Mammo: 5,000 four-view exams with BI-RADS and boxes (https://doi.org/10.13026/br2v-7517).

Layout: ``images/<study_id>/<image_id>.dicom``, ``breast-level_annotations.csv``, ``finding_annotations.csv``. Things to
know about it:

* There is no patient id; an exam stands for its patient.
* There is no pathology: findings and breasts of BI-RADS 4 and 5 count as malignant, below as benign.
* Boxes of skin, nipple and lymph nodes often have no assessment (125 of 2,254 boxes). They are neither benign nor
  malignant: the image lists them under ``unassessed_boxes``, with their kinds under ``unassessed_findings``.
* Benign findings (BI-RADS 2) are not boxed: an image without box is not an image without lesion.
* Of PNG copies (``<study_id>/<image_id>.png``) boxes are scaled to the files, which must have the originals' shape. The
  most widespread copy (912 x 1520 pixels, width x height) was cropped image by image before it was stretched; its boxes
  are taken from its own table, ``vindr_detection_v1_folds.csv`` (columns ``resized_xmin`` ...). The public script that
  made that table compares the lower edges of boxes with the images' width, and so cuts boxes of low lesions: images
  with such a box are left out. From that script, not checked against the copy's files.
"""

from __future__ import annotations

import argparse
import ast
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mammo_d2.data.converters.birads import (
    GRADE_FACT,
    MALIGNANT_FROM,
    AssessedConverter,
    birads_breasts,
    birads_findings,
    parse_birads,
)
from mammo_d2.data.converters.converter import ConverterError, SourceAnnotation, SourceImage, read_table
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule
from mammo_d2.data.converters.png_copies import add_png_argument, find_pngs
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.converters.source_outlines import fit_to_file, same_shape
from mammo_d2.data.reading.image_meta import ImageMeta, ReadOptions

_Box = tuple[float, float, float, float]
# Height and width of the widespread PNG copy.
_COPY_SIZE = (1520, 912)
_BREAST = ("study_id", "image_id", "laterality", "view_position", "breast_birads", "breast_density", "split")
_FINDING = ("image_id", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax")
# What stands in ``finding_categories`` where there is no box.
_NOTHING = ("", "['No Finding']", '["No Finding"]', "No Finding")
_SPLITS = {"training": "train", "test": "test"}


@register_converter
class VindrMammo(AssessedConverter):
    """Converter of VinDr-Mammo.

    Args:
        source: folder with ``images`` and the two tables.
        malignant_from: least BI-RADS that counts as malignant.
        read_options: how DICOM files become pixels.
        pngs: folder of a PNG copy that is read instead of the DICOM files; images that it lacks are skipped.
    """

    name = "vindr_mammo"
    command = "vindr-mammo"
    summary = "VinDr-Mammo: boxes, BI-RADS"
    description = (
        "Prepare VinDr-Mammo. The official training and test sets are kept; use --val-from-train for a validation set."
    )
    source_help = "folder with images/, breast-level_annotations.csv and finding_annotations.csv"
    label_facts: ClassVar[Facts] = {
        "finding": GRADE_FACT,
        "breast": {**GRADE_FACT, "density": ("", "A", "B", "C", "D")},
    }

    def __init__(
        self,
        source: str | os.PathLike[str],
        malignant_from: int = MALIGNANT_FROM,
        read_options: ReadOptions | None = None,
        pngs: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(source, malignant_from, read_options)
        self.pngs = pngs

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        add_png_argument(parser)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> VindrMammo:
        """See the base class."""
        return cls(args.source, args.malignant_from, read_options(args), args.pngs)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "pngs": self.pngs is not None}

    def complete(self, image: SourceImage, pixels: np.ndarray, meta: ImageMeta) -> SourceImage:
        """Boxes of PNG copies in pixels of their files."""
        image = super().complete(image, pixels, meta)
        size = (pixels.shape[0], pixels.shape[1])
        if "size" not in image.data or not image.annotations:
            return image
        copied = image.data["copied_boxes"]
        if size != _COPY_SIZE or same_shape(size, image.data["size"]) or not copied:
            return fit_to_file(image, image.data["size"], size)
        if None in copied:
            raise ValueError("the copy's table cut a box of this image at its lower edge; leave it out")
        lesions = (replace(lesion, bbox=box) for lesion, box in zip(image.annotations, copied, strict=True))
        return replace(image, annotations=tuple(lesions))

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; a box of BI-RADS 0 (incomplete) is unknown."""
        return {"finding": birads_findings(self.malignant_from), "breast": birads_breasts(self.malignant_from)}

    def images(self) -> Iterator[SourceImage]:
        """See the base class; the data set's own training and test sets are kept."""
        findings = self._findings()
        path = self.source / "breast-level_annotations.csv"
        pngs = find_pngs(self.pngs) if self.pngs else None
        rows = read_table(path, _BREAST if pngs is None else (*_BREAST, "height", "width"), unique=("image_id",))
        copied = self._copied_boxes() if pngs else {}
        self._check_images(findings, rows, path)
        for row in rows:
            where = f"{path}, line {row['#']}"
            if row["split"] not in _SPLITS:
                raise ConverterError(f"{where}: split {row['split']!r} must be training or test")
            grade = _grade(row["breast_birads"], where)
            density = row["breast_density"].upper().removeprefix("DENSITY").strip()
            relative = f"images/{row['study_id']}/{row['image_id']}.dicom"
            facts = {"birads": grade[1] if grade else "", "density": density}
            lesions = findings.get(row["image_id"], [])
            file = self.source / relative if pngs is None else pngs.get((row["study_id"], row["image_id"]))
            if file is None:
                self.skip(relative, "not in the PNG copy")
                continue
            data: dict[str, Any] = {}
            if pngs is not None:
                boxes = [copied.get((row["image_id"], a.bbox)) for a in lesions if a.bbox] if copied else []
                data = {"size": _size(row, where), "copied_boxes": boxes}
            labels = self.image_labels(relative, {"breast": facts}, (a.category for a in lesions), where)
            if labels is None:
                continue
            yield SourceImage(
                path=file,
                key=f"{row['study_id']}/{row['image_id']}",
                source_name=relative,
                annotations=tuple(lesions),
                patient_id=row["study_id"],
                exam_id=row["study_id"],
                laterality=row["laterality"] or None,
                view=row["view_position"] or None,
                labels=labels,
                birads=grade[1] if grade else None,
                density=density or None,
                split=_SPLITS[row["split"]],
                data=data,
            )

    def _findings(self) -> dict[str, list[SourceAnnotation]]:
        """Image id -> boxed findings; those without an assessment are unknown."""
        path = self.source / "finding_annotations.csv"
        findings: dict[str, list[SourceAnnotation]] = {}
        seen: dict[tuple, str] = {}
        for row in read_table(path, _FINDING):
            where = f"{path}, line {row['#']}"
            corners = [row[c] for c in ("xmin", "ymin", "xmax", "ymax")]
            if not any(corners):
                if row["finding_categories"] not in _NOTHING:
                    raise ConverterError(
                        f"{where}: {row['finding_categories']!r:.80} without a box, so that its image would count as "
                        "one without; give xmin, ymin, xmax and ymax, or write ['No Finding']"
                    )
                continue
            try:
                x1, y1, x2, y2 = (float(v) for v in corners)
                kinds = list(ast.literal_eval(row["finding_categories"]))
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
                raise ConverterError(
                    f"{where}: box {corners} or categories {row['finding_categories']!r}: {error}"
                ) from None
            box = (x1, y1, x2 - x1, y2 - y1)
            if not all(math.isfinite(v) for v in box) or min(box[2:]) <= 0:
                raise ConverterError(f"{where}: box {corners} must be left, top, right and bottom, and have an area")
            if row["finding_categories"] in _NOTHING:
                raise ConverterError(f"{where}: a box, but {row['finding_categories']!r}; name what it is around")
            facts = (row["image_id"], box, *map(str, kinds))
            if facts in seen:
                self.skip(path.name, f"line {row['#']}: the finding of line {seen[facts]} again")
                continue
            seen[facts] = row["#"]
            grade = _grade(row["finding_birads"], where)
            short = grade[1] if grade else ""
            category = self.rules.verdict("finding", {"birads": short}, where)
            here = findings.setdefault(row["image_id"], [])
            if category == UNKNOWN:
                why = f"line {row['#']}: {', '.join(map(str, kinds))} without an assessment; listed as unassessed"
                self.skip(path.name, why)
            number = sum(lesion.category != UNKNOWN for lesion in here) + 1
            extra = {"finding": kinds, "birads": short}
            here.append(SourceAnnotation(category, box, None, None, f"{row['image_id']}_{number}", extra))
        return findings

    def _copied_boxes(self) -> dict[tuple[str, _Box], _Box | None]:
        """(image id, box) of the original -> box in the widespread PNG copy, None where its script cut it."""
        path = self.source / "vindr_detection_v1_folds.csv"
        boxes: dict[tuple[str, _Box], _Box | None] = {}
        if not path.is_file():
            return boxes
        corners, copied = ("xmin", "ymin", "xmax", "ymax"), [f"resized_{c}" for c in ("xmin", "ymin", "xmax", "ymax")]
        for row in read_table(path, ("image_id", "height", "width", *corners, *copied)):
            where = f"{path}, line {row['#']}"
            if not all(row[c] for c in (*corners, *copied)):
                continue
            try:
                x1, y1, x2, y2 = (float(row[c]) for c in corners)
                left, top, right, bottom = (float(row[c]) for c in copied)
            except ValueError as error:
                raise ConverterError(f"{where}: boxes must be numbers: {error}") from error
            height, width = _size(row, where)
            # The script took 5 pixels off each side, and confused width and height when it clipped.
            cut = y2 - 5 > width - 10 or x2 - 5 > height - 10
            box = (left, top, right - left, bottom - top)
            boxes[row["image_id"], (x1, y1, x2 - x1, y2 - y1)] = None if cut else box
        return boxes

    @staticmethod
    def _check_images(findings: Mapping, rows: Sequence[Mapping[str, str]], path: Path) -> None:
        """Raise if a finding is of an image that the other table does not have: it would be lost without a word."""
        unknown = sorted(set(findings) - {row["image_id"] for row in rows})
        if unknown:
            raise ConverterError(
                f"{path}: finding_annotations.csv has findings of {len(unknown)} image(s) that are not in this table, "
                f"e.g. image_id {unknown[0]!r:.80}; correct the one or the other"
            )


def _size(row: Mapping[str, str], where: str) -> tuple[int, int]:
    try:
        height, width = int(float(row["height"])), int(float(row["width"]))
    except (ValueError, OverflowError):
        height = width = 0
    if height <= 0 or width <= 0:
        raise ConverterError(f"{where}: height {row['height']!r:.40} and width {row['width']!r:.40} must be pixels")
    return height, width


def _grade(text: str, where: str) -> tuple[int, str] | None:
    try:
        return parse_birads(text)
    except ValueError as error:
        raise ConverterError(f"{where}: {error}") from error
