"""INbreast: 410 digital mammograms of 115 cases with exact contours, BI-RADS instead of pathology.

Layout: ``AllDICOMs/<id>_<patient hash>_MG_<L|R>_<CC|ML>_ANON.dcm``, ``AllXML/<id>.xml``, ``INbreast.csv`` (separated by
semicolons). Things to know about it:

* Patient ID reads "removed"; the hash in the file name stands for the patient.
* "ML" in the names means MLO; a few are FB.
* A few patients have images of several dates (``Acquisition date``, year and month): these are exams of their own.
* The XML is an OsiriX property list; a contour may have one point or none.
* An image of BI-RADS 0 (incomplete) with a contour is left out.
* An image of BI-RADS 4 or higher without a contour is a positive image without a box: methods that learn from image
  labels use it, the samplers for detectors do not draw it. ``unlocated`` "drop" leaves it out.
* There is no pathology: images of BI-RADS 4, 5, 6 count as malignant, 2 and 3 as benign, as in the literature.
"""

from __future__ import annotations

import argparse
import os
import plistlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

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
from mammo_d2.data.converters.label_rules import LEFT_OUT, Facts, LabelRule
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.reading.image_meta import ReadOptions

_FILE = re.compile(r"^(\d+)_([0-9a-f]+)_MG_([LR])_(CC|ML|FB)_ANON\.dcm$", re.IGNORECASE)
# Year, month and day as far as they are there.
_DATE = re.compile(r"^(19|20)\d\d((0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])?)?$")
_POINT = re.compile(r"^\(\s*([-+0-9.eE]+)\s*,\s*([-+0-9.eE]+)\s*\)$")
# Spellings that occur for one kind of finding, by the start of the name in lower case.
_FINDINGS = {
    "calcification": "calcification", "cluster": "cluster", "mass": "mass", "spiculated": "spiculated region",
    "espiculated": "spiculated region", "asymmetry": "asymmetry", "assymetry": "asymmetry", "distortion": "distortion",
}  # fmt: skip


