"""Any folder of DICOM mammograms, with or without truth.

Truth is a COCO file (``file_name`` relative to the folder) or a CSV table, both in pixels of the DICOM files. Without
truth all labels are unknown. Only the tags named in ``ImageMeta`` go out, and identifiers only as keyed hashes unless
they are asked for; private tags, names, dates and descriptions are never read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mammo_d2.data.converters.base import (
    Converter,
    ConverterError,
    SourceAnnotation,
    SourceImage,
    labels_from,
    read_table,
)
from mammo_d2.data.dicom import is_dicom, read_dicom_meta
from mammo_d2.data.image_meta import ImageMeta, ImageReadError, ReadOptions
from mammo_d2.data.schema import load_coco
from mammo_d2.data.schema_checks import LABELS

# Image keys of a truth file that the pipeline makes itself or that hold geometry; everything else is passed on.
_OWN_KEYS = ("id", "file_name", "height", "width", "source", "transform", "breast_box")
_FACTS = ("patient_id", "exam_id", "laterality", "view", "labels", "birads", "density")
_POINTS = ("nipple", "pectoral")
_SCREENING_EXCLUDES = ("magnification", "spot compression", "specimen")


class DicomFolder(Converter):
    """Converter of a folder of DICOM files.

    Args:
        source: the folder, searched with all its sub-folders; other files are skipped.
        truth: COCO JSON or CSV with labels and boxes, or None. A CSV has the column ``file`` (path relative to the
            folder, or SOP Instance UID) and any of ``category, x, y, width, height, benign, malignant, patient_id,
            laterality, view, split``; one row per lesion, or one without box for an image.
        read_options: how files become pixels.
        keep_ids: keep patient and exam identifiers and file names as they are, instead of hashing them.
        id_salt: secret text in the hashes; give one where identifiers are guessable.
        all_views: also take spot compression, magnification and specimen images.
        name: of the data set.

    Raises:
        FileNotFoundError, ConverterError, SchemaError: a missing or wrong truth file.
    """

    name = "dicom"

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
    ) -> None:
        super().__init__(source, read_options)
        self.name = name
        self.truth = Path(truth) if truth else None
        self.keep_ids = keep_ids
        self.id_salt = id_salt
        self.all_views = all_views
        self._records: dict[str, dict[str, Any]] = {}
        if self.truth is not None:
            self._records = _read_csv(self.truth) if self.truth.suffix.lower() == ".csv" else _read_coco(self.truth)

    def parameters(self) -> dict[str, Any]:
        """See the base class; the salt itself is not recorded."""
        return {
            **super().parameters(),
            "truth": self.truth.name if self.truth else None,
            "keep_ids": self.keep_ids,
            "salted": bool(self.id_salt),
            "all_views": self.all_views,
        }

    def images(self) -> Iterator[SourceImage]:
        """See the base class; with truth, only the files that it lists.

        Raises:
            ConverterError: the truth lists a file that is not in the folder.
        """
        used: set[str] = set()
        for path in sorted(p for p in self.source.rglob("*") if p.is_file()):
            relative = path.relative_to(self.source).as_posix()
            meta = self._meta(path, relative)
            if meta is None:
                continue
            record: Mapping[str, Any] = {}
            if self.truth is not None:
                name = next((n for n in (relative, meta.sop_instance_uid or "") if n in self._records), None)
                if name is None:
                    self.skip(relative, f"not in {self.truth.name}")
                    continue
                used.add(name)
                record = self._records[name]
            yield self._image(path, relative, meta, record)
        unused = sorted(set(self._records) - used)
        if unused:
            raise ConverterError(
                f"{self.truth}: {len(unused)} files are not in {self.source}, e.g. {unused[0]!r}; file names are "
                "relative to that folder"
            )

    def _meta(self, path: Path, relative: str) -> ImageMeta | None:
        """The file's meta, or None (and a note) for what is no screening mammogram."""
        try:
            if not is_dicom(path) and path.suffix.lower() not in (".dcm", ".dicom"):
                self.skip(relative, "not a DICOM file")
                return None
            meta = read_dicom_meta(path)
        except ImageReadError as error:
            if path.suffix.lower() in (".dcm", ".dicom") and "without an image" not in str(error):
                # Let the pipeline meet it again and put it into the error table.
                return ImageMeta(str(path), "dicom", 1, 1, 16, 65535.0)
            self.skip(relative, error.problem)
            return None
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
        if self.keep_ids:
            key, source_name = stem, relative
        else:
            # File names often hold names or identifiers.
            patient = self._hashed(patient) if patient else None
            exam = self._hashed(exam) if exam else None
            parts = [patient or "unknown", laterality, view, self._hashed(relative)[:8]]
            key = source_name = "_".join(part for part in parts if part)
        categories = [a.category for a in record.get("annotations", ())]
        labels = record.get("labels")
        if labels is None and categories:
            labels = labels_from(categories, known=False)
        return SourceImage(
            path=path,
            key=key,
            source_name=source_name,
            annotations=tuple(record.get("annotations", ())),
            patient_id=patient,
            exam_id=exam,
            laterality=laterality,
            view=view,
            labels=labels,
            birads=record.get("birads"),
            density=record.get("density"),
            breast_box=record.get("breast_box"),
            split=record.get("split"),
            points=record.get("points", {}),
            boxes=record.get("boxes", {}),
            extra=record.get("extra", {}),
        )

    def _hashed(self, text: str) -> str:
        return hmac.new(self.id_salt.encode(), text.encode(), hashlib.sha256).hexdigest()[:16]


