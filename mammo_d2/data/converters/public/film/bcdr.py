"""BCDR: films and digital mammograms with outlines and biopsy results (Breast Cancer Digital Repository, Porto).

Layout: a folder per set below the source, such as ``BCDR-F01_dataset``, with ``bcdr_f01_img.csv`` (a row per image),
``bcdr_f01_outlines.csv`` (a row per outline) and the images that they name,
``patient_20/study_30/img_20_30_1_RCC.tif``. Things to know about it:

* Values and file names have blanks in front.
* Sets that begin with F are films, with D digital; those with N in their names are of women without lesions.
* BCDR-F03 has no table of images, only outlines. Sets of one kind share women and images: they count as one patient.
* The side and view are in ``image_type_name`` or the file's name: O means MLO. The numbers of ``image_view`` and
  ``image_type_id`` count from 1 in one table and from 0 in the other, and are not used.
* ``classification`` is Benign or Malign, of the outlined lesion. An image without an outline is unknown, unless its set
  is of women without lesions.
* The TIFF files have 8 bits. The size of a pixel is not given.

From public readers of the set; not checked against its files.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mammo_d2.core.files import path_problem
from mammo_d2.data.converters.converter import Converter, ConverterError, SourceAnnotation, SourceImage, read_table
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import Facts, LabelRule, rule
from mammo_d2.data.converters.source_arguments import add_source_argument
from mammo_d2.data.converters.source_outlines import pixel_outline

_IMAGE = ("patient_id", "study_id", "series", "image_filename", "image_type_name", "density")
_OUTLINE = (
    "patient_id", "study_id", "lesion_id", "segmentation_id", "image_filename", "lw_x_points", "lw_y_points",
    "classification",
)  # fmt: skip
_KINDS = (
    "nodule", "calcification", "microcalcification", "axillary_adenopathy", "architectural_distortion",
    "stroma_distortion",
)  # fmt: skip
_TABLE = re.compile(r"^bcdr_([fd]n?\d+)_(img|outlines)\.csv$", re.IGNORECASE)
# File systems have 255 bytes; the tables' names have some thirty.
_LONGEST_NAME = 200
_TYPE = re.compile(r"^([LR])(CC|MLO|O)$", re.IGNORECASE)
_CLASSIFICATIONS = ("Benign", "Malign", "Malignant")


@dataclass
class _Picture:
    """What the tables of one set say of an image: its row in either, and its outlines' rows."""

    path: Path
    row: dict[str, str]
    where: str
    outlines: list[tuple[dict[str, str], str]] = field(default_factory=list)


