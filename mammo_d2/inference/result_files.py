"""Result files of predictions, written image by image: ``predictions.json`` (COCO), two tables and the table of errors.

They are made of result records: what ``predictions.jsonl`` has a line of for every file. A record is JSON-ready:

* ``id``: number of the file, from 1; the image id in all result files.
* ``file_name``: the file as it was given.
* ``problem``: why there is no prediction; then all that follows is missing.
* ``height``, ``width``, ``patient_id``, ``exam_id``, ``laterality``, ``view``, ``pixel_spacing``,
  ``pixel_spacing_source``, ``image_scores`` ({class: score}), ``preparation`` (the transform to what the model saw).
* ``boxes``: a list of {``class``, ``score``, ``bbox``: XYWH in pixels of the file}, by falling score.
* ``outside``: number of boxes left out because they lie beside the breast.
* ``warnings``: texts; ``instance``: the DICOM SOP instance, hashed as the other identifiers are, or null.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from mammo_d2.core.files import atomic_write
from mammo_d2.core.lesion_classes import CATEGORIES

COCO_FILE, TABLE_FILE, ERROR_FILE, SCORE_FILE = (
    "predictions.json", "predictions.csv", "errors.csv", "image_scores.csv",
)  # fmt: skip
SCORE_COLUMNS = ("image_id", "file", "patient_id", "laterality", "view")
TABLE_COLUMNS = (
    "file", "patient_id", "laterality", "view", "class", "score",
    "x", "y", "width", "height", "x_mm", "y_mm", "width_mm", "height_mm",
)  # fmt: skip
ERROR_COLUMNS = ("level", "file", "problem")
# Fields of a record that an image of the COCO file has.
_IMAGE_FIELDS = (
    "id", "file_name", "height", "width", "patient_id", "exam_id", "laterality", "view", "pixel_spacing",
    "pixel_spacing_source", "image_scores", "preparation",
)  # fmt: skip


@dataclass(frozen=True)
class ResultCounts:
    """What the result files hold.

    Attributes:
        images: files with a prediction.
        boxes: on them.
        problems: files without one.
        duplicates: files that are the same SOP instance as a file before.
        outside: boxes that were left out because they lie beside the breast.
    """

    images: int = 0
    boxes: int = 0
    problems: int = 0
    duplicates: int = 0
    outside: int = 0


def category_ids(classes: Sequence[str]) -> dict[str, int]:
    """COCO category id of each class: those of the package's format for its names, the next free ones for others."""
    known = {str(category["name"]): cast(int, category["id"]) for category in CATEGORIES}
    others = iter(range(len(known) + 1, len(known) + 1 + len(classes)))
    return {name: known[name] if name in known else next(others) for name in classes}


def coco_categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    """The list ``categories`` of the COCO file, by id."""
    pairs = sorted(category_ids(classes).items(), key=lambda item: item[1])
    return [{"id": number, "name": name} for name, number in pairs]


def coco_image(record: Mapping[str, Any]) -> dict[str, Any]:
    """The COCO image of a record with a prediction."""
    return {name: record[name] for name in _IMAGE_FIELDS}


def coco_annotations(record: Mapping[str, Any], ids: Mapping[str, int], first: int) -> Iterator[dict[str, Any]]:
    """The COCO annotations of a record, with a score.

    Args:
        record: with a prediction.
        ids: category id by class.
        first: id of the first annotation.
    """
    for number, box in enumerate(record["boxes"], start=first):
        yield {
            "id": number,
            "image_id": record["id"],
            "category_id": ids[box["class"]],
            "bbox": box["bbox"],
            "area": box["bbox"][2] * box["bbox"][3],
            "iscrowd": 0,
            "score": box["score"],
        }


