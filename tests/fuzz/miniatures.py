"""What the targets of ``prepare`` have in common: images, workbooks, arguments, and how results are compared."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

try:
    import openpyxl
except ImportError:  # an extra of the package
    openpyxl = None

from tests.fuzz.mistakes import Mistake, table_mistakes

SIZE = (60, 50)


def pixels(number: int) -> np.ndarray:
    """Values of 12 bits of a bright half disc at the left border, other ones for every number."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = (columns / 40) ** 2 + ((rows - 30) / 28) ** 2 < 1
    return np.where(inside, 1000 + 7 * columns + 3 * rows + number, 0).astype(np.uint16)


def workbook(rows: list[list[Any]], **more: list[list[Any]]) -> bytes:
    """An Excel file; ``more`` are further sheets."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for title, lines in more.items():
        sheet = book.create_sheet(title)
        for row in lines:
            sheet.append(row)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def records(folder: Path) -> dict[str, Any]:
    """Records of a prepared data set by file name without their numbers; and what was said about files."""
    out = folder / "out"
    found: dict[str, Any] = {}
    for path in sorted((out / "annotations").glob("*.json")):
        content = json.loads(path.read_text())
        for image in content["images"]:
            lesions = [{k: v for k, v in a.items() if k not in ("id", "image_id")}
                       for a in content["annotations"] if a["image_id"] == image["id"]]  # fmt: skip
            found[image["file_name"]] = {**image, "id": 0}, lesions
    with (out / "errors.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    warnings, said = ([row for row in rows if (row["level"] == "warning") == kind] for kind in (True, False))
    return {"records": found, "said": said, "warnings": warnings}


def same_or_said(new: dict[str, Any], valid: dict[str, Any], mistake: Mistake) -> str | None:
    """A bad value changes no record that is left, but for facts that are unknown now; errors.csv says as much."""
    warned = any(warning not in valid["warnings"] for warning in new["warnings"])
    for name, (image, lesions) in new["records"].items():
        if lesions and not all(np.isfinite(a["bbox"]).all() and min(a["bbox"][2:]) > 0 for a in lesions):
            return f"{name}: {lesions}"
        if mistake.bad and (image, lesions) != valid["records"].get(name):
            old = valid["records"].get(name, ({}, []))
            changed = {k: (old[0].get(k), v) for k, v in image.items() if old[0].get(k) != v}
            if warned and lesions == old[1] and all(v is None for _, v in changed.values()):
                continue
            return f"accepted: {name} {changed} {lesions if lesions != old[1] else ''}"
    missing = sorted(set(valid["records"]) - set(new["records"]))
    more = set(new["records"]) - set(valid["records"])
    said = len([row for row in new["said"] if row not in valid["said"]])
    return f"{missing} gone without a word: {new['said']}" if len(missing) > said + len(more) else None


def prepare_arguments(*words: str) -> Callable[[Path], list[str]]:
    """Arguments of ``prepare`` with {} for the folder."""
    more = ["--out", "{}/out", "--workers", "0", "--quiet", "--check", "0"]
    return lambda folder: [word.format(folder) for word in (*words, *(more if words[0] != "validate" else ()))]


def table_of(file: str, types: dict[str, str], key: tuple[str, ...], delimiter: str = ",") -> Any:
    return lambda folder: table_mistakes((folder / file).read_bytes(), types, key, delimiter)