def _read_coco(path: Path) -> dict[str, dict[str, Any]]:
    """File name -> facts from a COCO file in source pixels."""
    data = load_coco(path, clip_boxes=False)
    names = {c["id"]: c["name"] for c in data["categories"]}
    wrong = sorted(set(names.values()) - set(LABELS))
    if wrong:
        raise ConverterError(f"{path}: category {wrong[0]!r}; the categories must be among {', '.join(LABELS)}")
    records: dict[str, dict[str, Any]] = {}
    by_id: dict[int, dict[str, Any]] = {}
    for image in data["images"]:
        handled = (*_OWN_KEYS, *_FACTS, *_POINTS, "split", "pixel_spacing", "pixel_spacing_source")
        record = {key: image.get(key) for key in (*_FACTS, "breast_box", "split")}
        record["annotations"] = []
        record["points"] = {key: image[key] for key in _POINTS if key in image}
        record["boxes"] = {}
        record["extra"] = {key: value for key, value in image.items() if key not in handled}
        records[image["file_name"]] = by_id[image["id"]] = record
    for annotation in data["annotations"]:
        extra = {
            key: value
            for key, value in annotation.items()
            if key
            not in (
                "id",
                "image_id",
                "category_id",
                "bbox",
                "area",
                "iscrowd",
                "segmentation",
                "pathology",
                "lesion_id",
            )
        }
        by_id[annotation["image_id"]]["annotations"].append(
            SourceAnnotation(
                names[annotation["category_id"]],
                tuple(annotation["bbox"]),
                annotation.get("segmentation"),
                annotation.get("pathology"),
                annotation.get("lesion_id"),
                extra,
            )
        )
    for distractor in data.get("distractors", ()):
        by_id[distractor["image_id"]]["boxes"].setdefault("distractors", []).append(distractor["bbox"])
    return records


def _read_csv(path: Path) -> dict[str, dict[str, Any]]:
    """File name -> facts from a CSV table; see ``DicomFolder``."""
    records: dict[str, dict[str, Any]] = {}
    for row in read_table(path, ["file"]):
        where = f"{path}, row {row['#']}"
        record = records.setdefault(row["file"], {"annotations": [], "labels": None})
        for key in ("patient_id", "exam_id", "laterality", "view", "birads", "density", "split"):
            if row.get(key):
                record[key] = row[key]
        given = {name: row.get(name, "") for name in LABELS}
        if any(given.values()):
            record["labels"] = {n: _label(v, where, n) for n, v in given.items()}
        corners = [row.get(name, "") for name in ("x", "y", "width", "height")]
        if not any(corners):
            continue
        if row.get("category") not in LABELS:
            raise ConverterError(f"{where}: category {row.get('category')!r} must be one of {', '.join(LABELS)}")
        try:
            x, y, w, h = (float(v) for v in corners)
        except ValueError:
            raise ConverterError(f"{where}: x, y, width, height = {corners} must be four numbers") from None
        annotation = SourceAnnotation(
            row["category"], (x, y, w, h), None, row["category"], row.get("lesion_id") or None
        )
        record["annotations"].append(annotation)
    return records


def _label(value: str, where: str, name: str) -> int | None:
    if value not in ("", "0", "1"):
        raise ConverterError(f"{where}: {name} {value!r} must be 0, 1 or empty (unknown)")
    return int(value) if value else None
