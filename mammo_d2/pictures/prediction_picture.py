"""One image with its truth, its best boxes and the model's maps, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mammo_d2.pictures.drawing import (
    TRUTH_COLOR,
    class_colors,
    overlay,
    side_by_side,
    to_display,
    with_legend,
)
from mammo_d2.pictures.evidence import map_panels


def prediction_picture(
    pixels: np.ndarray,
    classes: Sequence[str],
    truth: tuple[np.ndarray, np.ndarray],
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray],
    saliency: np.ndarray | None = None,
    *,
    top: int = 5,
    side: int = 512,
    caption: str = "",
) -> np.ndarray:
    """Draw an image with what is known of it and what a model says.

    Args:
        pixels: (H, W), any real dtype.
        classes: the C class names.
        truth: boxes (G, 4) XYXY in pixels of the image, and their classes (G,).
        predictions: boxes (D, 4), scores (D,) and classes (D,).
        saliency: (C, h, w) in [0, 1], covering the image: a panel each.
        top: most predictions that are drawn, the best ones.
        side: longest side of a panel in pixels; larger images are shrunk.
        caption: a line below the boxes.

    Returns:
        (h', w', 3) uint8 RGB.

    Raises:
        ValueError: not one map per class.
    """
    shown = to_display(pixels, side)
    factor = np.tile([shown.shape[1] / pixels.shape[1], shown.shape[0] / pixels.shape[0]], 2)
    boxes, scores, labels = predictions
    best = np.argsort(-np.asarray(scores), kind="stable")[:top]
    true_boxes = np.asarray(truth[0], np.float64).reshape(-1, 4) * factor
    colors = class_colors(classes)
    picture = overlay(
        shown,
        true_boxes,
        np.asarray(boxes, np.float64).reshape(-1, 4)[best] * factor,
        np.asarray(scores)[best].tolist(),
        truth_labels=[classes[label] for label in truth[1]] if len(classes) > 1 else (),
        prediction_colors=[colors[label] for label in np.asarray(labels)[best]],
        windowed=True,
        caption=caption,
    )
    panels = [with_legend(picture, [("truth", TRUTH_COLOR), *zip(classes, colors, strict=True)])]
    if saliency is not None:
        panels += map_panels(shown, saliency, classes, true_boxes, "saliency")
    return side_by_side(panels)
