"""A picture of a few prepared images with their boxes, to see at a glance whether the preparation is right."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.files import write_bytes_atomic
from mammo_d2.data.format.annotations import load_coco
from mammo_d2.data.reading.reader import read_image

# Colours in BGR: benign green, malignant red, breast box blue.
_COLOURS = {"benign": (80, 220, 80), "malignant": (60, 60, 255)}
_BREAST = (200, 140, 40)


def write_contact_sheet(
    coco_files: Sequence[str | os.PathLike[str]],
    image_root: str | os.PathLike[str],
    path: str | os.PathLike[str],
    count: int = 16,
    *,
    tile: int = 320,
    seed: int = 0,
) -> None:
    """Draw images with lesions first (at most three quarters of the sheet), then images without.

    Args:
        coco_files: annotation files to draw from.
        image_root: folder of the images.
        path: PNG to write.
        count: number of images.
        tile: side of one image's place in pixels.
        seed: of the choice.
    """
    positive: list[tuple[str, Any, Any]] = []
    negative: list[tuple[str, Any, Any]] = []
    for file in coco_files:
        data = load_coco(file)
        names = {c["id"]: c["name"] for c in data["categories"]}
        lesions: dict[int, list[tuple[str, Any]]] = {}
        for a in data["annotations"]:
            lesions.setdefault(a["image_id"], []).append((names[a["category_id"]], a["bbox"]))
        for image in data["images"]:
            boxes = lesions.get(image["id"], [])
            (positive if boxes else negative).append((Path(file).stem, image, boxes))
    rng = np.random.default_rng(seed)
    wanted = max(min(len(positive), -(-3 * count // 4)), count - len(negative))
    chosen = [positive[i] for i in sorted(rng.permutation(len(positive))[:wanted])]
    chosen += [negative[i] for i in sorted(rng.permutation(len(negative))[: count - len(chosen)])]
    if not chosen:
        return
    tiles = [_draw_tile(split, image, boxes, Path(image_root), tile) for split, image, boxes in chosen]
    columns = min(len(tiles), max(1, round(np.sqrt(count))))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    ok, encoded = cv2.imencode(".png", np.vstack(rows))
    assert ok
    write_bytes_atomic(path, encoded.tobytes())


def _draw_tile(
    split: str, image: Mapping[str, Any], boxes: Sequence[tuple[str, Any]], root: Path, side: int
) -> np.ndarray:
    pixels, _ = read_image(root / image["file_name"])
    height, width = pixels.shape
    scale = (side - 18) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, (1, 99.5))
    grey = ((small - low) / max(high - low, 1e-6)).clip(0, 1) * 255
    out = np.zeros((side, side, 3), np.uint8)
    out[: size[1], : size[0]] = grey.round().astype(np.uint8)[..., None]
    drawn = [(_BREAST, image["breast_box"])] if image.get("breast_box") else []
    drawn += [(_COLOURS.get(name, (0, 220, 220)), box) for name, box in boxes]
    for colour, (x, y, w, h) in drawn:
        corners = [(round(a * scale), round(b * scale)) for a, b in ((x, y), (x + w, y + h))]
        cv2.rectangle(out, corners[0], corners[1], colour, 1, cv2.LINE_AA)
    parts = [split, image.get("laterality"), image.get("view"), Path(image["file_name"]).stem]
    text = " ".join(str(part) for part in parts if part)
    cv2.putText(out, text[:44], (2, side - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
    return out
