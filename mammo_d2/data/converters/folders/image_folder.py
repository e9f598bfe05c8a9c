"""Any folder of PNG, TIFF, PGM or JPEG mammograms, with or without truth (a CSV table or a COCO file, see ``truth``).

Such files know nothing but their pixels: patients, exams and the pixel spacing come from the truth, laterality and view
from the truth or from the file's name ("0_L-CC.png"). Names and identifiers are kept as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from mammo_d2.data.breast.breast_window import view_in_name
from mammo_d2.data.converters.converter import SourceImage
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.source_arguments import add_source_argument
from mammo_d2.data.converters.truth_columns import TruthColumns
from mammo_d2.data.converters.truth_files import FolderWithTruth, add_truth_arguments, truth_help
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.data.reading.reader import IMAGE_SUFFIXES

SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in (".dcm", ".dicom"))


@register_converter
class ImageFolder(FolderWithTruth):
    """Converter of a folder of image files.

    Args:
        source: the folder, searched with all its sub-folders; other files are skipped.
        truth: COCO JSON or table with labels and boxes, or None; with truth, only the files that it lists.
        read_options: ``bits`` of 16-bit files that hold fewer.
        name: of the data set.
        labels: YAML file of label rules for a truth table.
        columns: of a truth table with names of its own.

    Raises:
        FileNotFoundError, ConverterError, SchemaError, LabelRuleError: a missing or wrong truth file, or label rules.
    """

    name = "images"
    command = "images"
    summary = "a folder of PNG, TIFF, PGM or JPEG mammograms"
    description = (
        "Prepare a folder of grey PNG, TIFF, PGM or JPEG files. Laterality and view that the truth does not give are\n"
        "taken from file names such as 0_L-CC.png; names and identifiers are kept as they are.\n\n"
        + truth_help("path relative to the folder")
    )
    source_help = "folder of PNG, TIFF, PGM or JPEG files, with sub-folders"

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        add_source_argument(parser, cls.source_help)
        add_truth_arguments(parser, "the files")
        parser.add_argument("--bits", type=int, default=0,
                            help="used bits of 16-bit files, e.g. 12 if pixels go up to 4095 (0: all)")  # fmt: skip

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> ImageFolder:
        """See the base class."""
        if args.bits and args.keep_files:
            raise ValueError("--bits scales the pixels, --keep-files leaves the files as they are; drop one of them")
        columns = TruthColumns(args.columns, args.ignore_columns)
        options = ReadOptions(bits=args.bits)
        converter = cls(args.source, args.truth, options, name=args.out.name, labels=args.labels, columns=columns)
        converter.tell_truth()
        return converter

    def images(self) -> Iterator[SourceImage]:
        """See the base class.

        Raises:
            ConverterError: the truth lists a file that is not in the folder.
        """
        for path in sorted(p for p in self.source.rglob("*") if p.is_file()):
            relative = path.relative_to(self.source).as_posix()
            if path.suffix.lower() not in SUFFIXES:
                self.skip(relative, f"not one of {', '.join(SUFFIXES)}; DICOM files have a command of their own, dicom")
                continue
            record = self.facts(relative)
            if record is None:
                continue
            annotations = tuple(record.get("annotations", ()))
            laterality, view = view_in_name(path.name)
            yield SourceImage(
                path=path,
                key=relative[: -len(path.suffix)],
                source_name=relative,
                annotations=annotations,
                patient_id=_text(record.get("patient_id")),
                exam_id=_text(record.get("exam_id")),
                laterality=record.get("laterality") or laterality,
                view=record.get("view") or view,
                labels=record["labels"],
                birads=record.get("birads"),
                density=record.get("density"),
                pixel_spacing=record.get("pixel_spacing"),
                pixel_spacing_source=record.get("pixel_spacing_source"),
                breast_box=record.get("breast_box"),
                split=record.get("split"),
                points=record.get("points", {}),
                boxes=record.get("boxes", {}),
                extra=record.get("extra", {}),
                kinds=tuple(record.get("kinds", "").split()),
                exam_time=record.get("exam_date"),
            )
        self.truth.check_all_found(self.source, self.skipped)


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
