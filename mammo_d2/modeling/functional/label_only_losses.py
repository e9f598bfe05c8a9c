"""Losses of images whose label is known and whose boxes are not, on a detector's proposals (torch only).

Shape shorthand:
    N: images; M: proposals of the image with the most; R: proposals of one image; C: foreground classes; the detector's
    softmax has C + 1 classes, the background last; S: seeds of one image, one for each class that its label names.

Source:
    WSDDN: Bilen and Vedaldi, "Weakly supervised deep detection networks", CVPR 2016. OICR: Tang et al., "Multiple
    instance detection network with online instance classifier refinement", CVPR 2017.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from mammo_d2.modeling.functional.mil import LogProbs, region_log_probs, select_regions

POOLINGS = ("max", "mean", "noisy_or")
OTHER_PROPOSALS = ("background", "ignore")


def pooled_log_probs(logits: Tensor, mask: Tensor, num_classes: int, pooling: str, k: int) -> LogProbs:
    """Probability that an image shows a class, from the k proposals ``top_k(c)`` with the highest ``p_rc``.

    * ``max``: ``p_c = max_r p_rc`` (k is not used);
    * ``mean``: ``p_c = (1/k) Σ_{r ∈ top_k(c)} p_rc``;
    * ``noisy_or``: ``p_c = 1 - Π_{r ∈ top_k(c)} (1 - p_rc)``.

    Both ``log p_c`` and ``log(1 - p_c)`` are sums of positive terms of the proposals' ``log p`` and ``log(1 - p)``, so
    nothing is lost where a probability is close to 0 or 1: ``1 - Π (1 - p_r) = Σ_r p_r Π_{s < r} (1 - p_s)``.

    Args:
        logits: (N, M, C + 1), the background last.
        mask: (N, M) bool, at least one proposal for each image.
        num_classes: C.
        pooling: see above.
        k: ≥ 1; all proposals of an image if it has fewer.

    Returns:
        (N, C) each. The choice of the k proposals is not differentiated through.

    Raises:
        ValueError: an unknown pooling, or k < 1.

    Source:
        The image score of WSDDN (eq. 2), with other poolings of the proposals.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"the pooling is {pooling!r}; use one of {', '.join(POOLINGS)}")
    region = region_log_probs(logits, num_classes)
    selected = select_regions(region.log_prob, mask, 1 if pooling == "max" else k)
    log_prob = region.log_prob.masked_fill(~selected, -torch.inf)
    if pooling == "noisy_or":
        missed = region.log_complement.masked_fill(~selected, 0.0).cumsum(dim=1)
        missed_before = torch.cat([torch.zeros_like(missed[:, :1]), missed[:, :-1]], dim=1)
        return LogProbs((log_prob + missed_before).logsumexp(dim=1), missed[:, -1])
    log_complement = region.log_complement.masked_fill(~selected, -torch.inf)
    log_count = selected.sum(dim=1).to(log_prob.dtype).log()
    return LogProbs(log_prob.logsumexp(dim=1) - log_count, log_complement.logsumexp(dim=1) - log_count)


class SelfLabels(NamedTuple):
    """What the detector's best proposals of an image make of the others.

    Attributes:
        classes: (R,) int64, C for background, -1 for proposals that are left out.
        weights: (R,) float, the score of the seed that is nearest.
        nearest: (R,) int64, number of that seed.
        seeds: (S,) int64, rows of the proposals that stand in for ground-truth boxes.
        seed_classes: (S,) int64, their classes.
        seed_scores: (S,) float, their probabilities of these classes.
    """

    classes: Tensor
    weights: Tensor
    nearest: Tensor
    seeds: Tensor
    seed_classes: Tensor
    seed_scores: Tensor


@torch.no_grad()
def self_labels(logits: Tensor, boxes: Tensor, present: Tensor, min_iou: float, others: str) -> SelfLabels:
    """Label the proposals of an image by its label: of each class present, the one with the highest score is a seed.

    Proposals with an IoU of at least ``min_iou`` with a seed have the class of the seed with the largest IoU; the
    others are background, or left out. Without a class present all are left out.

    Args:
        logits: (R, C + 1), R ≥ 1.
        boxes: (R, 4) XYXY.
        present: (C,) bool, classes that the image is labelled with.
        min_iou: of a proposal with its seed.
        others: "background" or "ignore".

    Returns:
        The labels, without a graph.

    Raises:
        ValueError: an unknown ``others``.

    Source:
        OICR, algorithm 1, with the detector's own scores in the place of an earlier refinement.
    """
    if others not in OTHER_PROPOSALS:
        raise ValueError(f"the other proposals are {others!r}; use one of {', '.join(OTHER_PROPOSALS)}")
    probs = logits.float().softmax(dim=1)
    seed_classes = present.nonzero().squeeze(1)
    seeds = probs[:, seed_classes].argmax(dim=0)
    seed_scores = probs[seeds, seed_classes]
    if not len(seeds):
        none = torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
        return SelfLabels(none, probs.new_zeros(len(boxes)), none, seeds, seed_classes, seed_scores)
    overlap, nearest = box_iou(boxes.float(), boxes[seeds].float()).max(dim=1)
    other = len(present) if others == "background" else -1
    classes = torch.where(overlap >= min_iou, seed_classes[nearest], other)
    return SelfLabels(classes, seed_scores[nearest], nearest, seeds, seed_classes, seed_scores)


def self_label_loss(logits: Tensor, labels: SelfLabels) -> Tensor:
    """``-(1/R') Σ_r w_r log p_r(y_r)`` over the R' proposals of an image that are not left out.

    Args:
        logits: (R, C + 1).
        labels: of ``self_labels``.

    Returns:
        Scalar; 0 with a graph if all are left out.

    Source:
        OICR, eq. 4.
    """
    counted = labels.classes >= 0
    entropies = F.cross_entropy(_at_least_float32(logits), labels.classes.clamp(min=0), reduction="none")
    return (entropies * labels.weights.to(entropies.dtype) * counted).sum() / counted.sum().clamp(min=1)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
