"""Evidence for an image classifier's score: its patches with attention and its saliency maps, as pictures.

The panels follow figure 4 of Shen et al., MLMI 2019: the image with its boxes, the patches, a map per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mammo_d2.pictures.drawing import TRUTH_COLOR, draw_boxes, overlay, with_caption

#: Opacity of the strongest saliency.
STRENGTH = 0.6


@dataclass(frozen=True)
class Evidence:
    """Saliency maps and patches of a model, on a picture of the image.

    Attributes:
        saliency: (C, h, w) float32 in [0, 1] on the picture's pixels.
        patches: (K, 4) XYXY in the picture's pixels, may be empty.
        attention: (K,), sums to 1.
    """

    saliency: np.ndarray
    patches: np.ndarray
    attention: np.ndarray


def heat(picture: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """A grey picture with a saliency map on top, red where it is strong.

    The opacity is proportional to the saliency, not scaled by its maximum: a pale map means low saliency.

    Args:
        picture: (h, w) uint8.
        saliency: (h, w) in [0, 1].

    Returns:
        (h, w, 3) uint8 RGB.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB).astype(np.float32)
    values = np.clip(saliency, 0, 1).astype(np.float32)
    color = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1].astype(np.float32)
    opacity = STRENGTH * values[..., np.newaxis]
    return np.rint(grey * (1 - opacity) + color * opacity).astype(np.uint8)


def map_panels(
    picture: np.ndarray, maps: np.ndarray, classes: Sequence[str], boxes: np.ndarray, what: str
) -> list[np.ndarray]:
    """A panel for the map of each class, with the boxes of truth.

    Args:
        picture: (h, w) uint8.
        maps: (C, h', w') in [0, 1], covering the picture.
        classes: the C class names.
        boxes: (G, 4) XYXY in pixels of the picture.
        what: the maps are, e.g. "saliency".

    Raises:
        ValueError: not one map per class.
    """
    if maps.ndim != 3 or len(maps) != len(classes):
        raise ValueError(f"{what} of shape {maps.shape} is not one map for each of {len(classes)} class(es)")
    shown = []
    for name, values in zip(classes, maps.astype(np.float32), strict=True):
        whole = cv2.resize(values, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        panel = draw_boxes(heat(picture, whole), boxes, TRUTH_COLOR)
        shown.append(with_caption(panel, f"{name}: {what} up to {values.max():.2f}"))
    return shown


def panels(picture: np.ndarray, evidence: Evidence, classes: Sequence[str]) -> list[np.ndarray]:
    """Pictures to show beside the prediction: the patches (if any), then one saliency map per class.

    Args:
        picture: (h, w) uint8.
        evidence: in pixels of ``picture``.
        classes: names of the maps.

    Returns:
        RGB pictures (h', w, 3) of equal height, each with a caption.

    Raises:
        ValueError: the saliency is not one map per class of the picture's size.
    """
    if evidence.saliency.shape != (len(classes), *picture.shape):
        raise ValueError(
            f"evidence: saliency of shape {evidence.saliency.shape} does not fit {len(classes)} classes and a picture "
            f"of {picture.shape}"
        )
    shown = []
    if len(evidence.patches):
        # A window larger than the image can have patches in its padding. They are not drawn: a label without a
        # visible frame would mislead.
        height, width = picture.shape
        x1, y1, x2, y2 = evidence.patches.T
        inside = (x2 > 0) & (y2 > 0) & (x1 < width) & (y1 < height)
        num_outside = int((~inside).sum())
        caption = "patches with attention" + (f", {num_outside} outside" if num_outside else "")
        boxes, attention = evidence.patches[inside], evidence.attention[inside].tolist()
        shown.append(overlay(picture, (), boxes, attention, windowed=True, caption=caption))
    for name, saliency in zip(classes, evidence.saliency, strict=True):
        shown.append(with_caption(heat(picture, saliency), f"{name}: saliency up to {saliency.max():.2f}"))
    return shown