@register_converter
class Inbreast(AssessedConverter):
    """Converter of INbreast.

    Args:
        source: folder with AllDICOMs, AllXML and INbreast.csv.
        malignant_from: least BI-RADS that counts as malignant.
        read_options: how DICOM files become pixels.
        unlocated: "keep" or "drop" malignant images without a contour.

    Raises:
        ConverterError: a table or XML file that cannot be understood, a bad ``unlocated``.
    """

    name = "inbreast"
    command = "inbreast"
    summary = "INbreast: contours, BI-RADS"
    description = "Prepare INbreast. It has no pathology: BI-RADS from --malignant-from on counts as malignant."
    source_help = "folder with AllDICOMs, AllXML and INbreast.csv"
    # The assessment is the image's; its contours have it, too.
    label_facts: ClassVar[Facts] = {"finding": GRADE_FACT, "image": {**GRADE_FACT, "density": ("", "1", "2", "3", "4")}}

    def __init__(
        self,
        source: str | os.PathLike[str],
        malignant_from: int = MALIGNANT_FROM,
        read_options: ReadOptions | None = None,
        unlocated: str = "keep",
    ) -> None:
        super().__init__(source, malignant_from, read_options)
        if unlocated not in ("drop", "keep"):
            raise ConverterError(f"unlocated {unlocated!r} must be drop or keep")
        self.unlocated = unlocated

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        parser.add_argument("--unlocated", choices=("drop", "keep"), default="keep",
                            help="malignant images without a contour")  # fmt: skip

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Inbreast:
        """See the base class."""
        return cls(args.source, args.malignant_from, read_options(args), args.unlocated)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "unlocated": self.unlocated}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; an image of BI-RADS 0 (incomplete) with a contour is left out."""
        findings = birads_findings(self.malignant_from, incomplete=LEFT_OUT)
        return {"finding": findings, "image": birads_breasts(self.malignant_from)}

    def images(self) -> Iterator[SourceImage]:
        """See the base class."""
        table = {}
        path, columns = self.source / "INbreast.csv", ("File Name", "ACR", "Bi-Rads")
        for row in read_table(path, columns, delimiter=";", unique=("File Name",)):
            table[row["File Name"]] = row
        for path in sorted((self.source / "AllDICOMs").glob("*.dcm")):
            match = _FILE.match(path.name)
            if match is None:
                self.skip(path.name, "name is not <id>_<hash>_MG_<L|R>_<CC|ML>_ANON.dcm")
            elif match[1] not in table:
                self.skip(path.name, "not in INbreast.csv")
            else:
                image = self._image(path, match, table[match[1]])
                if image is not None:
                    yield image

    def _image(self, path: Path, match: re.Match[str], row: dict[str, str]) -> SourceImage | None:
        where = f"{self.source / 'INbreast.csv'}, line {row['#']}"
        try:
            grade = parse_birads(row["Bi-Rads"])
        except ValueError as error:
            raise ConverterError(f"{where}: Bi-Rads {error}") from error
        if grade is None:
            raise ConverterError(f"{where}: Bi-Rads is empty; every image has one")
        annotations = []
        contours: list[tuple[str, list[tuple[float, float]]]] = []
        problem = None
        try:
            contours = read_contours(self._contour_file(match[1]))
        except ConverterError as error:
            problem = str(error)
        for number, (finding, points) in enumerate(contours, start=1):
            if len(points) < 3:
                self.skip(f"{match[1]} finding {number}", f"{finding} of {len(points)} points has no area")
                continue
            if (finding, points) in contours[: number - 1]:
                self.skip(f"{match[1]} finding {number}", f"{finding} of the same contour again")
                continue
            xs, ys = [x for x, _ in points], [y for _, y in points]
            # Contour points are pixel positions; half a pixel on each side makes them edges.
            if max(*xs, *ys) <= 1:
                problem = f"{self._contour_file(match[1])}: contour {number} lies within the first pixel; write pixels"
            box = (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
            polygon = [round(v + 0.5, 2) for point in points for v in point]
            category = self.rules.verdict("finding", {"birads": grade[1]}, where)
            annotations.append(
                SourceAnnotation(category, box, [polygon], None, f"{match[1]}_{number}", {"finding": finding})
            )
        density = row["ACR"].strip()
        date = row.get("Acquisition date", "")
        date = date if _DATE.match(date) else ""
        facts = {"image": {"birads": grade[1], "density": density}}
        labels = self.image_labels(path.name, facts, (a.category for a in annotations), where)
        if labels is None:
            return None
        if labels["malignant"] and not annotations and problem is None and self.unlocated == "drop":
            self.skip(path.name, f"BI-RADS {grade[1]} without a contour")
            return None
        view = {"ML": "MLO"}.get(match[4].upper(), match[4].upper())
        return SourceImage(
            path=path,
            key=match[1],
            source_name=f"AllDICOMs/{path.name}",
            annotations=tuple(annotations),
            patient_id=match[2],
            exam_id=f"{match[2]}_{date}" if date else match[2],
            exam_time=date or None,
            laterality=match[3].upper(),
            view=view,
            labels=labels,
            birads=grade[1],
            density=density or None,
            problem=problem,
        )

    def _contour_file(self, name: str) -> Path:
        return self.source / "AllXML" / f"{name}.xml"


def read_contours(path: str | os.PathLike[str]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Findings of an OsiriX XML file as (kind, [(x, y), ...] in pixels); none if there is no such file.

    Raises:
        ConverterError: the file is no property list, or a point cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        content = plistlib.loads(path.read_bytes())
        regions = content["Images"][0]["ROIs"]
    # The parser raises errors of many kinds for damaged files.
    except Exception as error:
        raise ConverterError(f"{path}: not an OsiriX property list with Images and ROIs ({error})") from error
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise ConverterError(f"{path}: ROIs must be a list of dictionaries; export the contours again")
    findings = []
    for region in regions:
        points = []
        texts = region.get("Point_px", [])
        if not isinstance(texts, list):
            raise ConverterError(
                f"{path}: Point_px of {region.get('Name')!r} must be a list; export the contours again"
            )
        for text in texts:
            match = _POINT.match(str(text))
            if match is None:
                raise ConverterError(f"{path}: point {text!r} of {region.get('Name')!r} must read (x, y)")
            points.append((float(match[1]), float(match[2])))
        name = str(region.get("Name", "")).strip().lower()
        kind = next((kind for start, kind in _FINDINGS.items() if name.startswith(start)), "unnamed")
        findings.append((kind, points))
    return findings