def box_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per box with the columns ``TABLE_COLUMNS``; millimetres only where the file knows its pixel spacing."""
    for box in record["boxes"]:
        x, y, width, height = box["bbox"]
        row = {"file": record["file_name"], **{name: record[name] for name in TABLE_COLUMNS[1:4]}}
        row |= {"class": box["class"], "score": round(box["score"], 6)}
        row |= {name: round(value, 3) for name, value in zip(TABLE_COLUMNS[6:10], box["bbox"], strict=True)}
        if record["pixel_spacing"] is not None:
            rows_mm, columns_mm = record["pixel_spacing"]
            in_mm = (x * columns_mm, y * rows_mm, width * columns_mm, height * rows_mm)
            row |= {name: round(value, 3) for name, value in zip(TABLE_COLUMNS[10:], in_mm, strict=True)}
        yield row


def score_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a file in ``image_scores.csv``: ``SCORE_COLUMNS``, and the image score of every class."""
    return {
        "image_id": record["id"],
        "file": record["file_name"],
        **{name: record[name] for name in SCORE_COLUMNS[2:]},
        **{name: round(score, 6) for name, score in record["image_scores"].items()},
    }


def write_result_files(
    folder: str | os.PathLike[str],
    records: Callable[[], Iterable[Mapping[str, Any]]],
    classes: Sequence[str],
    info: Mapping[str, Any] | None = None,
    links: Mapping[str, str] | None = None,
) -> ResultCounts:
    """Write the four result files; at no time more than one record is held.

    Args:
        folder: where to write.
        records: called twice; result records, by id.
        classes: class names by class number.
        info: goes to the COCO file.
        links: files of the input that are another name of a file before, with that file's name; they are warnings.

    Returns:
        What was written.
    """
    folder = Path(folder)
    scored: dict[str, None] = {}
    instances: dict[str, int] = {}
    same_as: dict[int, int] = {}
    images = boxes = problems = outside = 0
    ids = category_ids(classes)
    with ExitStack() as files:
        coco = files.enter_context(atomic_write(folder / COCO_FILE, "w"))
        errors = _table(files, folder / ERROR_FILE, ERROR_COLUMNS)

        def with_prediction() -> Iterator[Mapping[str, Any]]:
            nonlocal images, problems, outside
            for record in records():
                if "problem" in record:
                    problems += 1
                    errors.writerow({"level": "error", "file": record["file_name"], "problem": record["problem"]})
                    continue
                images += 1
                outside += record["outside"]
                scored.update(dict.fromkeys(record["image_scores"]))
                if record["instance"]:
                    first = instances.setdefault(record["instance"], record["id"])
                    if first != record["id"]:
                        same_as[record["id"]] = first
                yield record

        coco.write(f'{{"info": {_json(dict(info or {}))},\n"images": ')
        _write_list(coco, map(coco_image, with_prediction()))
        for link, first_name in (links or {}).items():
            warning = f"another name of {first_name}; predicted once"
            errors.writerow({"level": "warning", "file": link, "problem": warning})
        table = _table(files, folder / TABLE_FILE, TABLE_COLUMNS)
        # A model may score other things than it has boxes of, e.g. BI-RADS groups.
        scores = _table(files, folder / SCORE_FILE, (*SCORE_COLUMNS, *(scored or classes)))

        def annotations() -> Iterator[dict[str, Any]]:
            nonlocal boxes
            originals = dict.fromkeys(same_as.values(), "")
            for record in records():
                if "problem" in record:
                    continue
                yield from coco_annotations(record, ids, boxes + 1)
                boxes += len(record["boxes"])
                table.writerows(box_rows(record))
                scores.writerow(score_row(record))
                warnings = list(record["warnings"])
                if record["id"] in originals:
                    originals[record["id"]] = record["file_name"]
                if record["id"] in same_as:
                    warnings.append(f"the same image (SOP instance) as {originals[same_as[record['id']]]}")
                for text in warnings:
                    errors.writerow({"level": "warning", "file": record["file_name"], "problem": text})

        coco.write(',\n"annotations": ')
        _write_list(coco, annotations())
        coco.write(f',\n"categories": {_json(coco_categories(classes))}}}\n')
    return ResultCounts(images, boxes, problems, len(same_as), outside)


def _table(files: ExitStack, path: Path, columns: Sequence[str]) -> csv.DictWriter:
    stream = files.enter_context(atomic_write(path, "w", durable=False))
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    return writer


def _write_list(stream: IO, entries: Iterable[Any]) -> None:
    """A JSON list with a line per entry."""
    separator = "[\n"
    for entry in entries:
        stream.write(separator + _json(entry))
        separator = ",\n"
    stream.write("[]" if separator == "[\n" else "\n]")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
