"""EMBED, open data: screening and diagnostic mammograms of Emory with findings, pathology and boxes.

Layout: ``tables/EMBED_OpenData_metadata.csv`` (a row per file) and ``EMBED_OpenData_clinical.csv`` (a row per finding),
or their ``_reduced`` forms, and ``images/cohort_1/<patient>/<study>/<image>.dcm``; or PNG copies anywhere below the
source, named by ``png_filename`` or like the DICOM file. Things to know about it:

* ``anon_dicom_path`` is a path of its makers; the part from ``cohort_`` on is used.
* Findings belong to a breast of an exam: patient, exam and side join the tables. See ``embed_findings`` for sides.
* ``FinalImageType`` mixes 2D mammograms with synthetic ones (C-view), tomosynthesis (3D) and screen copies (ROI_SS,
  ROI_SSC). ``image_types`` chooses; without more the 2D ones are taken.
* Spot and magnified views (``spot_mag`` 1) and breasts with an implant are skipped unless asked for.
* ``ROI_coords`` are lists of ymin, xmin, ymax, xmax. They do not say of which finding they are: a box has a category
  and a kind (mass, calcification, ...) only if all findings of its breast agree on it. Those of ``match_level`` 2 are
  copied from another image of the view.
* Pathology of a screening exam may be recorded with the diagnostic exam that followed it: findings of BI-RADS 0, 3, 4
  and 5 without pathology leave their breast unknown.
* A patient has several exams over the years, all in one split.

From the set's description and public readers; not checked against its files.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mammo_d2.core.files import path_problem
from mammo_d2.data.converters.birads import GRADES
from mammo_d2.data.converters.converter import Converter, ConverterError, SourceAnnotation, SourceImage, read_table
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule, rule
from mammo_d2.data.converters.public.screening import embed_findings
from mammo_d2.data.converters.public.screening.embed_findings import EmbedBreast, breasts_of, whole
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.converters.source_outlines import fit_to_file
from mammo_d2.data.reading.image_meta import ImageMeta, ReadOptions

IMAGE_TYPES = ("2d", "c-view")
EXAMS = ("all", "screening", "diagnostic")
_COLUMNS = (
    "empi_anon", "acc_anon", "anon_dicom_path", "FinalImageType", "ImageLateralityFinal", "ViewPosition", "ROI_coords",
)  # fmt: skip
_FURTHER = (
    "png_filename", "png_path", "spot_mag", "num_roi", "match_level", "Rows", "Columns", "BreastImplantPresent",
    "StudyDescription",
)  # fmt: skip
# Spellings of FinalImageType, in lower case.
_TYPES = {"2d": "2d", "c-view": "c-view", "cview": "c-view"}
_COHORT = re.compile(r"(?:^|[/\\])(cohort_\d+[/\\].+)$")
_FACTS = {"birads": ("", *GRADES), "pathology": ("", *embed_findings.SEVERITIES)}


@register_converter
class Embed(Converter):
    """Converter of EMBED's open data.

    Args:
        source: folder with the tables (or with a folder ``tables``) and, anywhere below, the images.
        image_types: "2d", "c-view" or both.
        exams: "all", "screening" or "diagnostic", by the description of the study.
        all_views: also spot and magnified views.
        implants: also breasts with an implant.
        read_options: how DICOM files become pixels.

    Raises:
        ConverterError: a bad argument, or a table that cannot be understood.
    """

    name = "embed"
    command = "embed"
    summary = "EMBED: exams over years, findings, pathology, boxes"
    description = (
        "Prepare EMBED's open data, from DICOM files or PNG copies. Without more: 2D mammograms, no spot or magnified\n"
        "views, no implants."
    )
    source_help = "folder with tables/ and, anywhere below, cohort_1/... (DICOM) or PNG copies"
    label_facts: ClassVar[Facts] = {"finding": _FACTS, "breast": {**_FACTS, "unsettled": ("yes", "no")}}

    def __init__(
        self,
        source: str | os.PathLike[str],
        image_types: Sequence[str] = ("2d",),
        exams: str = "all",
        all_views: bool = False,
        implants: bool = False,
        read_options: ReadOptions | None = None,
    ) -> None:
        super().__init__(source, read_options)
        if not image_types or not set(image_types) <= set(IMAGE_TYPES):
            raise ConverterError(f"image_types {list(image_types)} must be among {', '.join(IMAGE_TYPES)}")
        if exams not in EXAMS:
            raise ConverterError(f"exams {exams!r} must be one of {', '.join(EXAMS)}")
        self.image_types, self.exams = tuple(image_types), exams
        self.all_views, self.implants = all_views, implants

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        parser.add_argument("--image-types", nargs="+", choices=IMAGE_TYPES, default=["2d"],
                            help="2D mammograms, those made of tomosynthesis (C-view), or both")  # fmt: skip
        parser.add_argument("--exams", choices=EXAMS, default="all", help="by the description of the study")
        parser.add_argument("--all-views", action="store_true", help="also spot and magnified views")
        parser.add_argument("--implants", action="store_true", help="also breasts with an implant")

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Embed:
        """See the base class."""
        return cls(args.source, args.image_types, args.exams, args.all_views, args.implants, read_options(args))

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        chosen = {"image_types": list(self.image_types), "exams": self.exams}
        return {**super().parameters(), **chosen, "all_views": self.all_views, "implants": self.implants}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; only pathology and BI-RADS 1, 2 and 6 are certain."""
        certain = [
            rule("malignant", pathology=("0", "1")),
            rule("malignant", birads=("6",)),
        ]
        rest = rule(UNKNOWN, birads=("", *GRADES))
        return {
            "finding": [
                *certain,
                rule("benign", pathology=("2", "3", "4", "5")),
                rule("benign", birads=("2",), pathology=("",)),
                rest,
            ],
            "breast": [
                *certain,
                rule(UNKNOWN, unsettled=("yes",)),
                rule("benign", pathology=("2", "3", "4")),
                rule("normal", pathology=("5",)),
                rule("benign", birads=("2",), pathology=("",)),
                rule("normal", birads=("1",), pathology=("",)),
                rest,
            ],
        }

    def images(self) -> Iterator[SourceImage]:
        """See the base class; images in the order of the metadata."""
        clinical, metadata = self._table("clinical"), self._table("metadata")
        columns = embed_findings.CLINICAL_COLUMNS
        rows = read_table(clinical, columns, keep={*columns, *embed_findings.FURTHER_CLINICAL_COLUMNS})
        breasts = breasts_of(rows, clinical)
        files = self._files()
        for row in read_table(metadata, _COLUMNS, keep={*_COLUMNS, *_FURTHER}):
            where = f"{metadata}, line {row['#']}"
            match = _COHORT.search(row["anon_dicom_path"])
            relative = (match[1] if match else row["anon_dicom_path"]).replace("\\", "/")
            if problem := (path_problem(relative) if relative else "is empty"):
                raise ConverterError(f"{where}: anon_dicom_path {relative!r:.80} {problem}")
            side = row["ImageLateralityFinal"].upper()
            breast = breasts.get((whole(row["empi_anon"]), whole(row["acc_anon"]), side))
            if why := self._unwanted(row, breast):
                self.skip(relative, why)
                continue
            path = _find(files, relative, row)
            if path is None:
                self.skip(relative, "no such DICOM file, and no PNG copy of it")
                continue
            image = self._image(path, relative, row, side, breast, where)
            if image is not None:
                yield image

    def _unwanted(self, row: Mapping[str, str], breast: EmbedBreast | None) -> str:
        """Why an image is skipped, "" if it is not."""
        kind = row["FinalImageType"]
        if _TYPES.get(kind.lower()) not in self.image_types:
            return f"image type {kind or 'unknown'}"
        if not self.all_views and whole(row.get("spot_mag", "")) not in ("", "0"):
            return "spot or magnified view"
        if not self.implants and (
            row.get("BreastImplantPresent", "").upper() == "YES" or (breast is not None and breast.implant)
        ):
            return "implant"
        description = (breast.description if breast else "") or row.get("StudyDescription", "")
        exam = "screening" if "screen" in description.lower() else "diagnostic"
        return f"{exam} exam" if self.exams not in ("all", exam) else ""

    def _image(
        self, path: Path, relative: str, row: Mapping[str, str], side: str, breast: EmbedBreast | None, where: str
    ) -> SourceImage | None:
        boxes = read_boxes(row["ROI_coords"], where)
        promised, problem = whole(row.get("num_roi", "")), None
        if promised.isdigit() and int(promised) > len(boxes):
            problem = f"{where}: num_roi {promised}, but {len(boxes)} boxes in ROI_coords; correct the table"
        levels = _levels(row.get("match_level", ""), len(boxes))
        category = self._category(breast, where) if boxes else UNKNOWN
        verdicts = [category] * len(boxes)
        facts = {"breast": breast.facts} if breast else {}
        labels = self.image_labels(relative, facts, verdicts, where, complete=False)
        if labels is None:
            return None
        for verdict in verdicts:
            if verdict in labels:
                labels[verdict] = 1
        patient, exam = whole(row["empi_anon"]), whole(row["acc_anon"])
        stem = Path(relative).stem
        finding = {"finding": list(breast.kinds)} if breast and breast.kinds else {}
        annotations = tuple(
            SourceAnnotation(category, box, lesion_id=f"{stem}_{number}", extra={"match_level": level, **finding})
            for number, (box, level) in enumerate(zip(boxes, levels, strict=True), start=1)
        )
        rows, columns = whole(row.get("Rows", "")), whole(row.get("Columns", ""))
        drawn_on = (int(rows), int(columns)) if rows.isdigit() and columns.isdigit() else None
        return SourceImage(
            path=path,
            key=f"{patient}/{exam}/{stem}",
            source_name=path.relative_to(self.source).as_posix(),
            annotations=annotations,
            patient_id=patient,
            exam_id=exam,
            laterality=side if side in ("L", "R") else None,
            view=row["ViewPosition"].upper() or None,
            labels=labels,
            birads=(breast.facts["birads"] or None) if breast else None,
            density=(breast.density or None) if breast else None,
            extra={
                "image_type": _TYPES[row["FinalImageType"].lower()],
                "exam_description": (breast.description or None) if breast else None,
            },
            data={"drawn_on": drawn_on},
            problem=problem,
        )

    def _category(self, breast: EmbedBreast | None, where: str) -> str:
        """What a box in this breast is: unknown if its findings do not agree."""
        findings = breast.notable if breast else []
        verdicts = {self.rules.verdict("finding", finding.facts, where) for finding in findings}
        return verdicts.pop() if len(verdicts) == 1 else UNKNOWN

    def complete(self, image: SourceImage, pixels: np.ndarray, meta: ImageMeta) -> SourceImage:
        """See the base class; boxes are scaled to PNG copies of another size, where the metadata has the DICOM's."""
        image = super().complete(image, pixels, meta)
        drawn_on = image.data["drawn_on"]
        return fit_to_file(image, drawn_on, (pixels.shape[0], pixels.shape[1])) if drawn_on else image

    def _table(self, kind: str) -> Path:
        """The table of a kind; the reduced one first, which is read in a fraction of the time."""
        names = (f"EMBED_OpenData_{kind}_reduced.csv", f"EMBED_OpenData_{kind}.csv")
        for folder in (self.source / "tables", self.source):
            for name in names:
                if (folder / name).is_file():
                    return folder / name
        raise FileNotFoundError(f"{self.source}/tables/{names[1]}: no such table; download the data set's tables")

    def _files(self) -> dict[str, Path]:
        """Images by the part of their path from ``cohort_`` on, and PNG files by their name, too."""
        files: dict[str, Path] = {}
        for path in sorted(self.source.rglob("*")):
            suffix = path.suffix.lower()
            if suffix not in (".dcm", ".png"):
                continue
            match = _COHORT.search(path.relative_to(self.source).as_posix())
            if match:
                files[match[1]] = path
            if suffix == ".png":
                files[path.name] = path
        return files


