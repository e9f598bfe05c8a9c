"""Region proposals: selection of the best decoded anchors, and ground truth added in training."""

import math
from collections.abc import Sequence

import torch
from fvcore.common.registry import Registry
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.layers import ShapeSpec, batched_nms, cat
from mammo_d2.framework.embedded.config import CfgNode
from mammo_d2.framework.embedded.structures.boxes import Boxes
from mammo_d2.framework.embedded.structures.instances import Instances

# Classes called as f(cfg, input_shapes: dict[str, ShapeSpec]).
PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")

# Objectness of a ground truth among the proposals: the logit of a probability of 1 - 1e-10.
GT_LOGIT = math.log((1.0 - 1e-10) / (1 - (1.0 - 1e-10)))


def build_proposal_generator(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """Build what MODEL.PROPOSAL_GENERATOR.NAME names; None for "PrecomputedProposals", which come with the data."""
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    return None if name == "PrecomputedProposals" else PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)


def top_of_level(logits: Tensor, pre_nms_topk: int) -> tuple[Tensor, Tensor]:
    """Return the highest logits of a feature map's anchors ``(N, R)``, best first, and their indices, ``(N, k)``."""
    return logits.topk(min(logits.shape[1], pre_nms_topk), dim=1)


def suppress_proposals(
    boxes_per_level: Sequence[Tensor],
    logits_per_level: Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]],
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Choose the best proposals of each image among those that were chosen per feature map.

    They are clipped to the image; those with a side not above ``min_box_size`` are dropped; non-maximum suppression
    runs on each feature map by itself; of all together the best ``post_nms_topk`` remain.

    Args:
        boxes_per_level: per feature map ``(N, k, 4)`` XYXY.
        logits_per_level: per feature map ``(N, k)``.
        image_sizes: (height, width) of each image.
        nms_thresh: IoU above which the worse of two goes.
        post_nms_topk: kept per image after the suppression.
        min_box_size: in pixels.
        training: then a box or score that is not finite raises; otherwise it is left out.

    Returns:
        Per image Instances with "proposal_boxes" and "objectness_logits", best first.

    Raises:
        FloatingPointError: a box or a score is not finite, in training.
    """
    counts = torch.tensor([logits.shape[1] for logits in logits_per_level])
    levels = torch.repeat_interleave(torch.arange(len(counts)), counts).to(boxes_per_level[0].device)
    all_boxes, all_logits = cat(list(boxes_per_level), dim=1), cat(list(logits_per_level), dim=1)

    results = []
    for tensor, logits, image_size in zip(all_boxes, all_logits, image_sizes, strict=True):
        boxes, level = Boxes(tensor), levels
        finite = torch.isfinite(tensor).all(dim=1) & torch.isfinite(logits)
        if not finite.all():
            if training:
                raise FloatingPointError(
                    f"{int((~finite).sum())} proposals have boxes or scores that are infinite or NaN: "
                    "training has diverged; lower SOLVER.BASE_LR or clip gradients"
                )
            boxes, logits, level = boxes[finite], logits[finite], level[finite]
        boxes.clip(image_size)
        large = boxes.nonempty(threshold=min_box_size)
        if not large.all():
            boxes, logits, level = boxes[large], logits[large], level[large]
        keep = batched_nms(boxes.tensor, logits, level, nms_thresh)[:post_nms_topk]
        results.append(Instances(image_size, proposal_boxes=boxes[keep], objectness_logits=logits[keep]))
    return results


def add_ground_truth_to_proposals(gt: Sequence[Instances], proposals: Sequence[Instances]) -> list[Instances]:
    """Append each image's ground-truth boxes to its proposals, as certain objects.

    Args:
        gt: per image, with "gt_boxes" and every field that the proposals have beyond boxes and logits.
        proposals: per image, with "proposal_boxes" and "objectness_logits".

    Returns:
        Per image new Instances with the proposals' fields, the ground truth last.

    Raises:
        ValueError: the lists differ in length, or a proposal field is missing in the ground truth.
    """
    if len(gt) != len(proposals):
        raise ValueError(f"got ground truth of {len(gt)} images and proposals of {len(proposals)}")
    return [_append_ground_truth(truth, found) for truth, found in zip(gt, proposals, strict=True)]


def _append_ground_truth(gt: Instances, proposals: Instances) -> Instances:
    logits = proposals.objectness_logits
    as_proposals = Instances(proposals.image_size, **gt.get_fields())
    as_proposals.proposal_boxes = gt.gt_boxes
    as_proposals.objectness_logits = torch.full((len(gt.gt_boxes),), GT_LOGIT, device=logits.device)
    missing = [name for name in proposals.get_fields() if not as_proposals.has(name)]
    if missing:
        raise ValueError(f"proposals have the fields {missing}, which the ground truth lacks")
    return Instances.cat([proposals, as_proposals])
