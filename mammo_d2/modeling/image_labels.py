"""Image-level training targets of model inputs, unknown ones as NaN."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def class_names(categories: Sequence[str], merged: str) -> list[str]:
    """Classes by number: the categories, or the one they are merged into."""
    return [merged] if merged else list(categories)


def label_targets(records: Sequence[Mapping[str, Any]], categories: Sequence[str], merged: str = "") -> Tensor:
    """Which classes each image (or its breast) shows.

    1 if a label says so or a box of the class is there; NaN if the label is None; else 0. An image without ``labels``
    counts as completely annotated, as it does in evaluation. Merged categories are one class: 1 if any is 1, unknown if
    none is and any is unknown.

    Args:
        records: model inputs with ``labels`` {category: 0, 1 or None}, or with ``instances`` (``gt_classes``), or both.
        categories: in class order.
        merged: name of the one class all categories become; empty: they do not.

    Returns:
        (N, C) float32.

    Raises:
        ValueError: an input with neither, or a label that is none of 0, 1, None.
    """
    return torch.tensor([_of_one(record, categories, merged) for record in records]).reshape(
        len(records), len(class_names(categories, merged))
    )


def _of_one(record: Mapping[str, Any], categories: Sequence[str], merged: str) -> list[float]:
    labels, instances = record.get("labels"), record.get("instances")
    if labels is None and instances is None:
        raise ValueError(f"image {record.get('image_id')!r}: no labels and no annotations to train on")
    values = [0.0 if labels is None else _value(labels.get(name, 0), name, record) for name in categories]
    present = set() if instances is None else set(instances.gt_classes.tolist())
    if merged:
        if 1.0 in values or present:
            return [1.0]
        return [math.nan if any(map(math.isnan, values)) else 0.0]
    return [1.0 if number in present else value for number, value in enumerate(values)]


def _value(label: Any, name: str, record: Mapping[str, Any]) -> float:
    if label is None:
        return math.nan
    if label not in (0, 1):
        raise ValueError(f"image {record.get('image_id')!r}: label {name} is {label!r}; it must be 0, 1 or null")
    return float(label)


def birads_targets(records: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[int]]) -> Tensor:
    """Number of the BI-RADS group of each image, -1 where it is unknown or in no group: (N,) int64.

    Args:
        records: model inputs with ``birads``, a number or a text such as "4A"; None or absent: unknown.
        groups: grades of each class.
    """
    class_of = {int(grade): number for number, grades in enumerate(groups) for grade in grades}
    found = [re.match(r"\s*(?:BI-?RADS\s*)?([0-6])", str(record.get("birads"))) for record in records]
    return torch.tensor([-1 if match is None else class_of.get(int(match[1]), -1) for match in found])
