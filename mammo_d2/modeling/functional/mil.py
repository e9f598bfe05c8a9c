"""Multiple-instance learning as pure functions on padded batches (torch only): image probabilities and losses.

An image is a bag of regions of which only the bag's label is known. Images of one batch may have different numbers of
regions; they are padded to the longest, and ``mask`` tells the regions from the padding.

Shape shorthand:
    N: images; M: regions of the longest image; C: findings (classes with an image label); D: classes that the region
    classifier tells apart, the findings first: D = C + 1 with the normal class last, or D = C without it.

Naming convention:
    cls_logits: (N, M, D) float, ``w_c·x_i``.  det_logits: (N, M, C) float, ``u_c·x_i``.
    logits: (N, M, C) float of regions that are judged class by class: ``r = σ(logits)``.
    mask: (N, M) bool, True for regions; every image has at least one.
    targets: (N, C) float image labels 1, 0, or NaN where unknown; an unknown label adds nothing to a loss.
    log_probs, log_complements: (N, C) float, ``log p`` and ``log(1 - p)``.

Everything is computed from logits, in float32 or better whatever the input's type, and never from a probability that
had to be clipped. Losses are sums over the findings and means over the N images of the batch (images without a known
label included, so that the mean over parts of a batch is the batch's), 0 with a graph if no label is known.

Source:
    Dual-branch paper: Bakalo et al., "Classification and detection in mammograms with weak supervision via dual branch
    deep neural net", ISBI 2019. Deep MIL paper: Zhu et al., "Deep multi-instance networks with sparse label assignment
    for whole mammogram classification", MICCAI 2017.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LogProbs(NamedTuple):
    """``log p`` and ``log(1 - p)`` of the same shape; both exact, also where p is within rounding of 0 or 1."""

    log_prob: Tensor
    log_complement: Tensor


def pad_regions(regions: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack the regions of several images into one padded batch.

    Args:
        regions: per image (m_n, F), m_n ≥ 1.

    Returns:
        (N, M, F), zero where padded, and the mask (N, M).

    Raises:
        ValueError: no image, or one without a region.
    """
    counts = [len(image) for image in regions]
    if not counts or min(counts) == 0:
        raise ValueError(f"every image needs at least one region, got {counts} regions")
    padded = torch.nn.utils.rnn.pad_sequence(regions, batch_first=True)
    lengths = torch.tensor(counts, device=padded.device)
    return padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]


# --- dual branch --------------------------------------------------------------------------------------------------
def region_log_probs(cls_logits: Tensor, num_findings: int) -> LogProbs:
    """The region classifier, ``p_cls(c | x_i) = softmax_c(w_c·x_i)``, for the findings.

    Args:
        cls_logits: (N, M, D).
        num_findings: C ≤ D.

    Returns:
        ``log p_cls`` and ``log(1 - p_cls)``, (N, M, C) each.

    Raises:
        ValueError: D < 2, a softmax over one class is always 1, or fewer classes than findings.

    Source:
        Dual-branch paper, eq. 1.
    """
    num_classes = cls_logits.shape[-1]
    if num_classes < 2 or num_classes < num_findings:
        raise ValueError(f"a softmax over {num_classes} class(es) cannot tell {num_findings} finding(s) apart")
    log_softmax = _accurate(cls_logits).log_softmax(dim=-1)
    # 1 - p is the sum over the other classes; subtracting p from 1 would lose everything where p is close to 1.
    others = torch.eye(num_classes, dtype=torch.bool, device=cls_logits.device)[:num_findings]
    complement = log_softmax.unsqueeze(-2).masked_fill(others, -torch.inf).logsumexp(dim=-1)
    return LogProbs(log_softmax[..., :num_findings], complement)


