"""Matching of candidate boxes with ground truth, and sampling of a balanced subset."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


class Matcher:
    """Gives every candidate its best ground truth, and a label by how good the match is.

    Attributes:
        thresholds: -inf, the given thresholds, inf.
        labels: label of each half-open interval ``[thresholds[i], thresholds[i + 1])``.
        allow_low_quality_matches: see ``__init__``.
    """

    def __init__(
        self, thresholds: Sequence[float], labels: Sequence[int], allow_low_quality_matches: bool = False
    ) -> None:
        """Set the intervals.

        Args:
            thresholds: ascending positive bounds of the quality.
            labels: one more than thresholds: 1 positive, 0 negative, -1 to be ignored.
            allow_low_quality_matches: the best candidates of each ground truth, ties included, become positive whatever
                their quality. They keep the ground truth that they match best themselves.

        Raises:
            ValueError: thresholds or labels break these rules.
        """
        bounds = [-float("inf"), *thresholds, float("inf")]
        if not thresholds or thresholds[0] <= 0 or any(high < low for low, high in pairwise(bounds)):
            raise ValueError(f"IOU_THRESHOLDS {list(thresholds)} must be positive and ascending")
        if len(labels) != len(thresholds) + 1 or not set(labels) <= {-1, 0, 1}:
            raise ValueError(f"IOU_LABELS {list(labels)} must be {len(thresholds) + 1} numbers out of -1, 0, 1")
        self.thresholds = bounds
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match.

        Args:
            match_quality_matrix: ``(M, N)``, quality (IoU) of M ground truths with N candidates, >= 0.

        Returns:
            Index of the best ground truth of each candidate, int64 ``(N,)``, and its label, int8 ``(N,)``. Without
            ground truth the indices are 0 and every label is the lowest interval's.
        """
        quality = match_quality_matrix
        if quality.numel() == 0:
            count = quality.shape[1]
            matches = torch.zeros(count, dtype=torch.int64, device=quality.device)
            return matches, torch.full((count,), self.labels[0], dtype=torch.int8, device=quality.device)
        best, matches = quality.max(dim=0)
        inner = torch.tensor(self.thresholds[1:-1], dtype=quality.dtype, device=quality.device)
        labels = torch.tensor(self.labels, dtype=torch.int8, device=quality.device)
        # right=True: a quality equal to a threshold belongs to the interval above it.
        match_labels = labels[torch.bucketize(best, inner, right=True)]
        if self.allow_low_quality_matches:
            best_per_truth = quality.max(dim=1, keepdim=True).values
            match_labels[(quality == best_per_truth).any(dim=0)] = 1
        return matches, match_labels


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Draw positives and negatives at random.

    At most ``int(num_samples * positive_fraction)`` positives; negatives fill up to ``num_samples``, or as many as
    there are. The generator is used in a fixed order (a permutation of all positives, then of all negatives), so that
    one seed gives the same sample on either engine.

    Args:
        labels: ``(N,)``: -1 ignored, ``bg_label`` negative, anything else positive.
        num_samples: how many to draw.
        positive_fraction: largest part of positives.
        bg_label: the negatives' label.

    Returns:
        Indices of the positives and of the negatives drawn.
    """
    is_negative = labels == bg_label
    positive = ((labels != -1) & ~is_negative).nonzero().squeeze(1)
    negative = is_negative.nonzero().squeeze(1)
    num_positive = min(len(positive), int(num_samples * positive_fraction))
    num_negative = min(len(negative), num_samples - num_positive)
    order_positive = torch.randperm(len(positive), device=labels.device)
    order_negative = torch.randperm(len(negative), device=labels.device)
    return positive[order_positive[:num_positive]], negative[order_negative[:num_negative]]
