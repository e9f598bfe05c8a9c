"""KAU-BCMD: digital mammograms of Saudi women in folders by BI-RADS, no boxes (https://doi.org/10.3390/data6110111).

Layout: a folder per grade, spelt ``Birad1`` or ``BIRAD 1`` (there is none for grade 2), with ``2018_BC005421_CC_R.jpg``
(or .dcm) in it or in folders below; ``correctSheetlast.xlsx`` with the density is used if it is there. Things to know,
from the set's description and public readers, not checked against its files:

* Names hold the year of the exam, the patient, the view and the side. A patient may have exams of several years.
* Names may hold blanks. Masks, reports and ultrasound images lie beside the mammograms; what is not named as above is
  skipped.
* Some images lie in the folders of two grades: their grade is unknown.
* The description speaks of cases by BI-RADS, so the grade counts as the exam's: an exam of 4 or 5 does not say which
  of its images are suspicious, and they are unknown. Who knows better gives label rules with a table ``breast``.
* There is no pathology and there are no boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mammo_d2.data.converters.birads import GRADE_FACT, AssessedConverter, birads_breasts
from mammo_d2.data.converters.converter import ConverterError, SourceImage
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import Facts, LabelRule
from mammo_d2.data.converters.workbook import read_cells

_GRADE_FOLDER = re.compile(r"^bi-?rads?[ _]*([0-6])$", re.IGNORECASE)
_NAME = re.compile(r"^(\d{4})_(BC\d+)_(CC|MLO)_([LR])$", re.IGNORECASE)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".dcm")
# How the workbook gives the part of glandular tissue, as density letters of BI-RADS.
_DENSITIES = {"0%-25%": "A", "26%-50%": "B", "51%-75%": "C", ">75%": "D"}


@register_converter
class KauBcmd(AssessedConverter):
    """Converter of KAU-BCMD.

    Args:
        source: folder with the folders of the grades.
        malignant_from: least BI-RADS that counts as malignant.
        read_options: how DICOM files become pixels.
    """

    name = "kau_bcmd"
    command = "kau-bcmd"
    summary = "KAU-BCMD: BI-RADS per exam without boxes"
    description = (
        "Prepare KAU-BCMD. It has no boxes, and the BI-RADS of a whole exam: images of suspicious exams are unknown\n"
        "unless label rules (--labels) take the grade as that of the breast."
    )
    source_help = "folder with Birad1, Birad3, Birad4, Birad5 and perhaps correctSheetlast.xlsx"
    label_facts: ClassVar[Facts] = {"breast": GRADE_FACT, "exam": GRADE_FACT}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class."""
        return {"exam": birads_breasts(self.malignant_from)}

    def images(self) -> Iterator[SourceImage]:
        """See the base class."""
        found: dict[str, dict[str, Path]] = {}
        for path in sorted(p for p in self.source.rglob("*") if p.suffix.lower() in _SUFFIXES):
            relative = path.relative_to(self.source)
            grades = {match[1] for part in relative.parts[:-1] if (match := _GRADE_FOLDER.match(part))}
            stem = path.stem.replace(" ", "").upper()
            if len(grades) == 1 and _NAME.match(stem):
                first = found.setdefault(stem, {}).setdefault(grades.pop(), path)
                if first != path:
                    self.skip(relative.as_posix(), f"the image of {first.relative_to(self.source).as_posix()} again")
            else:
                self.skip(relative.as_posix(), "no name such as 2018_BC005421_CC_R in the folder of a grade")
        if not found:
            raise FileNotFoundError(
                f"{self.source}: no Birad1/.../2018_BC005421_CC_R.jpg or the like; check the folder"
            )
        densities = self._densities()
        for stem, files in sorted(found.items()):
            image = self._image(stem, files, densities.get(stem))
            if image is not None:
                yield image

    def _image(self, stem: str, files: Mapping[str, Path], density: str | None) -> SourceImage | None:
        match = _NAME.match(stem)
        assert match is not None
        path = files[min(files)]
        relative = path.relative_to(self.source).as_posix()
        birads = min(files)
        if len(files) > 1:
            self.skip(relative, f"in the folders of BI-RADS {' and '.join(sorted(files))}: its grade is unknown")
            birads = ""
        facts = {"birads": birads}
        labels = self.image_labels(relative, {"breast": facts, "exam": facts}, (), str(path))
        if labels is None:
            return None
        year, patient, view, side = match.groups()
        return SourceImage(
            path=path,
            key=f"{patient}/{stem}",
            source_name=relative,
            patient_id=patient,
            exam_id=f"{patient}_{year}",
            exam_time=year,
            laterality=side,
            view=view,
            labels=labels,
            birads=birads or None,
            density=density,
        )

    def _densities(self) -> dict[str, str]:
        """Image name without blanks -> density letter, where there is the workbook."""
        path = self.source / "correctSheetlast.xlsx"
        if not path.is_file():
            self.skip(path.name, "not there: densities are unknown")
            return {}
        header, *body = read_cells(path, "correctSheet") or [[]]
        names = [re.sub(r"\s+", " ", name).lower() for name in header]
        images = [place for place, name in enumerate(names) if name == "image path"]
        tissue = [place for place, name in enumerate(names) if "density" in name]
        if not images or not tissue:
            raise ConverterError(
                f"{path}: its columns are {', '.join(names)}; 'Image path' and a density must be there"
            )
        densities: dict[str, str] = {}
        for number, row in enumerate(body, start=2):
            stem = re.split(r"[/\\]", row[images[0]])[-1].rsplit(".", 1)[0].replace(" ", "").upper()
            value = row[tissue[0]].replace(" ", "")
            if not stem or not value:
                continue
            if value not in _DENSITIES:
                self.skip(
                    path.name, f"line {number}: density {value!r:.40} is none of {', '.join(_DENSITIES)}; unknown"
                )
                continue
            if densities.setdefault(stem, _DENSITIES[value]) != _DENSITIES[value]:
                raise ConverterError(f"{path}, line {number}: another density of {stem} than in an earlier line")
        return densities
