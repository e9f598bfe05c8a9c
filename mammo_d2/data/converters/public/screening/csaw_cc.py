"""CSAW-CC: the case-control part of the Cohort of Screen-Aged Women (Karolinska): labels of cancer, masks of tumours.

Layout: ``CSAW-CC_breast_cancer_screening_data.csv`` (a row per image), and anywhere below the source the DICOM files
that it names (``00001_20990909_L_CC_1.dcm``) and masks (``00001_20990909_L_CC_1_mask.png``). Things to know about it:

* ``x_...`` columns are facts of the woman and repeated in all her rows: ``x_case`` 1 has a cancer some day, in the
  breast ``x_cancer_laterality``. What an image shows depends on ``rad_timing``, the time from its examination to the
  diagnosis: 1 found by it, 2 in the two years after it (interval cancer), 3 later.
* So only breasts with a cancer found by the examination are malignant; those of interval cancers and of earlier
  examinations are unknown unless they have a mask. The other breast, and women without cancer, are not malignant;
  whether something is benign in them is unknown. ``--labels`` changes all of that.
* The date in the file names is the same for all; ``exam_year`` tells examinations apart.
* A mask has a part per tumour. A mask of a breast that has no cancer by the table leaves out its image.

From the set's description and public readers; not checked against its files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from mammo_d2.core.files import path_problem
from mammo_d2.data.converters.converter import Converter, ConverterError, SourceAnnotation, SourceImage, read_table
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule, rule
from mammo_d2.data.converters.source_outlines import mask_outlines, same_shape
from mammo_d2.data.reading.image_meta import ImageMeta, ReadOptions
from mammo_d2.data.reading.reader import read_image

TABLE = "CSAW-CC_breast_cancer_screening_data.csv"
_COLUMNS = (
    "anon_patientid", "exam_year", "x_case", "x_cancer_laterality", "rad_timing", "imagelaterality", "viewposition",
    "anon_filename",
)  # fmt: skip
_FACTS = {
    "case": ("0", "1"),
    "timing": ("", "1", "2", "3"),
    "cancer": ("same breast", "other breast", ""),
}
_SIDES = {"left": "L", "l": "L", "right": "R", "r": "R"}


@register_converter
class CsawCc(Converter):
    """Converter of CSAW-CC.

    Args:
        source: folder with the table and, anywhere below, images and masks.
        read_options: how DICOM files become pixels.

    Raises:
        ConverterError: a table that cannot be understood.
    """

    name = "csaw_cc"
    command = "csaw-cc"
    summary = "CSAW-CC: screening, cancers and masks"
    description = (
        "Prepare CSAW-CC. Breasts whose cancer was found by the examination are malignant; those with one found later\n"
        "are unknown unless they have a mask."
    )
    source_help = f"folder with {TABLE} and, anywhere below, images and masks"
    label_facts: ClassVar[Facts] = {"finding": _FACTS, "breast": _FACTS}

    def __init__(self, source: str | os.PathLike[str], read_options: ReadOptions | None = None) -> None:
        super().__init__(source, read_options)

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class."""
        return {
            "finding": [rule("malignant", case=("1",)), rule(UNKNOWN, case=("0",))],
            "breast": [
                rule("malignant", cancer=("same breast",), timing=("1",)),
                rule("not malignant", cancer=("other breast",)),
                rule("not malignant", case=("0",)),
                rule(UNKNOWN, case=("1",)),
            ],
        }

    def images(self) -> Iterator[SourceImage]:
        """See the base class; images in the table's order."""
        path = self._table()
        files = {p.name: p for p in sorted(self.source.rglob("*")) if p.suffix.lower() in (".dcm", ".png")}
        for row in read_table(path, _COLUMNS, unique=("anon_filename",)):
            name, where = row["anon_filename"], f"{path}, line {row['#']}"
            if problem := (path_problem(name) if name else "is empty"):
                raise ConverterError(f"{where}: anon_filename {name!r:.80} {problem}")
            file = files.get(Path(name).name)
            if file is None:
                self.skip(name, f"in {path.name}, but there is no such file")
                continue
            image = self._image(file, row, where, files.get(f"{Path(name).stem}_mask.png"))
            if image is not None:
                yield image

    def _image(self, path: Path, row: Mapping[str, str], where: str, mask: Path | None) -> SourceImage | None:
        side, timing, case = _side(row["imagelaterality"]), _whole(row["rad_timing"]), _whole(row["x_case"])
        if case not in ("0", "1") or timing not in ("", "1", "2", "3"):
            raise ConverterError(
                f"{where}: x_case {row['x_case']!r:.40} must be 0 or 1, rad_timing {row['rad_timing']!r:.40} 1 to 3 or "
                "empty"
            )
        cancer = _side(row["x_cancer_laterality"]) if case == "1" else None
        relation = "" if side is None or cancer is None else ("same breast" if cancer == side else "other breast")
        facts = {"case": case, "timing": timing, "cancer": relation}
        verdicts = [self.rules.verdict("finding", facts, f"{mask}")] if mask else []
        labels = self.image_labels(row["anon_filename"], {"breast": facts}, verdicts, where)
        if labels is None:
            return None
        problem = None
        if mask and (case == "0" or relation == "other breast"):
            problem = f"{mask}: a tumour in a breast that has no cancer by {where}; correct the one or the other"
        for verdict in verdicts:
            if verdict in labels:
                labels[verdict] = 1
        patient, density = row["anon_patientid"], row.get("libra_percentdensity")
        return SourceImage(
            path=path,
            key=f"{patient}/{path.stem}",
            source_name=path.relative_to(self.source).as_posix(),
            # One for all of the mask's tumours, until the mask is read.
            annotations=tuple(SourceAnnotation(verdict, None, pathology="cancer") for verdict in verdicts),
            patient_id=patient,
            exam_id=f"{patient}_{row['exam_year']}",
            laterality=side,
            view=row["viewposition"].upper() or None,
            labels=labels,
            extra={
                "exam_year": _number(row["exam_year"]),
                "timing": timing or None,
                "libra_percent_density": _number(density),
            },
            data={"mask": str(mask) if mask else None},
            problem=problem,
        )

    def complete(self, image: SourceImage, pixels: np.ndarray, meta: ImageMeta) -> SourceImage:
        """See the base class; a lesion for each part of the mask.

        Raises:
            ValueError: an empty mask, or one of another shape than its image.
        """
        image = super().complete(image, pixels, meta)
        if image.data["mask"] is None:
            return image
        path, size = Path(image.data["mask"]), (pixels.shape[0], pixels.shape[1])
        mask = read_image(path)[0] > 0
        if not same_shape((mask.shape[0], mask.shape[1]), size):
            raise ValueError(f"{path}: a mask of {mask.shape}, its image has {size} (height, width); fetch both again")
        if mask.shape != size:
            mask = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
        # Single pixels are slips of the pen.
        parts = [(box, polygons) for box, polygons in mask_outlines(mask) if max(box[2:]) > 1]
        if not parts:
            raise ValueError(f"{path}: the mask is empty; leave out the image, or the mask")
        (first,) = image.annotations
        stem = image.path.stem
        lesions = [
            replace(first, bbox=box, segmentation=polygons or None, lesion_id=f"{stem}_{number}")
            for number, (box, polygons) in enumerate(parts, start=1)
        ]
        return replace(image, annotations=tuple(lesions))

    def _table(self) -> Path:
        exact = self.source / TABLE
        others = sorted(p for p in self.source.glob("*.csv") if "csaw" in p.name.lower())
        return exact if exact.is_file() or not others else others[0]


def _side(text: str) -> str | None:
    """ "L" or "R"; None for what is neither."""
    return _SIDES.get(text.strip().lower())


def _whole(text: str) -> str:
    """ "1.0" -> "1"; tables with missing values write whole numbers so."""
    return "" if text.lower() == "nan" else text.removesuffix(".0")


def _number(text: str | None) -> float | int | None:
    """The number of a cell; None if it has none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    if number != number:
        return None
    return int(number) if number.is_integer() else number