@torch.no_grad()
def select_regions(scores: Tensor, mask: Tensor, k: int) -> Tensor:
    """``h_c(i)``: the k regions of each image with the highest score, for each finding; all of them if there are fewer.

    Args:
        scores: (N, M, C), any monotonic function of ``p_cls``; not differentiated through.
        mask: (N, M).
        k: ≥ 1.

    Returns:
        (N, M, C) bool; of equal scores the first region wins.

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"at least one region must be selected, got k = {k}")
    regions = mask.unsqueeze(-1).expand_as(scores)
    order = scores.masked_fill(~regions, -torch.inf).argsort(dim=1, descending=True, stable=True)
    selected = torch.zeros_like(regions).scatter(1, order[:, :k], True)
    return selected & regions


def ranking_log_softmax(det_logits: Tensor, selected: Tensor) -> Tensor:
    """``log p_det^c(i | x)``: each finding's softmax over the selected regions of an image; -inf for the others.

    Args:
        det_logits: (N, M, C).
        selected: (N, M, C) bool, at least one region for each image and finding.

    Source:
        Dual-branch paper, eq. 2.
    """
    return _accurate(det_logits).masked_fill(~selected, -torch.inf).log_softmax(dim=1)


def dual_branch_log_probs(
    cls_logits: Tensor, det_logits: Tensor, mask: Tensor, num_selected: int | None = None
) -> LogProbs:
    """The image decision ``p(y_c = 1 | x) = Σ_i p_det^c(i | x) p_cls(c | x_i)``.

    As the ranking sums to 1, ``1 - p = Σ_i p_det^c(i | x) (1 - p_cls(c | x_i))``: both are sums of positive terms.

    Args:
        cls_logits: (N, M, D).
        det_logits: (N, M, C).
        mask: (N, M).
        num_selected: k of the region selection; None ranks all regions (the baseline, WSDDN's form).

    Returns:
        (N, C) each.

    Source:
        Dual-branch paper, eq. 3.
    """
    region = region_log_probs(cls_logits, det_logits.shape[-1])
    if num_selected is None:
        selected = mask.unsqueeze(-1).expand_as(det_logits)
    else:
        selected = select_regions(region.log_prob, mask, num_selected)
    ranking = ranking_log_softmax(det_logits, selected)
    return LogProbs((ranking + region.log_prob).logsumexp(dim=1), (ranking + region.log_complement).logsumexp(dim=1))


def max_region_log_probs(cls_logits: Tensor, mask: Tensor) -> LogProbs:
    """The compared system "Max-region": a binary classifier of regions per finding, ``max_i σ(w_c·x_i)``.

    Args:
        cls_logits: (N, M, C), no normal class.
        mask: (N, M).

    Returns:
        (N, C) each.
    """
    best = max_pooling_logits(cls_logits, mask)
    return LogProbs(F.logsigmoid(best), F.logsigmoid(-best))


def max_region_softmax_log_probs(cls_logits: Tensor, mask: Tensor, num_findings: int) -> LogProbs:
    """Max-region with the region classifier of Cls-Det-RS: ``max_i p_cls(c | x_i)``, a softmax with a normal class.

    Not one of the paper's systems: its Max-region is binary and knows no normal class.

    Args:
        cls_logits: (N, M, D).
        mask: (N, M).
        num_findings: C.

    Returns:
        (N, C) each.
    """
    region = region_log_probs(cls_logits, num_findings)
    best = region.log_prob.masked_fill(~mask.unsqueeze(-1), -torch.inf).argmax(dim=1, keepdim=True)
    return LogProbs(*(values.gather(1, best).squeeze(1) for values in region))


def localization_scores(cls_logits: Tensor, det_logits: Tensor, mask: Tensor) -> Tensor:
    """``d_c(x_i) = p_cls(c | x_i) p_det^c(i | x)`` with every region in the ranking; 0 for padding.

    Returns:
        (N, M, C) in [0, 1]; summed over the regions at most 1.

    Source:
        Dual-branch paper, eq. 5.
    """
    region = region_log_probs(cls_logits, det_logits.shape[-1])
    return (region.log_prob + ranking_log_softmax(det_logits, mask.unsqueeze(-1).expand_as(det_logits))).exp()


def image_loss(probs: LogProbs, targets: Tensor) -> Tensor:
    """Binary cross-entropy of the images' probabilities, ``-log p(y_c | x)``.

    Args:
        probs: (N, C) each.
        targets: (N, C).

    Source:
        Dual-branch paper, eq. 4 (without the L2 term, which is the optimizer's weight decay).
    """
    y = targets.nan_to_num(0.0).to(probs.log_prob.dtype)
    return _sum_of_known(-(y * probs.log_prob + (1 - y) * probs.log_complement), targets)


# --- deep multi-instance networks -----------------------------------------------------------------------------------
def max_pooling_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """``p(y = 1 | I) = r'_1`` as a logit: the highest of each image, (N, C).

    Source:
        Deep MIL paper, eq. 2 and 3.
    """
    return _accurate(logits).masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)


def max_pooling_loss(logits: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the region with the highest response.

    Source:
        Deep MIL paper, eq. 4 (the L2 term is the optimizer's weight decay).
    """
    return classifier_loss(max_pooling_logits(logits, mask), targets)


def label_assignment_loss(logits: Tensor, mask: Tensor, targets: Tensor, k: int) -> Tensor:
    """Cross-entropy of every region: the k highest of an image have its label, the others are negative.

    Averaged over the m_n regions of each image. The assignment is not differentiated through.

    Args:
        logits, mask, targets: see the module.
        k: ≥ 1; all regions have the image's label if there are fewer.

    Raises:
        ValueError: k < 1.

    Source:
        Deep MIL paper, eq. 6 (the L2 term is the optimizer's weight decay).
    """
    logits = _accurate(logits)
    assigned = select_regions(logits.detach(), mask, k)
    labels = assigned * targets.nan_to_num(0.0).to(logits.dtype).unsqueeze(1)
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    losses = losses.masked_fill(~mask.unsqueeze(-1), 0.0)
    return _sum_of_known(losses.sum(dim=1) / mask.sum(dim=1, keepdim=True), targets)


def sparse_loss(logits: Tensor, mask: Tensor, targets: Tensor, mu: float, mu_regions: int = 0) -> Tensor:
    """Max pooling, and ``μ‖r‖_1`` over all regions of an image.

    ‖r‖_1 is a sum, so the same μ weighs more with more regions: m regions of response r cost ``μ·m·r``. With
    ``mu_regions`` the sum is multiplied by ``mu_regions / m``, and μ means the same whatever the number of regions.

    Args:
        logits, mask, targets: see the module.
        mu: weight of the sparsity.
        mu_regions: number of regions that ``mu`` is stated for; 0: the plain sum of eq. 7.

    Source:
        Deep MIL paper, eq. 7 (the L2 term is the optimizer's weight decay); its m is 36.
    """
    responses = _accurate(logits).sigmoid().masked_fill(~mask.unsqueeze(-1), 0.0)
    norms = responses.sum(dim=1)
    if mu_regions:
        norms = norms * (mu_regions / mask.sum(dim=1, keepdim=True))
    return max_pooling_loss(logits, mask, targets) + mu * _sum_of_known(norms, targets)


def classifier_loss(image_logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one logit for each image and finding.

    Args:
        image_logits: (N, C).
        targets: (N, C).
    """
    logits = _accurate(image_logits)
    y = targets.nan_to_num(0.0).to(logits.dtype)
    return _sum_of_known(F.binary_cross_entropy_with_logits(logits, y, reduction="none"), targets)


def _sum_of_known(losses: Tensor, targets: Tensor) -> Tensor:
    """(N, C) -> scalar: sum over findings, mean over images, unknown labels 0."""
    return losses.masked_fill(targets.isnan(), 0.0).sum() / max(1, len(losses))


def _accurate(values: Tensor) -> Tensor:
    """Half-precision values as float32; others as they are."""
    return values if values.dtype == torch.float64 else values.float()
