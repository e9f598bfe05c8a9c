"""Any folder of DICOM mammograms, with or without truth.

Truth is a COCO file (``file_name`` relative to the folder) or a CSV table, both in pixels of the DICOM files. Without
truth all labels are unknown. Only the tags named in ``ImageMeta`` go out, and identifiers only as keyed hashes unless
they are asked for (the key lies in ``id_salt.txt`` of the data set); private tags, names, dates and descriptions are
never read.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.files import read_json
from mammo_d2.core.identifiers import SALT_FILE, hashed_identifier, make_salt, read_salt
from mammo_d2.data.converters.converter import SourceImage
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.header_listing import read_header
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.converters.truth_columns import TruthColumns
from mammo_d2.data.converters.truth_files import FolderWithTruth, add_truth_arguments, truth_help
from mammo_d2.data.reading.dicom.dicom_file import is_dicom
from mammo_d2.data.reading.image_meta import FULL_SCALE_16_BIT, ImageMeta, ImageReadError, ReadOptions
from mammo_d2.data.reading.reader import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

_SUFFIXES = (".dcm", ".dicom")
_SCREENING_EXCLUDES = ("magnification", "spot compression", "specimen")


@register_converter
class DicomFolder(FolderWithTruth):
    """Converter of a folder of DICOM files.

    Args:
        source: the folder, searched with all its sub-folders; other files are skipped.
        truth: COCO JSON or table (see ``truth``) with labels and boxes, or None.
        read_options: how files become pixels.
        keep_ids: keep identifiers of patients, exams and lesions and file names as they are, instead of hashing them.
        id_salt: secret text in the hashes. Without one, identifiers of a few digits are found again in seconds by
            hashing all of them; the command ``prepare dicom`` always has one (see ``salt_of``).
        all_views: also take spot compression, magnification and specimen images.
        name: of the data set.
        labels: YAML file of label rules for a truth table.
        columns: of a truth table with names of its own.

    Raises:
        FileNotFoundError, ConverterError, SchemaError, LabelRuleError: a missing or wrong truth file, or label rules.
    """

    name = "dicom"
    command = "dicom"
    summary = "a folder of DICOM mammograms"
    description = "Prepare a folder of DICOM mammograms.\n\n" + truth_help(
        "path relative to the folder, or SOP Instance UID"
    )
    source_help = "folder of DICOM files, with sub-folders"

    def __init__(
        self,
        source: str | os.PathLike[str],
        truth: str | os.PathLike[str] | None = None,
        read_options: ReadOptions | None = None,
        *,
        keep_ids: bool = False,
        id_salt: str = "",
        all_views: bool = False,
        name: str = "dicom",
        labels: str | os.PathLike[str] | None = None,
        columns: TruthColumns | None = None,
    ) -> None:
        super().__init__(source, truth, read_options, name, labels, columns)
        self.keep_ids = keep_ids
        self.id_salt = id_salt
        self.all_views = all_views
        # File -> another file of the same SOP Instance UID; filled by ``images``.
        self.same_instance: dict[Path, Path] = {}

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        add_truth_arguments(parser, "the DICOM files")
        parser.add_argument("--keep-ids", action="store_true",
                            help="keep identifiers and file names, rather than hash them")  # fmt: skip
        parser.add_argument(
            "--id-salt", default="", help=f"secret text in the hashes [a random one in OUT/{SALT_FILE}]"
        )
        parser.add_argument("--all-views", action="store_true", help="also spot, magnification and specimen images")

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> DicomFolder:
        """See the base class; without --id-salt the data set's own salt is used, and made at its first preparation."""
        converter = cls(
            args.source,
            args.truth,
            read_options(args),
            keep_ids=args.keep_ids,
            id_salt=args.id_salt,
            all_views=args.all_views or bool({"spot", "magnification", "specimen"} & set(args.take)),
            name=args.out.name,
            labels=args.labels,
            columns=TruthColumns(args.columns, args.ignore_columns),
        )
        converter.tell_truth()
        # After the checks of the source: nothing is written for a mistyped folder.
        if not args.id_salt and not args.keep_ids:
            converter.id_salt = salt_of(args.out, make=not args.dry_run)
        return converter

    def parameters(self) -> dict[str, Any]:
        """See the base class; the salt itself is not recorded."""
        return {
            **super().parameters(),
            "keep_ids": self.keep_ids,
            "salted": bool(self.id_salt),
            "all_views": self.all_views,
        }

    def images(self) -> Iterator[SourceImage]:
        """See the base class; with truth, only the files that it lists.

        Raises:
            ConverterError: the truth lists a file that is not in the folder.
        """
        instances: dict[str, Path] = {}
        files = sorted(p for p in self.source.rglob("*") if p.is_file())
        for path, header in self.listing.look(_header, files):
            relative = path.relative_to(self.source).as_posix()
            meta = self._meta(path, relative, header)
            if meta is None:
                continue
            record = self.facts(relative, meta.sop_instance_uid)
            if record is None:
                continue
            if meta.sop_instance_uid:
                first = instances.setdefault(meta.sop_instance_uid, path)
                if first != path:
                    self.same_instance |= {path: first, first: path}
            yield self._image(path, relative, meta, record)
        self.truth.check_all_found(self.source, self.skipped)

    def read(self, image: SourceImage) -> tuple[np.ndarray, ImageMeta]:
        """See the base class; warns of files that share a SOP Instance UID, which is unique by the standard."""
        pixels, meta = super().read(image)
        other = self.same_instance.get(image.path)
        if other is not None:
            warning = f"its SOP Instance UID is that of {other}, too: one image twice, or a wrong UID; remove one"
            meta = replace(meta, warnings=(*meta.warnings, warning))
        return pixels, meta

    def _meta(self, path: Path, relative: str, header: ImageMeta | Exception | None) -> ImageMeta | None:
        """The file's meta, or None (and a note) for what is no screening mammogram."""
        if header is None:
            known = path.suffix.lower() in IMAGE_SUFFIXES
            self.skip(relative, "not a DICOM file" + ("; prepare it with the command images" if known else ""))
            return None
        if isinstance(header, Exception):
            named = path.suffix.lower() in _SUFFIXES and "without an image" not in str(header)
            if named or not isinstance(header, ImageReadError):
                # The pipeline reads the file again and lists the error.
                return ImageMeta(str(path), "dicom", 1, 1, 16, FULL_SCALE_16_BIT)
            self.skip(relative, header.problem)
            return None
        meta = header
        excluded = [m for m in (*meta.view_modifiers, meta.view or "") if m.lower() in _SCREENING_EXCLUDES]
        if excluded and not self.all_views:
            self.skip(relative, f"{excluded[0]} image")
            return None
        return meta

    def _image(self, path: Path, relative: str, meta: ImageMeta, record: Mapping[str, Any]) -> SourceImage:
        patient = str(record.get("patient_id") or meta.patient_id or "") or None
        exam = str(record.get("exam_id") or meta.exam_id or "") or None
        stem = relative[: -len(path.suffix)] if path.suffix else relative
        laterality, view = record.get("laterality") or meta.laterality, record.get("view") or meta.view
        annotations = tuple(record.get("annotations", ()))
        if self.keep_ids:
            key, source_name = stem, relative
        else:
            # File names often hold names or identifiers.
            patient = self._hashed(patient) if patient else None
            exam = self._hashed(exam) if exam else None
            annotations = tuple(
                a if a.lesion_id is None else replace(a, lesion_id=self._hashed(str(a.lesion_id))) for a in annotations
            )
            parts = [patient or "unknown", laterality, view, self._hashed(relative)[:8]]
            key = source_name = "_".join(part for part in parts if part)
        return SourceImage(
            path=path,
            key=key,
            source_name=source_name,
            annotations=annotations,
            patient_id=patient,
            exam_id=exam,
            laterality=laterality,
            view=view,
            labels=record["labels"],
            birads=record.get("birads"),
            density=record.get("density"),
            breast_box=record.get("breast_box"),
            split=record.get("split"),
            points=record.get("points", {}),
            boxes=record.get("boxes", {}),
            extra=record.get("extra", {}),
            kinds=(*meta.kinds, *record.get("kinds", "").split()),
            # The truth's dates may be written in another way: in one of the two for all files.
            exam_time=record.get("exam_date") or (None if self.truth.dated else meta.study_date),
        )

    def _hashed(self, text: str) -> str:
        return hashed_identifier(text, self.id_salt)