def _find(files: Mapping[str, Path], relative: str, row: Mapping[str, str]) -> Path | None:
    """The DICOM file of a row, else its PNG copy."""
    name = Path(relative).name
    png = Path((row.get("png_filename") or row.get("png_path") or "").replace("\\", "/")).name
    names = (relative, png, f"{name}.png", f"{Path(name).stem}.png")
    return next((files[name] for name in names if name in files), None)


def read_boxes(text: str, where: str) -> list[tuple[float, float, float, float]]:
    """XYWH boxes of ``ROI_coords``, which has ymin, xmin, ymax, xmax of each.

    Raises:
        ConverterError: no such list, or a box without an area.
    """
    if text.lower() in ("", "nan", "none"):
        return []
    boxes = []
    try:
        for top, left, bottom, right in ast.literal_eval(text):
            boxes.append((float(left), float(top), float(right) - float(left), float(bottom) - float(top)))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ConverterError(
            f"{where}: ROI_coords {text!r:.80} must be a list of ymin, xmin, ymax, xmax: {error}"
        ) from None
    if any(not (box[2] > 0 and box[3] > 0) for box in boxes):
        raise ConverterError(
            f"{where}: ROI_coords {text!r:.80}: a box without an area; they are ymin, xmin, ymax, xmax"
        )
    return boxes


def _levels(text: str, count: int) -> list[int | None]:
    """``match_level`` of each box; None where it does not have as many."""
    levels = [int(number) for number in re.findall(r"\d+", text)]
    return [*levels] if len(levels) == count else [None] * count
