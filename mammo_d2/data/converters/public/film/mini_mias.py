"""mini-MIAS: 322 digitised films of 161 women, 1024 x 1024 pixels of 200 micrometres, 8 bits.

Source: http://peipa.essex.ac.uk/info/mias.html (research only). Its ``Info.txt`` has a row per image or lesion: name,
tissue, class, severity, x, y, radius. Things to know about it:

* the origin of x, y is the bottom left corner, so y is turned over;
* three rows say ``*NOTE 3*`` and mdb059 has no coordinates: there is a lesion of unknown place;
* some images have several rows; mdb144 has a benign and a malignant one;
* odd numbers are right breasts, even ones left; 2k - 1 and 2k are one woman; all views are MLO.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mammo_d2.core.boxes import clip_xywh
from mammo_d2.core.files import text_problem
from mammo_d2.data.converters.converter import (
    Converter,
    ConverterError,
    SourceAnnotation,
    SourceImage,
    circle_box,
)
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import Facts, LabelRule, rule
from mammo_d2.data.converters.source_arguments import add_source_argument

SIDE = 1024
SPACING = 0.2
_NAME = re.compile(r"mdb(\d{3})([lrsmx]{0,2})$")
_CLASSES = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM", "NORM")
_PATHOLOGY = {"B": "benign", "M": "malignant"}


@dataclass(frozen=True)
class MiasRow:
    """One row of Info.txt; ``circle`` is (x, y, radius) as printed, None where the row gives none."""

    name: str
    tissue: str
    finding: str
    pathology: str | None
    circle: tuple[float, float, float] | None


@register_converter
class MiniMias(Converter):
    """Converter of mini-MIAS.

    Args:
        source: folder with the images (``mdb001.pgm``, or .png) and ``Info.txt``.
        unlocated: what becomes of images with a lesion of unknown place: "drop", or "keep" them without a box (their
            label is known, but a detector would take them for negatives).

    Raises:
        ConverterError: a row that cannot be understood, a bad ``unlocated``.
    """

    name = "mini_mias"
    command = "mini-mias"
    summary = "the mini-MIAS films"
    description = (
        "Prepare mini-MIAS (http://peipa.essex.ac.uk/info/mias.html): 8-bit films, all MLO, circles become boxes."
    )
    source_help = "folder with Info.txt and the images mdb001.pgm (or .png) ..."
    label_facts: ClassVar[Facts] = {"finding": {"pathology": tuple(_PATHOLOGY.values()), "class": _CLASSES[:-1]}}

    def __init__(self, source: str | os.PathLike[str], unlocated: str = "drop") -> None:
        super().__init__(source)
        if unlocated not in ("drop", "keep"):
            raise ConverterError(f"unlocated {unlocated!r} must be drop or keep")
        self.unlocated = unlocated

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        add_source_argument(parser, cls.source_help)
        parser.add_argument("--unlocated", choices=("drop", "keep"), default="drop",
                            help="images with a lesion whose place is not given")  # fmt: skip

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> MiniMias:
        """See the base class."""
        return cls(args.source, args.unlocated)

    def parameters(self) -> dict[str, object]:
        """See the base class."""
        return {**super().parameters(), "unlocated": self.unlocated}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class."""
        return {"finding": [rule(name, pathology=(name,)) for name in _PATHOLOGY.values()]}

    def images(self) -> Iterator[SourceImage]:
        """See the base class; images without a row are skipped, rows without an image too."""
        rows: dict[str, list[MiasRow]] = {}
        info = self._info_file()
        for row in read_info(info):
            here = rows.setdefault(row.name, [])
            here.append(row)
            if len(here) > 1 and "NORM" in (found.finding for found in here):
                raise ConverterError(
                    f"{info}: {row.name} is NORM in one row and has another row; remove the one that is wrong"
                )
        files = self._image_files()
        for name in sorted(set(rows) - set(files)):
            self.skip(name, "in Info.txt, but there is no such image")
        for name, path in sorted(files.items()):
            if name not in rows:
                self.skip(path.name, "not in Info.txt")
                continue
            image = self._image(path, name, rows[name])
            if image is not None:
                yield image

    def _image(self, path: Path, name: str, rows: list[MiasRow]) -> SourceImage | None:
        lesions = [row for row in rows if row.pathology]
        unlocated = [row for row in lesions if row.circle is None]
        if unlocated and self.unlocated == "drop":
            self.skip(path.name, f"{unlocated[0].finding} without coordinates")
            return None
        located = [row for row in lesions if row.circle is not None]
        categories = {}
        for row in lesions:
            facts = {"pathology": row.pathology or "", "class": row.finding}
            categories[row] = self.rules.verdict("finding", facts, f"{self.source}: {name}")
        labels = self.image_labels(path.name, {}, categories.values(), name)
        if labels is None:
            return None
        number = int(name[3:6])
        patient = f"mias{(number + 1) // 2:03d}"
        return SourceImage(
            path=path,
            key=name,
            source_name=path.name,
            annotations=tuple(
                _annotation(row, categories[row], f"{name}_{n}") for n, row in enumerate(located, start=1)
            ),
            patient_id=patient,
            exam_id=patient,
            laterality="R" if number % 2 else "L",
            view="MLO",
            labels=labels,
            pixel_spacing=(SPACING, SPACING),
            pixel_spacing_source="mini-MIAS documentation",
            extra={"tissue": rows[0].tissue, "findings": sorted({row.finding for row in rows})},
        )

    def _info_file(self) -> Path:
        for path in sorted(self.source.iterdir()):
            if path.name.lower() in ("info.txt", "info"):
                return path
        raise FileNotFoundError(f"{self.source}/Info.txt: no such file; it holds the truth, copy it beside the images")

    def _image_files(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for path in sorted(self.source.rglob("mdb*")):
            if path.suffix.lower() in (".png", ".pgm", ".tif", ".tiff") and _NAME.match(path.stem.lower()):
                files.setdefault(path.stem.lower()[:6], path)
        return files


def read_info(path: str | os.PathLike[str]) -> list[MiasRow]:
    """Read Info.txt; lines that do not start with an image's name are text.

    Raises:
        ConverterError: a row with an unknown class or severity, or coordinates outside the image.
    """
    rows: list[MiasRow] = []
    data = Path(path).read_bytes()
    if problem := text_problem(data[:100]) or text_problem(data):
        raise ConverterError(f"{path}: {problem}")
    for number, line in enumerate(data.decode("latin-1").splitlines(), start=1):
        fields = line.split()
        where = f"{path}, line {number} ({line.strip()[:80]!r})"
        if fields and _NAME.match(fields[0]):
            row = _row(fields, where)
            if row in rows:
                raise ConverterError(f"{where}: the same row is there twice; remove one of them")
            rows.append(row)
        elif len(fields) > 2 and fields[2] in _CLASSES:
            raise ConverterError(f"{where}: {fields[0][:40]!r} is no image's name, e.g. mdb001; correct it")
    if not rows:
        raise ConverterError(f"{path}: no row starts with an image's name (mdb001 ...); is it mini-MIAS's Info.txt?")
    return rows


def _row(fields: list[str], where: str) -> MiasRow:
    if len(fields) < 3 or fields[2] not in _CLASSES:
        raise ConverterError(f"{where}: the class must be one of {', '.join(_CLASSES)}")
    name, tissue, finding = fields[0][:6], fields[1], fields[2]
    if finding == "NORM":
        if len(fields) > 3:
            raise ConverterError(f"{where}: NORM ends the row; a lesion has another class")
        return MiasRow(name, tissue, finding, None, None)
    if len(fields) < 4 or fields[3] not in _PATHOLOGY:
        raise ConverterError(f"{where}: the severity must be B or M")
    pathology = _PATHOLOGY[fields[3]]
    rest = fields[4:]
    if not rest or rest[0].startswith("*NOTE"):
        return MiasRow(name, tissue, finding, pathology, None)
    try:
        x, y, radius = (float(v) for v in rest)
    except ValueError:
        raise ConverterError(f"{where}: expected x, y and radius after the severity, and no more") from None
    if not (0 <= x < SIDE and 0 <= y < SIDE and 0 < radius < SIDE):
        raise ConverterError(f"{where}: x and y must lie in 0..{SIDE - 1}, the radius between 0 and {SIDE}")
    return MiasRow(name, tissue, finding, pathology, (x, y, radius))


def _annotation(row: MiasRow, category: str, lesion_id: str) -> SourceAnnotation:
    assert row.circle is not None
    x, y, radius = row.circle
    # Row y counts from the bottom: the published conversion is 1024 - y.
    left, top, width, height = clip_xywh(circle_box(x, SIDE - y, radius), (SIDE, SIDE))
    return SourceAnnotation(
        category, (left, top, width, height), None, row.pathology, lesion_id, {"finding": row.finding}
    )
