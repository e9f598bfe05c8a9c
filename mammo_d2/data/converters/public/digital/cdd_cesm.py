"""CDD-CESM: 2,006 contrast-enhanced mammograms of 326 women, with outlines and pathology.

Source: https://doi.org/10.7937/29kw-ae92 (CC BY 4.0). Every view is there twice: as the low energy image, which looks
like a usual mammogram ("DM"), and as the recombined image ("CM" in file names, "CESM" in the table), which shows the
contrast medium. They are different kinds of images: the low energy ones are taken unless others are asked for.

Layout: ``Radiology-manual-annotations.xlsx`` (sheet "all"; or that sheet as .csv), the regions
``Radiology_hand_drawn_segmentations_v2.csv``, and ``P1_L_DM_CC.jpg`` ... in any folders below. Things to know, from the
set's description and public readers, not checked against its files:

* Some names end with a blank, in the tables as well as those of the files.
* BI-RADS has one grade per finding, joined by "$" ("4$2"), and "_" for none.
* The density is given in the rows of low energy images only; it is the breast's.
* A pathology is given per image. Regions have none: they have their image's, unless it is malignant and has several
  regions, suspicious and benign ones (BI-RADS "5$2"), because the table does not say which is which. Those regions are
  unknown.
* Regions are polygons, ellipses, circles, lines and points; a point has no area.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mammo_d2.data.converters.birads import GRADE_FACT, MALIGNANT_FROM, parse_birads
from mammo_d2.data.converters.converter import (
    Converter,
    ConverterError,
    SourceAnnotation,
    SourceImage,
    read_table,
)
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule, rule
from mammo_d2.data.converters.source_arguments import add_source_argument
from mammo_d2.data.converters.via_regions import via_region
from mammo_d2.data.converters.workbook import read_table_file

_PATHOLOGY = "Pathology Classification/ Follow up"
_DENSITY = "Breast density (ACR)"
_COLUMNS = ("Image_name", "Patient_ID", "Side", "Type", _DENSITY, "BIRADS", "View", _PATHOLOGY)
_REGION_COLUMNS = ("region_shape_attributes",)
_NAME = re.compile(r"^P(\d+)_([LR])_(DM|CM)_(CC|MLO)$", re.IGNORECASE)
_CLASSES = ("Normal", "Benign", "Malignant")
_NONE = ("", "_", "-")
# By the letters in file names: what a record says, and the word in the table.
_KINDS = {"DM": ("low energy", "DM"), "CM": ("recombined", "CESM")}
ENERGIES = {"low": ("DM",), "recombined": ("CM",), "both": ("DM", "CM")}


@register_converter
class CddCesm(Converter):
    """Converter of CDD-CESM.

    Args:
        source: folder with the two tables and, anywhere below, the images.
        energy: "low", "recombined" or "both"; exam and record (``image_kind``) keep the two apart.

    Raises:
        ConverterError: a table that cannot be understood, a bad ``energy``.
    """

    name = "cdd_cesm"
    command = "cdd-cesm"
    summary = "CDD-CESM: contrast-enhanced, outlines, pathology"
    description = (
        "Prepare CDD-CESM, contrast-enhanced mammograms: the low energy images, or the recombined ones (--energy)."
    )
    source_help = "folder with Radiology-manual-annotations.xlsx, Radiology_hand_drawn_segmentations_v2.csv and images"
    label_facts: ClassVar[Facts] = {
        "finding": {"pathology": _CLASSES, "grades": ("", "one kind", "mixed"), **GRADE_FACT},
        "image": {"pathology": _CLASSES, **GRADE_FACT, "density": ("", "A", "B", "C", "D")},
    }

    def __init__(self, source: str | os.PathLike[str], energy: str = "low") -> None:
        super().__init__(source)
        if energy not in ENERGIES:
            raise ConverterError(f"energy {energy!r} must be one of {', '.join(ENERGIES)}")
        self.energy = energy

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        add_source_argument(parser, cls.source_help)
        text = "low energy images, recombined ones, or both as images of different exams"
        parser.add_argument("--energy", choices=tuple(ENERGIES), default="low", help=text)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> CddCesm:
        """See the base class."""
        return cls(args.source, args.energy)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "energy": self.energy}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; which of several regions is the cancer is unknown, and so is a region of a normal one."""
        finding = [
            rule(UNKNOWN, pathology=("Malignant",), grades=("mixed",)),
            rule("malignant", pathology=("Malignant",)),
            rule("benign", pathology=("Benign",)),
            rule(UNKNOWN, pathology=("Normal",)),
        ]
        return {"finding": finding, "image": [rule(name.lower(), pathology=(name,)) for name in _CLASSES]}

    def images(self) -> Iterator[SourceImage]:
        """See the base class."""
        table = self._table_file()
        rows = read_table_file(table, _COLUMNS, sheet="all", unique=("Image_name",))
        for row in rows:
            if not _NAME.match(row["Image_name"]):
                name = row["Image_name"]
                raise ConverterError(f"{table}, line {row['#']}: Image_name {name!r:.80} must read as P1_L_DM_CC")
        densities = {(row["Patient_ID"], row["Side"]): row[_DENSITY] for row in rows if row[_DENSITY] not in _NONE}
        regions = self._regions({row["Image_name"] for row in rows})
        files = {path.stem.strip().upper(): path for path in sorted(self.source.rglob("*.jpg")) if _is_image(path)}
        named = set()
        for row in rows:
            name, where = row["Image_name"], f"{table}, line {row['#']}"
            match = _NAME.match(name)
            assert match is not None
            named.add(name.upper())
            if match[3].upper() not in ENERGIES[self.energy]:
                continue
            path = files.get(name.upper())
            if path is None:
                self.skip(name, f"in {table.name}, but there is no such image")
                continue
            density = densities.get((row["Patient_ID"], row["Side"]), "")
            image = self._image(path, match, row, density, regions.get(name, ()), where)
            if image is not None:
                yield image
        for stem, path in files.items():
            if stem not in named:
                self.skip(path.relative_to(self.source).as_posix(), f"not in {table.name}")

    def _image(
        self,
        path: Path,
        match: re.Match[str],
        row: Mapping[str, str],
        density: str,
        regions: Sequence[tuple[str, str]],
        where: str,
    ) -> SourceImage | None:
        patient, side, kind, view = (text.upper() for text in match.groups())
        told = (row["Patient_ID"].upper().removeprefix("P"), row["Side"].upper()[:1], row["View"].upper())
        if told != (patient, side, view) or row["Type"].upper() != _KINDS[kind][1]:
            raise ConverterError(
                f"{where}: Patient_ID {row['Patient_ID']!r}, Side {row['Side']!r}, Type {row['Type']!r}, View "
                f"{row['View']!r} do not fit the name {row['Image_name']!r}; correct the one or the other"
            )
        if row[_PATHOLOGY] not in _CLASSES:
            raise ConverterError(f"{where}: {_PATHOLOGY} {row[_PATHOLOGY]!r:.80} must be one of {', '.join(_CLASSES)}")
        grades = _grades(row["BIRADS"], where)
        suspicious = {grade >= MALIGNANT_FROM for grade, _ in grades}
        birads = max(grades)[1] if grades else ""
        shapes = []
        for text, place in regions:
            shape = via_region(text, place)
            if shape is None:
                self.skip(path.name, f"{place}: region without an area")
            elif shape in shapes:
                self.skip(path.name, f"{place}: the same region again")
            else:
                shapes.append(shape)
        mixed = "mixed" if len(shapes) > 1 and len(suspicious) > 1 else "one kind"
        facts = {"pathology": row[_PATHOLOGY], "birads": birads, "grades": mixed if grades else ""}
        lesions = []
        for number, (box, polygons) in enumerate(shapes, start=1):
            category = self.rules.verdict("finding", facts, where)
            lesions.append(
                SourceAnnotation(category, box, polygons or None, row[_PATHOLOGY], f"{row['Image_name']}_{number}")
            )
        image_facts = {"pathology": row[_PATHOLOGY], "birads": birads, "density": density}
        labels = self.image_labels(path.name, {"image": image_facts}, (a.category for a in lesions), where)
        if labels is None:
            return None
        return SourceImage(
            path=path,
            key=f"P{patient}/{row['Image_name']}",
            source_name=path.relative_to(self.source).as_posix(),
            annotations=tuple(lesions),
            patient_id=f"P{patient}",
            # The same views in another kind of image are no further views of an exam.
            exam_id=f"P{patient}_{kind}",
            laterality=side,
            view=view,
            labels=labels,
            birads=birads or None,
            density=density or None,
            extra={"image_kind": _KINDS[kind][0]},
        )

    def _regions(self, names: set[str]) -> dict[str, list[tuple[str, str]]]:
        """Image name -> (shape, file and line) of its regions.

        Raises:
            ConverterError: a region of an image that the other table does not have.
        """
        path = self.source / "Radiology_hand_drawn_segmentations_v2.csv"
        regions: dict[str, list[tuple[str, str]]] = {}
        for row in read_table(path, _REGION_COLUMNS):
            file = row.get("#filename") or row.get("filename") or ""
            name, where = Path(file).stem.strip(), f"{path}, line {row['#']}"
            if name not in names:
                raise ConverterError(f"{where}: filename {file!r:.80} is no image of the other table; correct it")
            if row["region_shape_attributes"] not in ("", "{}"):
                regions.setdefault(name, []).append((row["region_shape_attributes"], where))
        return regions

    def _table_file(self) -> Path:
        for path in sorted(self.source.iterdir()):
            words = re.sub(r"[ _-]+", " ", path.stem.lower())
            if path.suffix.lower() in (".csv", ".xlsx") and words.startswith("radiology manual annotations"):
                return path
        raise FileNotFoundError(f"{self.source}: no Radiology-manual-annotations.xlsx in it; download it too")


def _is_image(path: Path) -> bool:
    return not path.name.startswith("._")


def _grades(text: str, where: str) -> list[tuple[int, str]]:
    """Grades of a row's findings, "4$2" -> [(4, "4"), (2, "2")]; none for "_"."""
    try:
        found = [parse_birads(part) for part in text.split("$") if part.strip() not in _NONE]
    except ValueError as error:
        raise ConverterError(f"{where}: BIRADS {error}, several joined by '$'") from error
    return [grade for grade in found if grade is not None]
