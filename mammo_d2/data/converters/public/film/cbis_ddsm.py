"""CBIS-DDSM: 3,032 film mammograms with masks and pathology (https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY, CC BY 3.0).

Needs the four ``*_case_description_*_set.csv`` files and the DICOM files in the folders the download makes,
``Mass-Training_P_00001_LEFT_CC/...`` for images and ``Mass-Training_P_00001_LEFT_CC_1/...`` for masks. Things to know:

* A row is a lesion; the DICOM Patient ID encodes case, view and lesion, so the CSV's ``patient_id`` is the patient.
* 31 patients are in both training and test once mass and calcification sets are put together.
* A view with a mass and a calcification is there twice; here it is one image with both.
* Paths of mask and crop are sometimes exchanged: the mask is the file of the image's size.
* Some masks differ in size from their image: if the shape agrees they are scaled, else the image is left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from mammo_d2.core.files import path_problem
from mammo_d2.data.converters.birads import GRADE_FACT, parse_birads
from mammo_d2.data.converters.converter import (
    Converter,
    ConverterError,
    SourceAnnotation,
    SourceImage,
    read_table,
)
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import Facts, LabelRule, rule
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.reading.image_meta import ImageMeta, ReadOptions
from mammo_d2.data.reading.reader import read_image

_PATHS = ("image file path", "cropped image file path", "ROI mask file path")
_COLUMNS = (
    "patient_id", "left or right breast", "image view", "abnormality id", "abnormality type", "assessment", "pathology",
    *_PATHS,
)  # fmt: skip
_PATHOLOGIES = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK")
_KINDS = ("mass", "calc")
# Most characters of a path: what every file system takes as one name.
_LONGEST = 255
# Largest relative difference between the sides' ratios of mask and image for which the mask is scaled.
_SHAPE_TOLERANCE = 0.02


@register_converter
class CbisDdsm(Converter):
    """Converter of CBIS-DDSM.

    Args:
        source: folder with the CSV files and, anywhere below, the downloaded case folders.
        kinds: "mass", "calc" or both.
        shared_patients: where patients go that the official sets have in training and test: "test", "train" or "drop".
        read_options: how DICOM files become pixels.
    """

    name = "cbis_ddsm"
    command = "cbis-ddsm"
    summary = "CBIS-DDSM: masks, pathology"
    description = (
        "Prepare CBIS-DDSM. The official training and test sets are kept; use --val-from-train for a validation set."
    )
    source_help = "folder with the four *_case_description_*_set.csv and, anywhere below, the downloaded case folders"

    label_facts: ClassVar[Facts] = {
        "finding": {"pathology": _PATHOLOGIES, **GRADE_FACT, "kind": ("mass", "calcification")}
    }

    def __init__(
        self,
        source: str | os.PathLike[str],
        kinds: Sequence[str] = _KINDS,
        shared_patients: str = "test",
        read_options: ReadOptions | None = None,
    ) -> None:
        super().__init__(source, read_options)
        if not kinds or not set(kinds) <= set(_KINDS):
            raise ConverterError(f"kinds {list(kinds)} must be among {', '.join(_KINDS)}")
        if shared_patients not in ("test", "train", "drop"):
            raise ConverterError(f"shared_patients {shared_patients!r} must be test, train or drop")
        self.kinds = tuple(kinds)
        self.shared_patients = shared_patients

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=list(_KINDS), help="lesions")
        parser.add_argument("--shared-patients", choices=("test", "train", "drop"), default="test",
                            help="where the patients go that are in both official sets")  # fmt: skip

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> CbisDdsm:
        """See the base class."""
        return cls(args.source, args.kinds, args.shared_patients, read_options(args))

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "kinds": list(self.kinds), "shared_patients": self.shared_patients}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class."""
        return {"finding": [rule("malignant", pathology=("MALIGNANT",)), rule("benign", pathology=_PATHOLOGIES[1:])]}

    def images(self) -> Iterator[SourceImage]:
        """See the base class; one image per patient, side and view."""
        views: dict[tuple[str, str, str], list[dict[str, str]]] = {}
        splits: dict[str, set[str]] = {}
        lesions: dict[tuple[str, ...], str] = {}
        for row in self.rows():
            place = f"{self.source / row['table']}, line {row['#']}"
            names = (*(row[c] for c in ("patient_id", "left or right breast", "image view", "abnormality id")), "")
            first = lesions.setdefault((*names, _kind(row), row["split"]), place)
            if first != place:
                raise ConverterError(f"{place}: {' '.join(names).strip()} is the lesion of line {first.split()[-1]}, "
                                     "too; remove one of them, or correct the abnormality id")  # fmt: skip
            views.setdefault((row["patient_id"], row["left or right breast"], row["image view"]), []).append(row)
            splits.setdefault(row["patient_id"], set()).add(row["split"])
        folders = self._case_folders()
        for (patient, side, view), rows in sorted(views.items()):
            own = splits[patient]
            split = next(iter(own)) if len(own) == 1 else self.shared_patients
            key = f"{patient}_{side}_{view}"
            if split == "drop":
                self.skip(key, "patient in both official sets")
                continue
            path = next((p for row in rows if (p := self._image_file(row["image file path"], folders))), None)
            if path is None:
                self.skip(key, f"no file for {rows[0]['image file path']}")
                continue
            image = self._image(path, key, rows, split, folders)
            if image is not None:
                yield image

    def rows(self) -> Iterator[dict[str, str]]:
        """Rows of the tables asked for, with "split" and the table's file name under "table".

        Raises:
            FileNotFoundError: none of the tables is there.
            ConverterError: a row with an unknown side, view or pathology, or a path out of the folder.
        """
        tables = [(k, s) for k in self.kinds for s in ("train", "test")]
        names = {(k, s): f"{k}_case_description_{s}_set.csv" for k, s in tables}
        present = [t for t in tables if (self.source / names[t]).is_file()]
        if not present:
            raise FileNotFoundError(
                f"{self.source}/{names[tables[0]]}: no such table; download the data set's CSV files"
            )
        for kind, split in present:
            path = self.source / names[kind, split]
            for row in read_table(path, _COLUMNS):
                where = f"{path}, line {row['#']}"
                row = {**row, "split": split, "table": path.name}
                checks = (("left or right breast", ("LEFT", "RIGHT")), ("image view", ("CC", "MLO")),
                          ("pathology", _PATHOLOGIES))  # fmt: skip
                for column, allowed in checks:
                    if row[column] not in allowed:
                        raise ConverterError(
                            f"{where}: {column} {row[column]!r:.80} must be one of {', '.join(allowed)}"
                        )
                for column in ("patient_id", *_PATHS):
                    problem = path_problem(row[column]) if row[column] else "is empty"
                    if problem or len(row[column]) > _LONGEST:
                        raise ConverterError(
                            f"{where}: {column} {row[column]!r:.80} {problem or 'is too long'}; write it as the data "
                            "set does, paths relative to its folder"
                        )
                try:
                    parse_birads(row["assessment"])
                except ValueError as error:
                    raise ConverterError(f"{where}: assessment {error}") from error
                yield row

    def complete(self, image: SourceImage, pixels: np.ndarray, meta: ImageMeta) -> SourceImage:
        """Find each lesion's outline in its mask file."""
        image = super().complete(image, pixels, meta)
        size = (pixels.shape[0], pixels.shape[1])
        lesions = []
        for annotation, files in zip(image.annotations, image.data["masks"], strict=True):
            mask = _read_mask([Path(f) for f in files], size)
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            x, y, w, h = cv2.boundingRect(np.concatenate(contours))
            polygons = [(c.reshape(-1) + 0.5).tolist() for c in contours if len(c) >= 3]
            lesions.append(
                replace(annotation, bbox=(float(x), float(y), float(w), float(h)), segmentation=polygons or None)
            )
        return replace(image, annotations=tuple(lesions))

    def _image(
        self, path: Path, key: str, rows: list[dict[str, str]], split: str, folders: dict[str, list[Path]]
    ) -> SourceImage | None:
        annotations, masks = [], []
        for row in rows:
            kind = _kind(row)
            lesion = f"{row['patient_id']}_{row['left or right breast']}_{kind}_{row['abnormality id']}"
            extra = {"finding": kind, "birads": row["assessment"]}
            where = f"{self.source / row['table']}, line {row['#']}"
            facts = {"pathology": row["pathology"], "birads": row["assessment"], "kind": kind}
            category = self.rules.verdict("finding", facts, where)
            annotations.append(SourceAnnotation(category, None, None, row["pathology"], lesion, extra))
            paths = (row["ROI mask file path"], row["cropped image file path"])
            found = {p for text in paths for p in self._files_of(text, folders)}
            masks.append(sorted(str(p) for p in found))
        labels = self.image_labels(key, {}, (a.category for a in annotations), key)
        if labels is None:
            return None
        density = next((row[c] for row in rows for c in ("breast_density", "breast density") if row.get(c)), None)
        return SourceImage(
            path=path,
            key=key,
            source_name=rows[0]["image file path"],
            annotations=tuple(annotations),
            patient_id=rows[0]["patient_id"],
            exam_id=rows[0]["patient_id"],
            laterality=rows[0]["left or right breast"][0],
            view=rows[0]["image view"],
            labels=labels,
            birads=max(row["assessment"] for row in rows),
            density=density,
            split=split,
            data={"masks": masks},
        )

    def _case_folders(self) -> dict[str, list[Path]]:
        """Case folder name -> its DICOM files, wherever below the source it lies."""
        folders: dict[str, list[Path]] = {}
        for path in sorted(self.source.rglob("*.dcm")):
            case = next(
                (part for part in path.relative_to(self.source).parts if part.startswith(("Mass-", "Calc-"))), None
            )
            if case:
                folders.setdefault(case, []).append(path)
        return folders

    def _files_of(self, csv_path: str, folders: dict[str, list[Path]]) -> list[Path]:
        exact = self.source / csv_path
        if exact.is_file():
            # Its neighbour may be the one that is meant: mask and crop are sometimes exchanged.
            return sorted(exact.parent.glob("*.dcm"))
        # The newer download names series and files differently but keeps the case folders.
        return folders.get(csv_path.split("/")[0], [])

    def _image_file(self, csv_path: str, folders: dict[str, list[Path]]) -> Path | None:
        files = self._files_of(csv_path, folders)
        return max(files, key=lambda p: p.stat().st_size) if files else None


def _kind(row: Mapping[str, str]) -> str:
    """The kind of lesion, by the table that the row is in."""
    return "calcification" if row["table"].startswith("calc") else "mass"


def _read_mask(files: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """The mask among a lesion's files, bool of ``size``.

    Raises:
        ValueError: no file has the image's shape, or the mask is empty.
    """
    seen = []
    for path in files:
        pixels, meta = read_image(path, ReadOptions(voi="none"))
        seen.append(f"{path.name} {pixels.shape}")
        ratio = (pixels.shape[0] / pixels.shape[1]) / (size[0] / size[1])
        # A crop may happen to have the image's shape, but not its two values.
        if abs(ratio - 1) > _SHAPE_TOLERANCE or len(np.unique(pixels[:: max(1, len(pixels) // 64)])) > 2:
            continue
        mask = pixels > 0.5 * meta.max_value if meta.max_value > 1 else pixels > 0
        if pixels.shape != size:
            mask = cv2.resize(mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST) > 0
        if not mask.any():
            raise ValueError(f"{path}: the lesion's mask is empty; leave the image out")
        return mask
    raise ValueError(
        f"no mask of the image's shape {size} among {', '.join(seen) or 'no files'}; download the lesion's folder "
        "again, or leave the image out"
    )
