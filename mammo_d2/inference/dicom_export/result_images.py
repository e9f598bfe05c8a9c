"""Results to export as DICOM, of ``mammo-d2 predict`` or of any detector: per image its boxes and scores.

Boxes are XYXY in pixels of the source file, at pixel edges: the left edge of the first column is 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.core.files import read_json, sha256_file
from mammo_d2.evaluation.files.field_checks import (
    category_names,
    check_box,
    check_id,
    is_number,
    require_fields,
    require_list,
    shown,
)
from mammo_d2.evaluation.files.results import SOURCE_RESULTS_FILE, ResultsError
from mammo_d2.evaluation.files.source_pixels import results_to_source
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class
from mammo_d2.inference.prediction_journal import JOURNAL_FILE, read_journal
from mammo_d2.inference.result_files import COCO_FILE


@dataclass(frozen=True)
class ResultImage:
    """The results of one image.

    Attributes:
        number: of the image, from 1.
        name: of its source file as the results have it; may be a SOP Instance UID.
        size: (rows, columns) of the source file; None: not known.
        boxes: (N, 4) float64 XYXY in pixels of the source file.
        scores: (N,) float64 in [0, 1].
        labels: class of each box.
        image_scores: score of the image by class.
        identifiers: DICOM keyword (SOPInstanceUID, StudyInstanceUID) to its value, as it is or hashed.
    """

    number: int
    name: str
    size: tuple[int, int] | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    image_scores: Mapping[str, float]
    identifiers: Mapping[str, str]

    def best(self, threshold: float, top: int = 0) -> ResultImage:
        """The same with boxes of a score from ``threshold``, and of these the ``top`` best of each class (0: all)."""
        rows = np.flatnonzero(self.scores >= threshold)
        if top and len(rows):
            kinds = np.unique(np.array(self.labels, dtype=object), return_inverse=True)[1]
            rows = rows[np.sort(best_of_each_class(self.scores[rows], kinds[rows], top))]
        labels = tuple(self.labels[row] for row in rows)
        return replace(self, boxes=self.boxes[rows], scores=self.scores[rows], labels=labels)


@dataclass(frozen=True)
class ResultImages:
    """A file of results.

    Attributes:
        path: the file.
        images: with or without boxes.
        model: (name, version) of what predicted, where the file says it.
        frame: which frame of multi-frame files was predicted, from 0, where the file says it.
        digest: SHA-256 of the file.
    """

    path: Path
    images: Sequence[ResultImage]
    model: tuple[str, str] | None
    frame: int | None
    digest: str


def read_result_images(path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None) -> ResultImages:
    """Read results to export.

    Args:
        path: ``predictions.jsonl`` or ``predictions.json``, the folder of ``mammo-d2 predict`` that has them, another
            COCO file with scores, or COCO results (a list).
        images: COCO file with the images and categories of COCO results. Without it, their ``image_id`` must be the
            name of the file or its SOP Instance UID. Boxes on prepared images (those with ``transform``) are moved to
            the source file.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: not such a file; the message names entry, field and remedy.
    """
    path = Path(path)
    if path.is_dir():
        folder, path = path, next((path / name for name in (JOURNAL_FILE, COCO_FILE) if (path / name).is_file()), path)
        if path == folder:
            raise ResultsError(f"{path}: neither {JOURNAL_FILE} nor {COCO_FILE} in it; name the file of results")
    model, frame = None, None
    if path.suffix == ".jsonl":
        settings, records = read_journal(path)
        model, frame = _model_of(settings), _frame_of(settings)
        found = list(_of_records(records, str(path)))
    else:
        content = read_json(path, error=ResultsError)
        if isinstance(content, list):
            found = _of_results(content, path, images)
        else:
            found = _of_coco(content, str(path))
            model = _model_of_info(content.get("info"))
    if not found:
        raise ResultsError(f"{path}: no image has results; is it the right file?")
    return ResultImages(path, found, model, frame, sha256_file(path))


# --- mammo-d2 predict -------------------------------------------------------------------------------------------
def _of_records(records: Iterable[Mapping[str, Any]], where: str) -> Iterator[ResultImage]:
    for record in records:
        if "problem" in record:
            continue
        here = f"{where}: {record['file_name']}"
        require_fields(record, ("height", "width", "boxes", "image_scores"), here)
        for box in require_list(record, "boxes", here):
            require_fields(box, ("class", "score", "bbox"), here)
        entries = [{**box, "category_id": box["class"]} for box in record["boxes"]]
        yield _result_image(record, record["id"], record["file_name"], entries, here)


def _model_of(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    weights = settings.get("weights")
    if not isinstance(weights, list) or not weights:
        return None
    return "mammo_d2", f"{settings.get('version', '')} weights {' '.join(str(text)[:8] for text in weights)}"


def _model_of_info(info: Any) -> tuple[str, str] | None:
    """Of ``predictions.json``: "predictions of WEIGHTS by mammo_d2 VERSION, research software"."""
    text = str(info.get("description", "")) if isinstance(info, Mapping) else ""
    _, found, rest = text.partition(" by mammo_d2 ")
    return ("mammo_d2", rest.partition(",")[0]) if found else None


def _frame_of(settings: Mapping[str, Any]) -> int | None:
    preparation = settings.get("preparation")
    first = preparation[0] if isinstance(preparation, list) and preparation else {}
    frame = first.get("read", {}).get("frame") if isinstance(first, Mapping) else None
    return frame if isinstance(frame, int) else None


# --- COCO -------------------------------------------------------------------------------------------------------
def _of_coco(content: Any, where: str) -> list[ResultImage]:
    """A COCO file whose annotations have scores."""
    require_fields(content, ("images", "annotations", "categories"), where)
    names = category_names(require_list(content, "categories", where), where)
    annotations = require_list(content, "annotations", where)
    by_image = _by_image(annotations, f"{where}: annotations", names)
    images = require_list(content, "images", where)
    return list(_of_images(images, by_image, f"{where}: images"))


def _of_results(entries: list[Any], path: Path, images: str | os.PathLike[str] | None) -> list[ResultImage]:
    """COCO results, with or without the COCO file of their images."""
    if images is None:
        by_image = _by_image(entries, str(path), None)
        for number, image_id in enumerate(by_image):
            if not isinstance(image_id, str):
                raise ResultsError(
                    f"{path}[{number}]: image_id {shown(image_id)} is not the name of a file; name the COCO file of "
                    "the images with --images"
                )
        named = [{"id": image_id, "file_name": image_id} for image_id in by_image]
        return list(_of_images(named, by_image, str(path)))
    truth = read_json(images, error=ResultsError)
    require_fields(truth, ("images", "categories"), str(images))
    names = category_names(require_list(truth, "categories", str(images)), str(images))
    _by_image(entries, str(path), names)  # checks them
    listed = require_list(truth, "images", str(images))
    for number, image in enumerate(listed):
        require_fields(image, ("id", "file_name", "height", "width"), f"{images}: images[{number}]")
    if path.name != SOURCE_RESULTS_FILE:
        entries = results_to_source(entries, listed)
    return list(_of_images(map(_as_source, listed), _by_image(entries, str(path), names), f"{images}: images"))


def _as_source(image: Mapping[str, Any]) -> Mapping[str, Any]:
    """An image of a prepared data set as its source file."""
    source, transform = image.get("source"), image.get("transform")
    moved = dict(image)
    if isinstance(source, Mapping) and source.get("file"):
        moved["file_name"] = source["file"]
    if isinstance(transform, Mapping) and transform.get("source_size"):
        moved["height"], moved["width"] = transform["source_size"]
    return moved


def _by_image(
    entries: Sequence[Any], where: str, names: Mapping[int, str] | None
) -> dict[Any, list[Mapping[str, Any]]]:
    """Entries by image id, with the class name in ``category_id``."""
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(entries):
        here = f"{where}[{number}]"
        require_fields(entry, ("image_id", "category_id", "bbox", "score"), here)
        check_id(entry["image_id"], here, "image_id")
        category = entry["category_id"]
        if names is not None and (isinstance(category, bool) or not isinstance(category, int) or category not in names):
            raise ResultsError(f"{here}: category_id {shown(category)} is not among the categories")
        name = names[category] if names is not None else category if isinstance(category, str) else f"class {category}"
        by_image.setdefault(entry["image_id"], []).append({**entry, "category_id": name})
    return by_image


def _of_images(
    images: Iterable[Mapping[str, Any]], by_image: Mapping[Any, list[Mapping[str, Any]]], where: str
) -> Iterator[ResultImage]:
    known = set()
    images = list(images)
    ids = [image.get("id") if isinstance(image, Mapping) else None for image in images]
    numbered = all(isinstance(image_id, int) and image_id > 0 for image_id in ids)
    for number, image in enumerate(images, start=1):
        here = f"{where}[{number - 1}]"
        require_fields(image, ("id", "file_name"), here)
        check_id(image["id"], here)
        if not isinstance(image["file_name"], str) or not Path(image["file_name"]).name:
            raise ResultsError(f"{here}: file_name {shown(image['file_name'])} must be the path of a file")
        if image["id"] in known:
            raise ResultsError(f"{here}: id {shown(image['id'])} is there twice; image ids must be unique")
        known.add(image["id"])
        yield _result_image(
            image, image["id"] if numbered else number, image["file_name"], by_image.get(image["id"], []), here
        )
    if unknown := set(by_image) - known:
        raise ResultsError(f"{where}: there is none with id {shown(min(unknown, key=str))}, which has boxes")


def _result_image(
    facts: Mapping[str, Any], number: int, name: str, entries: Sequence[Mapping[str, Any]], where: str
) -> ResultImage:
    size = (facts.get("height"), facts.get("width"))
    scores = facts.get("image_scores") or {}
    if not isinstance(scores, Mapping):
        raise ResultsError(f"{where}: image_scores {shown(scores)} must be an object {{class: score}}")
    for entry in entries:
        check_box(entry["bbox"], where)
    known = {name: value for name, value in scores.items() if value is not None}
    for label, value in [*known.items(), *((entry["category_id"], entry["score"]) for entry in entries)]:
        if not is_number(value) or not 0 <= value <= 1:
            raise ResultsError(f"{where}: score {shown(value)} of {label} must be in [0, 1]")
    texts = {"SOPInstanceUID": facts.get("instance"), "StudyInstanceUID": facts.get("exam_id")}
    boxes = xywh_to_xyxy([entry["bbox"] for entry in entries]) if entries else np.zeros((0, 4))
    return ResultImage(
        number=number,
        name=name,
        size=(size[0], size[1]) if isinstance(size[0], int) and isinstance(size[1], int) else None,
        boxes=boxes,
        scores=np.array([entry["score"] for entry in entries], dtype=np.float64),
        labels=tuple(str(entry["category_id"]) for entry in entries),
        image_scores={str(label): float(value) for label, value in known.items()},
        identifiers={keyword: str(text) for keyword, text in texts.items() if text},
    )
