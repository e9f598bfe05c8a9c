"""DualBranchROIHeads: classify and rank the regions of an image, learned from image labels only.

Naming convention:
    code: what a region encoder makes of a region, (D,).
    findings: the C detection classes; the region classifier may have one more, the normal class, which comes last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo_d2.framework import (
    ROI_HEADS_REGISTRY,
    Boxes,
    CfgNode,
    ImageList,
    Instances,
    ShapeSpec,
    batched_nms,
    configurable,
)
from mammo_d2.modeling.functional import mil
from mammo_d2.modeling.roi_heads.region_encoders import build_region_encoder


@dataclass(frozen=True)
class DualBranchVariant:
    """One of the compared systems, as functions of (cls_logits, det_logits, mask); see ``mil.py`` for the shapes.

    Attributes:
        normal_class: the region classifier knows normal regions.
        binary: the region classifier judges each finding by itself (sigmoid), not one class against another.
        ranks: regions are ranked; otherwise the detection branch is missing.
        image_log_probs: also takes k; the image decision.
        region_scores: (N, M, C), how much each region shows each finding.
    """

    normal_class: bool
    binary: bool
    ranks: bool
    image_log_probs: Callable[[Tensor, Tensor, Tensor, int], mil.LogProbs]
    region_scores: Callable[[Tensor, Tensor, Tensor], Tensor]


DUAL_BRANCH_VARIANTS = {
    "cls_det_rs": DualBranchVariant(True, False, True, mil.dual_branch_log_probs, mil.localization_scores),
    "db_baseline": DualBranchVariant(
        False, False, True, lambda cls, det, mask, k: mil.dual_branch_log_probs(cls, det, mask), mil.localization_scores
    ),
    "max_region": DualBranchVariant(
        False,
        True,
        False,
        lambda cls, det, mask, k: mil.max_region_log_probs(cls, mask),
        lambda cls, det, mask: cls.float().sigmoid(),
    ),
    "max_region_softmax": DualBranchVariant(
        True,
        False,
        False,
        lambda cls, det, mask, k: mil.max_region_softmax_log_probs(cls, mask, det.shape[-1]),
        lambda cls, det, mask: mil.region_log_probs(cls, det.shape[-1]).log_prob.exp(),
    ),
}


@ROI_HEADS_REGISTRY.register()
class DualBranchROIHeads(nn.Module):
    """A region encoder, one fully connected layer, and the two branches.

    The regions come from any proposal generator. Our choices: ReLU after the fully connected layer, biases in both
    branches (the paper's w_c and u_c are linear in a feature that may hold a constant).

    Source:
        Bakalo et al., "Classification and detection in mammograms with weak supervision via dual branch deep neural
        net", ISBI 2019, figure 1 and eq. 1 to 5.
    """

    @configurable
    def __init__(
        self,
        *,
        encoder: Any,
        in_feature: str,
        num_findings: int,
        variant: str = "cls_det_rs",
        num_selected: int = 10,
        fc_dim: int = 128,
        dropout: float = 0.5,
        score_thresh: float = 0.0,
        nms_thresh: float = 0.5,
        detections_per_image: int = 100,
    ):
        """
        Args:
            encoder: see ``region_encoders.py``.
            in_feature: feature map that it works on.
            num_findings: C.
            variant: one of ``DUAL_BRANCH_VARIANTS``.
            num_selected: k regions that each finding ranks.
            fc_dim: width of FC3.
            dropout: after FC3, in training.
            score_thresh, nms_thresh, detections_per_image: which regions become detections; the grid's windows overlap
                less than an ``nms_thresh`` of 0.5, the findings share the detections equally.

        Raises:
            ValueError: an unknown variant, k below 1, or one finding without normal class.
        """
        super().__init__()
        if variant not in DUAL_BRANCH_VARIANTS:
            raise ValueError(f"MODEL.DUAL_BRANCH.VARIANT is {variant!r}; use one of {', '.join(DUAL_BRANCH_VARIANTS)}")
        if num_selected < 1:
            raise ValueError(f"MODEL.DUAL_BRANCH.NUM_SELECTED is {num_selected}; it must be at least 1")
        self.variant = DUAL_BRANCH_VARIANTS[variant]
        num_classes = num_findings + self.variant.normal_class
        if num_classes < 2 and not self.variant.binary:
            raise ValueError(
                f"MODEL.DUAL_BRANCH.VARIANT {variant!r} has no normal class and needs two classes to tell apart: set "
                "DATASETS.CATEGORIES to ['benign', 'malignant']"
            )
        self.encoder = encoder
        self.in_feature = in_feature
        self.num_findings = num_findings
        self.num_selected = num_selected
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_image = detections_per_image
        self.fc3 = nn.Linear(encoder.out_channels, fc_dim)
        self.dropout = nn.Dropout(dropout)
        self.cls_score = nn.Linear(fc_dim, num_classes)
        self.det_score = nn.Linear(fc_dim, num_findings) if self.variant.ranks else None
        for layer in (self.cls_score, self.det_score):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        keys, heads = cfg.MODEL.DUAL_BRANCH, cfg.MODEL.ROI_HEADS
        in_feature = keys.IN_FEATURE or list(input_shape)[-1]
        if in_feature not in input_shape:
            raise ValueError(
                f"MODEL.DUAL_BRANCH.IN_FEATURE is {in_feature!r}; {cfg.MODEL.BACKBONE.NAME} gives "
                f"{', '.join(input_shape)}"
            )
        return {
            "encoder": build_region_encoder(cfg, input_shape[in_feature]),
            "in_feature": in_feature,
            "num_findings": heads.NUM_CLASSES,
            "variant": keys.VARIANT,
            "num_selected": keys.NUM_SELECTED,
            "fc_dim": keys.FC_DIM,
            "dropout": keys.DROPOUT,
            "score_thresh": heads.SCORE_THRESH_TEST,
            "nms_thresh": heads.NMS_THRESH_TEST,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: Tensor | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """
        Args:
            images: not used.
            features: feature maps by name.
            proposals: per image ``proposal_boxes``, XYXY on the network input; at least one.
            targets: in training the image labels (N, C), see ``image_targets``.

        Returns:
            As ``forward_codes``.
        """
        return self.forward_codes(self.encode(features, proposals), proposals, targets)

    def encode(self, features: dict[str, Tensor], proposals: list[Instances]) -> list[Tensor]:
        """Codes of the regions: per image (m_n, D)."""
        boxes = [image.proposal_boxes.tensor for image in proposals]
        codes = self.encoder(features[self.in_feature], boxes)
        return list(codes.split([len(image) for image in boxes]))

    def forward_codes(
        self, codes: list[Tensor], proposals: list[Instances], targets: Tensor | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """The part after the region encoder.

        Args:
            codes: per image (m_n, D).
            proposals: the regions.
            targets: in training the image labels (N, C).

        Returns:
            In training the proposals, and ``loss_image``. Otherwise per image ``pred_boxes`` (regions), ``scores`` (eq.
            5) and ``pred_classes``, and {"image_probs": (N, C), "normal_probs": (N,), the probability of neither
            finding, ``Π_c (1 - p_c)``}.
        """
        regions, mask = mil.pad_regions(codes)
        hidden = self.dropout(F.relu(self.fc3(regions)))
        cls_logits = self.cls_score(hidden)
        if self.det_score is None:
            det_logits = cls_logits[..., : self.num_findings]
        else:
            det_logits = self.det_score(hidden)
        probs = self.variant.image_log_probs(cls_logits, det_logits, mask, self.num_selected)
        if self.training:
            if targets is None:
                raise ValueError("DualBranchROIHeads needs image labels in training: use WeaklySupervisedRCNN")
            return proposals, {"loss_image": mil.image_loss(probs, targets)}
        scores = self.variant.region_scores(cls_logits, det_logits, mask)
        found = [self._detections(image, scores[i, : len(image)]) for i, image in enumerate(proposals)]
        # Sums of exponentials may be a rounding error above 1.
        probabilities = {"image_probs": probs.log_prob, "normal_probs": probs.log_complement.sum(dim=1)}
        return found, {name: values.exp().clamp(max=1.0) for name, values in probabilities.items()}

    def _detections(self, regions: Instances, scores: Tensor) -> Instances:
        """Every region once per finding with its score (m, C), thinned out and best first.

        The findings share the number of detections equally. The scores of a finding sum to at most its probability, so
        a finding of low probability would otherwise lose its regions to another.
        """
        rows, classes = (scores > self.score_thresh).nonzero(as_tuple=True)
        boxes, kept_scores = regions.proposal_boxes.tensor[rows], scores[rows, classes]
        keep = batched_nms(boxes.float(), kept_scores, classes, self.nms_thresh)
        share = -(-self.detections_per_image // self.num_findings)
        place = (classes[keep, None] == torch.arange(self.num_findings, device=classes.device)).cumsum(dim=0)
        keep = keep[place.gather(1, classes[keep, None])[:, 0] <= share]
        found = Instances(regions.image_size)
        found.pred_boxes = Boxes(boxes[keep])
        found.scores = kept_scores[keep]
        found.pred_classes = classes[keep]
        return found


def whole_image_if_empty(proposals: Sequence[Instances]) -> list[Instances]:
    """Images for which a detector proposed nothing get one region, the whole image."""
    result = []
    for image in proposals:
        if len(image) == 0:
            height, width = image.image_size
            device = image.proposal_boxes.tensor.device
            box = torch.tensor([[0.0, 0.0, float(width), float(height)]], device=device)
            image = Instances(image.image_size, proposal_boxes=Boxes(box))
        result.append(image)
    return result