@register_converter
class Bcdr(Converter):
    """Converter of BCDR.

    Args:
        source: folder with the sets' folders, at any depth.
        sets: names such as "F01" and "D02"; all that are there if empty.

    Raises:
        ConverterError: a set that is not there, or a table that cannot be understood.
    """

    name = "bcdr"
    command = "bcdr"
    summary = "BCDR: films and digital mammograms, outlines, biopsy"
    description = (
        "Prepare BCDR. Films and digital mammograms look different: prepare them into two folders with --sets.\n"
        "Images without an outline are unknown, but for those of the sets of women without lesions (FN, DN)."
    )
    source_help = "folder with BCDR-F01_dataset, BCDR-D01_dataset ..."
    label_facts: ClassVar[Facts] = {
        "finding": {"classification": _CLASSIFICATIONS, "kind": None},
        "image": {"women": ("lesions", "normal")},
    }

    def __init__(self, source: str | os.PathLike[str], sets: Sequence[str] = ()) -> None:
        super().__init__(source)
        self.sets = tuple(name.upper() for name in sets)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        add_source_argument(parser, cls.source_help)
        parser.add_argument("--sets", nargs="+", default=[], metavar="SET", help="such as F01 F02, or D01 DN01 [all]")

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Bcdr:
        """See the base class."""
        return cls(args.source, args.sets)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "sets": list(self.sets)}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; images of women without lesions are normal."""
        return {
            "finding": [
                rule("benign", classification=("Benign",)),
                rule("malignant", classification=("Malign", "Malignant")),
            ],
            "image": [rule("normal", women=("normal",)), rule("unknown", women=("lesions",))],
        }

    def images(self) -> Iterator[SourceImage]:
        """See the base class; images in the tables' order, set by set."""
        for name, tables in sorted(self._tables().items()):
            for relative, picture in self._pictures(name, tables).items():
                if not picture.path.is_file():
                    self.skip(f"{name}/{relative}", "in a table, but there is no such file")
                    continue
                image = self._image(name, relative, picture)
                if image is not None:
                    yield image

    def _tables(self) -> dict[str, dict[str, Path]]:
        """Set ("F01") -> kind of table ("img", "outlines") -> file."""
        found: dict[str, dict[str, Path]] = {}
        for path in sorted(self.source.rglob("*.csv")):
            match = _TABLE.match(path.name)
            if match is None:
                continue
            tables = found.setdefault(match[1].upper(), {})
            if match[2].lower() in tables:
                raise ConverterError(
                    f"{path}: {tables[match[2].lower()]} is the same table of the same set; remove one of them"
                )
            tables[match[2].lower()] = path
        missing = [name for name in self.sets if name not in found]
        if missing:
            there = ", ".join(found) or "none"
            raise ConverterError(f"{self.source}: no tables of the set {missing[0]!r}; there: {there}")
        return {name: tables for name, tables in found.items() if not self.sets or name in self.sets}

    def _pictures(self, name: str, tables: Mapping[str, Path]) -> dict[str, _Picture]:
        """File name relative to its table -> the image."""
        pictures: dict[str, _Picture] = {}
        if "img" in tables:
            for row, where, relative in _rows(tables["img"], _IMAGE):
                if relative in pictures:
                    raise ConverterError(f"{where}: {relative!r:.80} is there twice; remove one of the rows")
                pictures[relative] = _Picture(tables["img"].parent / relative, row, where)
        if "outlines" in tables:
            for row, where, relative in _rows(tables["outlines"], _OUTLINE):
                if relative not in pictures:
                    if "img" in tables:
                        self.skip(
                            f"{name}/{relative}", f"in {tables['outlines'].name}, but not in {tables['img'].name}"
                        )
                    pictures[relative] = _Picture(tables["outlines"].parent / relative, row, where)
                pictures[relative].outlines.append((row, where))
        return pictures

    def _image(self, name: str, relative: str, picture: _Picture) -> SourceImage | None:
        row = picture.row
        # "RO" is the right breast's oblique view.
        kind = row.get("image_type_name") or Path(relative).stem.rsplit("_", 1)[-1]
        match = _TYPE.match(kind)
        annotations, verdicts = [], []
        for outline, where in picture.outlines:
            annotation = self._lesion(name, outline, where)
            if annotation in annotations:
                self.skip(f"{name}/{relative}", f"line {outline['#']}: the same outline again")
                continue
            annotations.append(annotation)
            verdicts.append(annotation.category)
        facts: dict[str, Mapping[str, str]] = {}
        if not annotations:
            facts = {"image": {"women": "normal" if "N" in name else "lesions"}}
        labels = self.image_labels(f"{name}/{relative}", facts, verdicts, picture.where, complete=False)
        if labels is None:
            return None
        density = row.get("density", "")
        # Films and digital mammograms have patients of their own; sets of one kind share them.
        patient = f"{name[0]}_{row['patient_id']}"
        return SourceImage(
            path=picture.path,
            key=f"{name}/{relative.removesuffix(picture.path.suffix)}",
            source_name=f"{name}/{relative}",
            annotations=tuple(annotations),
            patient_id=patient,
            exam_id=f"{patient}_{row['study_id']}",
            laterality=match[1].upper() if match else None,
            view={"O": "MLO"}.get(match[2].upper(), match[2].upper()) if match else None,
            labels=labels,
            density=None if density.lower() == "nan" else density.removesuffix(".0") or None,
            extra={"modality": "film" if name[0] == "F" else "digital"},
        )

    def _lesion(self, name: str, row: Mapping[str, str], where: str) -> SourceAnnotation:
        try:
            xs, ys = ([int(number) for number in row[column].split()] for column in ("lw_x_points", "lw_y_points"))
        except ValueError:
            raise ConverterError(f"{where}: lw_x_points and lw_y_points must be whole numbers") from None
        if not xs or len(xs) != len(ys):
            raise ConverterError(
                f"{where}: {len(xs)} lw_x_points and {len(ys)} lw_y_points; an outline needs as many of both"
            )
        kinds = [kind for kind in _KINDS if row.get(f"mammography_{kind}", "0") not in ("0", "")]
        if row["classification"] not in _CLASSIFICATIONS:
            raise ConverterError(f"{where}: classification {row['classification']!r:.80} must be Benign or Malign")
        facts = {"classification": row["classification"], "kind": " ".join(kinds)}
        box, polygons = pixel_outline(list(zip(xs, ys, strict=True)))
        lesion = f"{name[0]}_{row['patient_id']}_{row['study_id']}_{row['lesion_id']}" if row["lesion_id"] else None
        category = self.rules.verdict("finding", facts, where)
        return SourceAnnotation(category, box, polygons or None, row["classification"], lesion, {"finding": kinds})


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, str], str, str]]:
    """Rows of a table, where each is, and its file's name."""
    for row in read_table(path, columns):
        where = f"{path}, line {row['#']}"
        relative = row["image_filename"].replace("\\", "/").removeprefix("./")
        problem = path_problem(relative) if relative else "is empty"
        if any(len(part) > _LONGEST_NAME for part in relative.split("/")):
            problem = "is too long for a file's name"
        if problem:
            raise ConverterError(f"{where}: image_filename {relative!r:.80} {problem}")
        yield row, where, relative
