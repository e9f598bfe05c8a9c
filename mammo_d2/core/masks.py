"""COCO segmentations (polygons or run-length encoding) as masks, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Segmentation = Sequence[Sequence[float]] | Mapping[str, Any]


def to_rle(segmentation: Segmentation, size: Sequence[int]) -> Any:
    """Compressed run-length encoding, as pycocotools has it.

    Args:
        segmentation: polygons [[x1, y1, ...], ...], or {"size": [height, width], "counts"} with compressed counts
            (text or bytes) or a list of run lengths.
        size: (height, width) of the image.

    Raises:
        ValueError: runs of an image of another size.
    """
    height, width = size
    if not isinstance(segmentation, Mapping):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(
            f"the segmentation is of an image of {segmentation['size']} (height, width), its image has "
            f"[{height}, {width}]; correct it or remove the segmentation"
        )
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def decode_mask(segmentation: Segmentation, size: Sequence[int]) -> np.ndarray:
    """(H, W) bool mask of a segmentation; arguments and errors as in ``to_rle``."""
    return coco_mask.decode(to_rle(segmentation, size)).astype(bool)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Run-length encoding {"size": [H, W], "counts": text} of a mask (H, W) of 0 and 1 or bool, ready for JSON."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def box_of_segmentation(segmentation: Segmentation, size: Sequence[int]) -> list[float]:
    """XYWH box around a segmentation, all 0 if it is empty; arguments and errors as in ``to_rle``."""
    return coco_mask.toBbox(to_rle(segmentation, size)).tolist()
