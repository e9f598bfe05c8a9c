"""DMID: 510 digital mammograms with masks, circles and benign or malignant findings.

Source: https://doi.org/10.6084/m9.figshare.24522883 (CC BY 4.0). Layout: ``Metadata.xlsx``, ``TIFF Images/IMG001.tif``
(or ``DICOM Images/IMG001.dcm``) and ``ROI Masks/IMG001.tif``, perhaps once more within folders of the same names.
Things to know, from the set's description and public readers, not checked against its files:

* The table begins with some thirty lines of text. A row is a finding: image, view ("CCLT", "MLORT"), tissue (F, G, D),
  kinds of abnormality joined by "+" ("MISC+CALC"; "CLAC" is CALC), class (B, M or N), x, y and radius, "-" where there
  is none.
* There is no patient: images of one woman may come into training and test.
* One mask holds all lesions of an image, and half of the images have none. Each part of a mask is a lesion: of the
  finding whose centre lies in it (y counted from the top, as public readers do, or from the bottom if that fits
  better), else of the class that all findings of the image have. Another part is unknown.
* A finding without a mask has the box of its circle, y counted from the top. Without a circle it has no box: its image
  is positive at an unknown place.
* The radiologists' reports are free text and not read.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from mammo_d2.data.converters.converter import (
    Converter,
    ConverterError,
    SourceAnnotation,
    SourceImage,
    circle_box,
)
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule, rule
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.converters.source_outlines import Box, mask_outlines, same_shape
from mammo_d2.data.converters.workbook import read_cells
from mammo_d2.data.reading.image_meta import ImageMeta, ReadOptions
from mammo_d2.data.reading.reader import read_image

_NAME = re.compile(r"^IMG\s*(\d+)$", re.IGNORECASE)
_VIEW = re.compile(r"^(CC|MLO)(LT|RT)$")
_KINDS = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM", "NORM")
_CLASSES = {"B": "benign", "M": "malignant"}
_FOLDERS = {"tiff": ("TIFF Images", (".tif", ".tiff")), "dicom": ("DICOM Images", (".dcm",))}
_NONE = ("", "-")


@register_converter
class Dmid(Converter):
    """Converter of DMID.

    Args:
        source: folder with Metadata.xlsx, the images and the masks.
        files: "tiff" (8 bits, what the masks were drawn on) or "dicom".
        read_options: how DICOM files become pixels.

    Raises:
        ConverterError: a table that cannot be understood, bad ``files``.
    """

    name = "dmid"
    command = "dmid"
    summary = "DMID: masks and circles, benign and malignant findings"
    description = "Prepare DMID. It has no patient identifiers: images of one woman may come into several splits."
    source_help = "folder with Metadata.xlsx, 'TIFF Images' (or 'DICOM Images') and 'ROI Masks'"
    label_facts: ClassVar[Facts] = {
        "finding": {"class": tuple(_CLASSES), "kinds": None},
        "image": {"tissue": ("", "F", "G", "D")},
    }

    def __init__(
        self, source: str | os.PathLike[str], files: str = "tiff", read_options: ReadOptions | None = None
    ) -> None:
        super().__init__(source, read_options)
        if files not in _FOLDERS:
            raise ConverterError(f"files {files!r} must be one of {', '.join(_FOLDERS)}")
        self.files = files

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        parser.add_argument("--files", choices=tuple(_FOLDERS), default="tiff",
                            help="8-bit TIFF, which the masks were drawn on, or DICOM")  # fmt: skip

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Dmid:
        """See the base class."""
        return cls(args.source, args.files, read_options(args))

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "files": self.files}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class."""
        return {"finding": [rule(category, **{"class": (letter,)}) for letter, category in _CLASSES.items()]}

    def images(self) -> Iterator[SourceImage]:
        """See the base class."""
        rows = self._rows()
        files = self._numbered(*_FOLDERS[self.files])
        masks = self._numbered("ROI Masks", (".tif", ".tiff", ".png"))
        for number in sorted(set(rows) - set(files)):
            self.skip(f"IMG{number:03d}", f"in Metadata.xlsx, but not in '{_FOLDERS[self.files][0]}'")
        for number, path in sorted(files.items()):
            if number not in rows:
                self.skip(path.relative_to(self.source).as_posix(), "not in Metadata.xlsx")
                continue
            image = self._image(number, path, rows[number], masks.get(number))
            if image is not None:
                yield image

    def complete(self, image: SourceImage, pixels: np.ndarray, meta: ImageMeta) -> SourceImage:
        """Boxes from the mask, or from circles where there is none."""
        image = super().complete(image, pixels, meta)
        if image.data["mask"]:
            mask = _read_mask(Path(image.data["mask"]), (pixels.shape[0], pixels.shape[1]))
            return replace(image, annotations=_from_mask(mask, image.annotations))
        return image

    def _image(self, number: int, path: Path, rows: list[dict[str, str]], mask: Path | None) -> SourceImage | None:
        key = f"IMG{number:03d}"
        lesions, categories = [], []
        for count, row in enumerate((row for row in rows if row["class"] != "N"), start=1):
            where = f"{self.source / 'Metadata.xlsx'}, line {row['#']}"
            category = self.rules.verdict("finding", {"class": row["class"], "kinds": row["kinds"]}, where)
            categories.append(category)
            circle = _circle(row, where)
            if circle is None and mask is None:
                self.skip(path.name, f"line {row['#']}: {row['kinds']} without a circle or mask; no box")
                continue
            box: Box | None = circle_box(*circle) if circle else None
            extra = {"finding": row["kinds"].split("+"), "box_from": "circle"}
            lesions.append(SourceAnnotation(category, box, None, row["class"], f"{key}_{count}", extra))
        tissue = {row["tissue"] for row in rows}
        facts = {"image": {"tissue": next(iter(tissue)) if len(tissue) == 1 else ""}}
        labels = self.image_labels(path.name, facts, categories, f"Metadata.xlsx: {key}")
        if labels is None:
            return None
        view = _VIEW.match(rows[0]["view"])
        if view is None or len({row["view"] for row in rows}) > 1:
            self.skip(path.name, f"view {' and '.join(sorted({row['view'] for row in rows}))!r} is unknown")
            view = None
        return SourceImage(
            path=path,
            key=key,
            source_name=path.relative_to(self.source).as_posix(),
            annotations=tuple(lesions),
            laterality=view[2][0] if view else None,
            view=view[1] if view else None,
            labels=labels,
            extra={"tissue": rows[0]["tissue"] or None, "findings": sorted({row["kinds"] for row in rows})},
            data={"mask": str(mask) if mask and lesions else ""},
        )

    def _rows(self) -> dict[int, list[dict[str, str]]]:
        """Number of the image -> its rows."""
        path = self.source / "Metadata.xlsx"
        found: dict[int, list[dict[str, str]]] = {}
        for number, cells in enumerate(read_cells(path), start=1):
            name = _NAME.match(cells[0]) if cells else None
            if name is None:
                continue
            view, tissue, kinds, verdict, x, y, radius = (
                c.upper().replace(" ", "") for c in (*cells[1:8], *[""] * 7)[:7]
            )
            kinds = "+".join({"CLAC": "CALC"}.get(kind, kind) for kind in kinds.split("+"))
            where = f"{path}, line {number}"
            if wrong := [kind for kind in kinds.split("+") if kind not in _KINDS]:
                raise ConverterError(f"{where}: abnormality {wrong[0]!r:.40} must be among {', '.join(_KINDS)}")
            # Normal images have no class in some rows.
            verdict = "N" if kinds == "NORM" and verdict in _NONE else verdict
            if verdict not in (*_CLASSES, "N") or (verdict == "N") != (kinds == "NORM"):
                raise ConverterError(f"{where}: class {verdict!r:.40} must be B or M, or N of NORM alone")
            row = {"view": view, "tissue": tissue, "kinds": kinds, "class": verdict, "x": x, "y": y, "radius": radius}
            found.setdefault(int(name[1]), []).append({**row, "#": str(number)})
        if not found:
            raise ConverterError(f"{path}: no row begins with IMG001 or the like; is it DMID's table?")
        for image, rows in found.items():
            if len({row["class"] == "N" for row in rows}) > 1:
                raise ConverterError(f"{path}: IMG{image:03d} is NORM in one row and has a finding in another")
        return found

    def _numbered(self, folder: str, suffixes: Sequence[str]) -> dict[int, Path]:
        """Number of the image -> file; the folder may lie in one of the same name."""
        files: dict[int, Path] = {}
        for path in sorted((self.source / folder).rglob("*")):
            name = _NAME.match(path.stem.strip())
            if name and path.suffix.lower() in suffixes:
                files.setdefault(int(name[1]), path)
        return files


