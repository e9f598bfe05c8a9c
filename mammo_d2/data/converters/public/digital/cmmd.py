"""CMMD: Chinese mammograms with biopsy results per breast, no boxes.

Source: https://doi.org/10.7937/tcia.eqde-4b16, CC BY 4.0.

Needs the DICOM files (any layout) and the clinical table ``CMMD_clinicaldata_revision`` with the columns ID1,
LeftRight, abnormality, classification, subtype: as CSV, or as .xlsx if openpyxl is installed. Patient ID, laterality
and view come from the DICOM tags.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mammo_d2.data.converters.converter import Converter, ConverterError, SourceImage
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.header_listing import header_problem, read_header
from mammo_d2.data.converters.label_rules import Facts, LabelRule, rule
from mammo_d2.data.converters.workbook import read_table_file
from mammo_d2.data.reading.image_meta import ReadOptions

_COLUMNS = ("ID1", "LeftRight", "abnormality", "classification")
_CLASSES = ("Benign", "Malignant")


@register_converter
class Cmmd(Converter):
    """Converter of CMMD.

    Args:
        source: folder with the DICOM files and, directly in it, the clinical table.
        read_options: how DICOM files become pixels.
    """

    name = "cmmd"
    command = "cmmd"
    summary = "CMMD: labels without boxes"
    description = "Prepare CMMD. It has no boxes: for image-level methods."
    source_help = "folder with the DICOM files and CMMD_clinicaldata_revision.csv (or .xlsx)"
    label_facts: ClassVar[Facts] = {"breast": {"classification": _CLASSES, "abnormality": None, "subtype": None}}

    def __init__(self, source: str | os.PathLike[str], read_options: ReadOptions | None = None) -> None:
        super().__init__(source, read_options)

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; a breast with a cancer may have something benign too."""
        rows = [rule(name.lower(), classification=(name,)) for name in _CLASSES]
        return {"breast": rows}

    def images(self) -> Iterator[SourceImage]:
        """See the base class; images of breasts without a row are skipped."""
        table, place = self._table(), self._table_file()
        for path, meta in self.listing.look(read_header, sorted(self.source.rglob("*.dcm"))):
            relative = path.relative_to(self.source).as_posix()
            if isinstance(meta, Exception):
                self.skip(relative, header_problem(meta))
                continue
            row = table.get((meta.patient_id or "", meta.laterality or ""))
            if row is None:
                self.skip(relative, f"no row for patient {meta.patient_id}, side {meta.laterality}")
                continue
            facts = {name: row.get(name, "") for name in self.label_facts["breast"]}
            labels = self.image_labels(relative, {"breast": facts}, (), f"{place}, line {row['#']}")
            if labels is None:
                continue
            yield SourceImage(
                path=path,
                key=f"{meta.patient_id}/{meta.laterality}_{meta.view}_{path.stem}",
                source_name=relative,
                patient_id=meta.patient_id,
                exam_id=meta.patient_id,
                laterality=meta.laterality,
                view=meta.view,
                labels=labels,
                extra={"abnormality": row["abnormality"], "subtype": row.get("subtype") or None},
            )

    def _table(self) -> dict[tuple[str, str], dict[str, str]]:
        """(patient, side) -> row; malignant wins where a breast has several."""
        path = self._table_file()
        rows = read_table_file(path, _COLUMNS)
        table: dict[tuple[str, str], dict[str, str]] = {}
        for row in rows:
            if row["classification"] not in _CLASSES or row["LeftRight"] not in ("L", "R"):
                raise ConverterError(
                    f"{path}, line {row['#']}: classification {row['classification']!r} must be Benign or Malignant, "
                    f"LeftRight {row['LeftRight']!r} L or R"
                )
            key = (row["ID1"], row["LeftRight"])
            if key not in table or row["classification"] == "Malignant":
                table[key] = row
        return table

    def _table_file(self) -> Path:
        for path in sorted(self.source.iterdir()):
            if path.suffix.lower() in (".csv", ".xlsx") and "clinical" in path.name.lower():
                return path
        raise FileNotFoundError(f"{self.source}: no CMMD_clinicaldata_revision.csv or .xlsx in it; download it too")
