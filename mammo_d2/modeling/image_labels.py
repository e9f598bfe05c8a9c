"""Image-level training targets: which findings an image (or its breast) shows, unknown ones as NaN."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mammo_d2.core.image_truth import joined_truth
from mammo_d2.framework import CfgNode


@dataclass(frozen=True)
class Finding:
    """A class of an image classifier.

    Attributes:
        name: of the class.
        categories: the categories that are this finding; several where they are merged.
    """

    name: str
    categories: tuple[str, ...]

    def target(self, labels: Mapping[str, Any]) -> float:
        """1 if any category is present, else NaN if any is unknown (None or absent), else 0.

        Args:
            labels: {category: 0, 1 or None}.
        """
        value = joined_truth(labels.get(category) for category in self.categories)
        return math.nan if value is None else float(value)


def findings_from_config(cfg: CfgNode) -> list[Finding]:
    """The classes by number: DATASETS.CATEGORIES, or the one finding of DATASETS.MERGE_CATEGORIES."""
    categories = tuple(cfg.DATASETS.CATEGORIES)
    if cfg.DATASETS.MERGE_CATEGORIES:
        return [Finding(cfg.DATASETS.MERGE_CATEGORIES, categories)]
    return [Finding(category, (category,)) for category in categories]


def image_targets(inputs: Sequence[Mapping[str, Any]], findings: Sequence[Finding], device: torch.device) -> Tensor:
    """Targets of a batch.

    Args:
        inputs: model inputs with ``labels`` {category: 0, 1 or None}.
        findings: the C classes.
        device: of the result.

    Returns:
        (N, C) float32 of 0, 1 and NaN (unknown).

    Raises:
        ValueError: an input without labels; the message names it.
    """
    rows = []
    for record in inputs:
        labels = record.get("labels")
        if labels is None:
            raise ValueError(
                f"image {record.get('image_id')!r}, {record.get('file_name')}: the record has no labels "
                '({"benign": 0, 1 or null, "malignant": ...}), which a classifier of images learns from; prepare the '
                "data set again with labels"
            )
        rows.append([finding.target(labels) for finding in findings])
    return torch.tensor(rows, dtype=torch.float32, device=device).reshape(len(rows), len(findings))