def _circle(row: Mapping[str, str], where: str) -> tuple[float, float, float] | None:
    texts = [row[key] for key in ("x", "y", "radius")]
    if all(text in _NONE for text in texts):
        return None
    try:
        x, y, radius = (float(text) for text in texts)
    except ValueError:
        raise ConverterError(f"{where}: x, y, radius {texts} must be three numbers, or '-'") from None
    if not all(math.isfinite(v) and v >= 0 for v in (x, y)) or not 0 < radius < math.inf:
        raise ConverterError(f"{where}: x, y, radius {texts} must not be negative, the radius above 0")
    return x, y, radius


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask as bool (H, W) of ``size``.

    Raises:
        ValueError: another shape, or an empty mask.
    """
    pixels, meta = read_image(path)
    if not same_shape((pixels.shape[0], pixels.shape[1]), size):
        raise ValueError(f"{path}: mask of {pixels.shape} pixels, the image has {size}; leave the image out")
    if pixels.shape != size:
        pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    mask = pixels > meta.max_value / 2
    if not mask.any():
        raise ValueError(f"{path}: the mask is empty; leave the image out")
    return mask


def _from_mask(mask: np.ndarray, findings: Sequence[SourceAnnotation]) -> tuple[SourceAnnotation, ...]:
    """The parts of a mask as lesions; and findings that it leaves out by their circles, if other circles fit it."""
    parts = mask_outlines(mask)
    turned = [_turned(finding, mask.shape[0]) for finding in findings]
    owners = [_owners(box, findings) for box, _ in parts]
    owners_turned = [_owners(box, turned) for box, _ in parts]
    if sum(map(len, owners_turned)) > sum(map(len, owners)):
        findings, owners = turned, owners_turned
    categories = {finding.category for finding in findings}
    lesions = []
    for (box, polygons), here in zip(parts, owners, strict=True):
        possible = {findings[n].category for n in here} or categories
        category = next(iter(possible)) if len(possible) == 1 else UNKNOWN
        lesion = findings[here[0]] if here else SourceAnnotation(category, None, None, findings[0].pathology)
        extra = {**lesion.extra, "box_from": "mask"}
        lesions.append(replace(lesion, category=category, bbox=box, segmentation=polygons or None, extra=extra))
    fitting = {n for here in owners for n in here}
    return (*lesions, *(f for n, f in enumerate(findings) if fitting and n not in fitting and f.bbox is not None))


def _turned(finding: SourceAnnotation, height: int) -> SourceAnnotation:
    """A finding whose circle's y counts from the bottom."""
    if finding.bbox is None:
        return finding
    x, y, width, side = finding.bbox
    return replace(finding, bbox=(x, height - y - side, width, side))


def _owners(box: Box, findings: Sequence[SourceAnnotation]) -> list[int]:
    """Numbers of the findings whose circles have their centre in a box."""
    left, top, width, height = box
    found = []
    for number, finding in enumerate(findings):
        if finding.bbox is not None:
            x, y = finding.bbox[0] + finding.bbox[2] / 2, finding.bbox[1] + finding.bbox[3] / 2
            if left <= x <= left + width and top <= y <= top + height:
                found.append(number)
    return found
