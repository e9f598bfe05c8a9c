"""Truth of an image: which classes it shows, which it does not show, and which are unknown.

Samplers, training targets, metrics and tables all use these functions.

An image with a box of a class shows that class. Without a box the image's ``labels`` decide: 1 shown, 0 not shown, null
unknown; a class that is missing while another class is named is unknown, too. If the labels name none of the classes (a
plain COCO file has no ``labels``), only the boxes count: no box means no finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def stated_labels(labels: Mapping[str, Any] | None, classes: Sequence[str]) -> list[int | None] | None:
    """Label of each class: 1, 0 or None (unknown); None instead of a list if the labels name none of the classes."""
    if not labels or not any(name in labels for name in classes):
        return None
    return [labels.get(name) for name in classes]


def image_truth(record: Mapping[str, Any], classes: Sequence[str]) -> list[int | None]:
    """Truth of an image per class: 1 it shows the class, 0 it does not, None unknown.

    Args:
        record: dataset record; the ``category_id`` of its ``annotations`` are rows of ``classes``. Boxes marked
            ``ignore`` decide nothing; crowd boxes count.
        classes: the class names.

    Returns:
        One value per class, in the order of ``classes``.
    """
    present = {int(a["category_id"]) for a in record.get("annotations", ()) if not a.get("ignore")}
    stated = stated_labels(record.get("labels"), classes) or [0] * len(classes)
    return [1 if number in present else label for number, label in enumerate(stated)]


def truth_without_boxes(record: Mapping[str, Any], classes: Sequence[str]) -> list[int | None] | None:
    """Truth per class of an image that shows, or may show, a finding but has no usable box.

    Args:
        record, classes: as for ``image_truth``. Crowd boxes are not usable; if one is marked ``ignore``, its class is
            unknown unless labelled 1.

    Returns:
        As ``image_truth``; None for images with a usable box and for images known to show none of the classes.
    """
    annotations = record.get("annotations", ())
    if any(not annotation.get("iscrowd", 0) for annotation in annotations):
        return None
    truth = image_truth(record, classes)
    for annotation in annotations:
        truth[annotation["category_id"]] = truth[annotation["category_id"]] or None
    return None if joined_truth(truth) == 0 else truth


def joined_truth(values: Iterable[int | None]) -> int | None:
    """Truth of several classes, or of several images, taken together: 1 if any is 1, else None if any is None, else 0.

    An image is negative only if it is known not to show any of the classes.
    """
    values = list(values)
    if 1 in values:
        return 1
    return None if None in values else 0


def stratum_of(labels: Mapping[str, Any] | None) -> str:
    """ "malignant", "benign" or "normal" from an image's labels; unknown counts as normal."""
    for name in ("malignant", "benign"):
        if labels and labels.get(name) == 1:
            return name
    return "normal"