def _header(path: Path) -> ImageMeta | ImageReadError | OSError | None:
    """What the header says, why it cannot be read, or None of what is no DICOM file."""
    try:
        if not is_dicom(path) and path.suffix.lower() not in _SUFFIXES:
            return None
    except OSError as error:
        return error
    return read_header(path)


def salt_of(out: Path, make: bool) -> str:
    """The secret text in the hashes of a data set, kept in its folder so that a repeated run gives the same names.

    A data set that was prepared without one keeps its names: it has no salt.

    Args:
        out: folder of the prepared data set.
        make: write a new random salt if there is none.

    Raises:
        ValueError: the file is empty, or the data set was prepared with a salt that is not in the file.
    """
    path, manifest = out / SALT_FILE, out / "manifest.json"
    if salt := read_salt(out):
        return salt
    if manifest.is_file():
        content = read_json(manifest)
        converter = content.get("converter") if isinstance(content, dict) else None
        if isinstance(converter, dict) and converter.get("salted"):
            raise ValueError(
                f"{manifest}: identifiers were hashed with a salt that is not in {path}; give it with --id-salt, or "
                "prepare into another folder"
            )
        if isinstance(converter, dict) and converter.get("keep_ids") is False:
            logger.warning(
                "%s: identifiers were hashed without a salt, so that short ones can be found again; they stay so. "
                "Prepare into another folder for new ones", manifest,
            )  # fmt: skip
            return ""
    return make_salt(out) if make else secrets.token_hex(16)
