"""Precomputed proposals: regions that come with the images, such as the boxes that another detector found.

They are read once, stored in the records as detectron2 does (``proposal_boxes``, ``proposal_bbox_mode``,
``proposal_objectness_logits``), and follow the image through resizing and augmentation.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.core.files import read_json
from mammo_d2.data.breast.window_transform import WindowTransform
from mammo_d2.data.loading.affine import transform_boxes, visible_boxes
from mammo_d2.framework import Boxes, BoxMode, CfgNode, DatasetCatalog, Instances

#: Keys of a record.
FIELDS = ("proposal_boxes", "proposal_bbox_mode", "proposal_objectness_logits")


def read_proposals(path: str | os.PathLike[str]) -> dict[Any, tuple[np.ndarray, np.ndarray]]:
    """Boxes of a COCO results file, or of a COCO file whose annotations have scores, whatever their category.

    Returns:
        By image id (n, 4) float32 XYXY in pixels of the image file and (n,) float32 scores, best first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an entry without a box and a score; the message names it.
    """
    content = read_json(path, if_missing="DATASETS.PROPOSALS names it")
    entries = content.get("annotations") if isinstance(content, Mapping) else content
    if not isinstance(entries, list):
        raise ValueError(f'{path}: proposals are a COCO results file, a list of {{"image_id", "bbox", "score"}}')
    rows: dict[Any, list[list[float]]] = {}
    for number, entry in enumerate(entries):
        try:
            row = [*map(float, entry["bbox"]), float(entry["score"])]
            rows_of_image = rows.setdefault(entry["image_id"], [])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: entry {number} needs image_id, bbox and score, it is {entry!r:.80}") from error
        if len(row) != 5 or not np.isfinite(row).all() or min(row[2:4]) <= 0:
            raise ValueError(
                f"{path}: entry {number}: bbox {entry['bbox']!r:.80} must be [x, y, width, height] in pixels"
            )
        rows_of_image.append(row)
    found = {}
    for image_id, values in rows.items():
        table = np.array(values, np.float32)
        # float64 sums of float32 numbers, rounded to float32, are the float32 sums.
        table[:, :4] = xywh_to_xyxy(table[:, :4])
        order = np.argsort(-table[:, 4], kind="stable")
        found[image_id] = (table[order, :4], table[order, 4])
    return found


def with_proposals(cfg: CfgNode, records: Sequence[dict], limit: int) -> Sequence[dict]:
    """Records with the boxes of DATASETS.PROPOSALS; unchanged if there are none.

    Images are recognised by their file, so that the same boxes serve a data set and the folds that are made of it.

    Args:
        cfg: the config; the data sets that it names must be registered.
        records: are not modified.
        limit: best boxes of an image that are kept.

    Raises:
        ValueError: a malformed pair, a data set that is not registered, boxes of images that it does not have, or a
            record whose image is in none of the data sets.
    """
    pairs = list(cfg.DATASETS.PROPOSALS)
    if not pairs:
        return records
    by_file: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"DATASETS.PROPOSALS: {pair!r} is not a [data set, COCO results JSON] pair")
        name, path = pair
        if name not in DatasetCatalog.list():
            raise ValueError(f"DATASETS.PROPOSALS: {path}: the data set {name!r} of its image ids is unknown")
        proposals = read_proposals(path)
        for record in DatasetCatalog.get(name):
            by_file[os.path.realpath(record["file_name"])] = proposals.pop(record["image_id"], nothing)
        if proposals:
            raise ValueError(
                f"{path}: image_id {next(iter(proposals))!r} is not in {name}, which DATASETS.PROPOSALS names"
            )
    result = []
    for record in records:
        found = by_file.get(os.path.realpath(record["file_name"]))
        if found is None:
            known = ", ".join(name for name, _ in pairs)
            raise ValueError(
                f"image {record['image_id']!r}, {record['file_name']}: DATASETS.PROPOSALS has boxes for {known} only"
            )
        values = (found[0][:limit], BoxMode.XYXY_ABS, found[1][:limit])
        result.append({**record, **dict(zip(FIELDS, values, strict=True))})
    return result


def network_proposals(
    record: Mapping[str, Any], size: tuple[int, int], transform: WindowTransform | None, matrix: np.ndarray
) -> Instances:
    """A record's proposals on the network input.

    Args:
        record: with ``FIELDS``.
        size: (H, W) of the network input.
        transform: from the image file, where it is more than a resize.
        matrix: (2, 3) of the augmentation.

    Returns:
        ``proposal_boxes`` clipped to the input, without those that lie outside, and ``objectness_logits``.
    """
    height, width = size
    boxes = BoxMode.convert(record[FIELDS[0]], record[FIELDS[1]], BoxMode.XYXY_ABS).reshape(-1, 4).astype(np.float64)
    if transform is not None:
        boxes = transform.boxes_to_prepared(boxes)
    else:
        boxes = boxes * np.tile([width / record["width"], height / record["height"]], 2)
    boxes, kept = visible_boxes(transform_boxes(boxes, matrix), height, width, min_visible=0.0)
    return Instances(
        (height, width),
        proposal_boxes=Boxes(torch.as_tensor(boxes, dtype=torch.float32)),
        objectness_logits=torch.as_tensor(np.asarray(record[FIELDS[2]])[kept], dtype=torch.float32),
    )
