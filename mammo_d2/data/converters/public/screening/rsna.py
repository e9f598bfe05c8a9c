"""RSNA Screening Mammography 2022: cancer labels per breast, no boxes.

Layout: ``train.csv``, ``train_images/<patient_id>/<image_id>.dcm`` (many JPEG 2000), or a PNG copy with files
``<patient_id>/<image_id>.png`` or ``<patient_id>_<image_id>.png``; the widespread ones have 8 bits and 256 to 1,024
pixels a side, and were squashed to squares (from their public descriptions, not checked against files).
As there are no boxes this is for methods that learn from image labels; to a detector of malignant lesions alone it
can add negative images.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from mammo_d2.data.converters.converter import Converter, ConverterError, SourceImage, read_table
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import Facts, LabelRule, rule
from mammo_d2.data.converters.png_copies import add_png_argument, find_pngs, note_squashed
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.reading.image_meta import ReadOptions

_COLUMNS = ("site_id", "patient_id", "image_id", "laterality", "view", "cancer", "biopsy", "implant")


@register_converter
class Rsna(Converter):
    """Converter of the RSNA 2022 training set.

    Args:
        source: folder with train.csv and train_images.
        implants: also take breasts with an implant.
        read_options: how DICOM files become pixels.
        pngs: folder of a PNG copy that is read instead of the DICOM files; images that it lacks are skipped.
    """

    name = "rsna"
    command = "rsna"
    summary = "RSNA 2022: labels without boxes"
    description = (
        "Prepare the training set of RSNA Screening Mammography 2022. It has no boxes: for image-level methods."
    )
    source_help = "folder with train.csv and train_images/"
    label_facts: ClassVar[Facts] = {
        "breast": {
            "cancer": ("0", "1"), "biopsy": ("0", "1"), "invasive": ("0", "1"), "birads": ("", "0", "1", "2"),
            "density": ("", "A", "B", "C", "D"), "difficult_negative_case": ("", "True", "False"),
        }
    }  # fmt: skip

    def __init__(
        self,
        source: str | os.PathLike[str],
        implants: bool = False,
        read_options: ReadOptions | None = None,
        pngs: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(source, read_options)
        self.implants = implants
        self.pngs = pngs

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        parser.add_argument("--implants", action="store_true", help="also breasts with an implant")
        add_png_argument(parser)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Rsna:
        """See the base class."""
        return cls(args.source, args.implants, read_options(args), args.pngs)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "implants": self.implants, "pngs": self.pngs is not None}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; a biopsy without cancer found something benign, without a biopsy this is unknown."""
        rows = [rule("malignant", cancer=("1",)), rule("benign", biopsy=("1",)), rule("not malignant", biopsy=("0",))]
        return {"breast": rows}

    def images(self) -> Iterator[SourceImage]:
        """See the base class."""
        path = self.source / "train.csv"
        pngs = find_pngs(self.pngs) if self.pngs else None
        if pngs:
            note_squashed(self, next(iter(pngs.values())))
        for row in read_table(path, _COLUMNS, unique=("patient_id", "image_id")):
            for column in ("cancer", "biopsy", "implant"):
                if row[column] not in ("0", "1"):
                    raise ConverterError(f"{path}, line {row['#']}: {column} {row[column]!r} must be 0 or 1")
            relative = f"train_images/{row['patient_id']}/{row['image_id']}.dcm"
            if row["implant"] == "1" and not self.implants:
                self.skip(relative, "implant")
                continue
            file = self.source / relative if pngs is None else pngs.get((row["patient_id"], row["image_id"]))
            if file is None:
                self.skip(relative, "not in the PNG copy")
                continue
            where = f"{path}, line {row['#']}"
            birads = _number(row.get("BIRADS", ""), where)
            facts = {name: row.get(name, "") for name in self.label_facts["breast"]}
            facts["birads"] = "" if birads is None else str(birads)
            labels = self.image_labels(relative, {"breast": facts}, (), where)
            if labels is None:
                continue
            yield SourceImage(
                path=file,
                key=f"{row['patient_id']}/{row['image_id']}",
                source_name=relative,
                patient_id=row["patient_id"],
                exam_id=row["patient_id"],
                laterality=row["laterality"] or None,
                view=row["view"] or None,
                labels=labels,
                birads=birads,
                density=row.get("density") or None,
                kinds=("implant",) if row["implant"] == "1" else (),
                extra={"site": row["site_id"], "difficult_negative": row.get("difficult_negative_case") == "True"},
            )


def _number(text: str, where: str) -> int | None:
    """ "2.0" -> 2; the table's numbers come with a decimal point where some are missing."""
    if text not in ("", *(f"{grade}{tail}" for grade in range(7) for tail in ("", ".0"))):
        raise ConverterError(f"{where}: BIRADS {text!r} must be a grade from 0 to 6, or empty")
    return int(float(text)) if text else None
