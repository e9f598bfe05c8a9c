"""SimilarityROIHeads and SimilarityRes5ROIHeads: Fast R-CNN heads with the similarity loss between paired images.

Naming convention:
    suspects: the proposals of a negative image with the highest objectness; they look like a lesion to the RPN.
    pair: the i-th positive and the i-th negative image of a batch; images beyond the shorter list have no pair.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mammo_d2.framework import (
    ROI_HEADS_REGISTRY,
    Boxes,
    Instances,
    Res5ROIHeads,
    StandardROIHeads,
    configurable,
    get_event_storage,
)
from mammo_d2.modeling.functional.losses import similarity_loss


@dataclass(frozen=True)
class RegionPairs:
    """Which regions the similarity loss compares.

    Attributes:
        foreground: per pair (K,) rows among the sampled proposals of the whole batch (images concatenated in order).
        suspects: per image, the boxes to classify besides the sampled ones: K in the negative image of a pair, none in
            other images. Pairs are in the order of their negative images.
    """

    foreground: list[Tensor]
    suspects: list[Boxes]


def pair_regions(sampled: list[Instances], proposals: list[Instances], num_classes: int) -> RegionPairs:
    """Pair the foreground proposals of each positive image with the suspects of its negative image.

    Both are ordered by RPN objectness. With fewer proposals in the negative image than foreground proposals in the
    positive one, K shrinks to what there is.

    Args:
        sampled: per image the sampled, labelled proposals (``objectness_logits``, ``gt_classes``, and ``gt_boxes``
            only if the image has ground truth).
        proposals: per image the RPN's proposals before sampling (``proposal_boxes``, ``objectness_logits``).
        num_classes: C; class C is background.
    """
    # Only images with ground truth carry matched boxes: the label alone cannot tell a positive image without a
    # foreground sample from a negative one.
    positives = [i for i, image in enumerate(sampled) if image.has("gt_boxes")]
    negatives = [i for i, image in enumerate(sampled) if not image.has("gt_boxes")]
    offsets = [0]
    for image in sampled:
        offsets.append(offsets[-1] + len(image))

    suspects = [image.proposal_boxes[:0] for image in proposals]
    foreground = []
    for positive, negative in zip(positives, negatives, strict=False):
        classes = sampled[positive].gt_classes
        rows = torch.nonzero((classes >= 0) & (classes < num_classes)).squeeze(1)
        k = min(len(rows), len(proposals[negative]))
        order = sampled[positive].objectness_logits[rows].argsort(descending=True, stable=True)
        foreground.append(rows[order[:k]] + offsets[positive])
        top = proposals[negative].objectness_logits.argsort(descending=True, stable=True)[:k]
        suspects[negative] = proposals[negative].proposal_boxes[top]
    return RegionPairs(foreground, suspects)


class _SimilarityMixin:
    """Training step of both forms; a subclass implements ``classify_regions``."""

    num_classes: int
    box_predictor: Any
    # Negative images are left out of the losses (MODEL.RPN.NEGATIVE_IMAGES "ignore").
    ignore_negatives: bool = False

    @configurable
    def __init__(self, *, similarity_weight: float = 0.1, ignore_negatives: bool = False, **kwargs):
        """
        Args:
            similarity_weight: λ4 of eq. 4; 0 makes these the base class's heads.
            ignore_negatives: learn from positive images only.
            kwargs: arguments of the base class.
        """
        super().__init__(**kwargs)
        self.similarity_weight = similarity_weight
        self.ignore_negatives = ignore_negatives

    @classmethod
    def from_config(cls, cfg, input_shape=None):
        """
        Raises:
            ValueError: masks or keypoints are asked for.
        """
        if cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON:
            raise ValueError(
                "the similarity heads predict boxes only: set MODEL.MASK_ON and MODEL.KEYPOINT_ON to False, "
                f"got {cfg.MODEL.MASK_ON} and {cfg.MODEL.KEYPOINT_ON}"
            )
        arguments = super().from_config(cfg, input_shape)
        return {
            **arguments,
            "similarity_weight": cfg.MODEL.ROI_HEADS.SIMILARITY_WEIGHT,
            "ignore_negatives": cfg.MODEL.RPN.NEGATIVE_IMAGES == "ignore",
        }

    def classify_regions(self, features: dict[str, Tensor], boxes: list[Boxes]) -> tuple[Tensor, Tensor]:
        """Class logits (R, C+1) and box deltas (R, 4C or 4) of the boxes of all images, concatenated."""
        raise NotImplementedError

    def forward(self, images, features, proposals, targets=None):
        """As the base class's; in training ``loss_similarity`` joins the losses."""
        if self.training and self.ignore_negatives:
            return self._forward_positives(images, features, proposals, targets)
        if not self.training or self.similarity_weight == 0:
            return super().forward(images, features, proposals, targets)
        sampled = self.label_and_sample_proposals(proposals, targets)
        return sampled, self._losses_with_similarity(features, sampled, proposals)

    def _forward_positives(self, images, features, proposals, targets):
        """The base class's training step on the positive images alone; zero losses with a graph without any."""
        positives = [i for i, instances in enumerate(targets) if len(instances) > 0]
        if not positives:
            _, losses = super().forward(images, features, proposals, targets)
            return [], {name: loss * 0.0 for name, loss in losses.items()}
        features = {name: maps[positives] for name, maps in features.items()}
        chosen = [[values[i] for i in positives] for values in (proposals, targets)]
        return super().forward(images, features, *chosen)

    def _losses_with_similarity(
        self, features: dict[str, Tensor], sampled: list[Instances], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        pairs = pair_regions(sampled, proposals, self.num_classes)
        # One pass of the head over sampled proposals and suspects together; the masks take them apart again.
        boxes = [Boxes.cat([image.proposal_boxes, extra]) for image, extra in zip(sampled, pairs.suspects, strict=True)]
        logits, deltas = self.classify_regions(features, boxes)
        is_sampled = torch.cat(
            [
                torch.arange(len(image) + len(extra), device=logits.device) < len(image)
                for image, extra in zip(sampled, pairs.suspects, strict=True)
            ]
        )
        losses = self.box_predictor.losses((logits[is_sampled], deltas[is_sampled]), sampled)
        probs = logits.float().softmax(dim=1)
        counts = [len(rows) for rows in pairs.foreground]
        per_pair = [
            similarity_loss(probs[is_sampled][rows], suspects)
            for rows, suspects in zip(pairs.foreground, probs[~is_sampled].split(counts), strict=True)
        ]
        # The mean over pairs, not over all regions: a batch then equals the mean of its parts on several devices.
        similarity = torch.stack(per_pair).mean() if per_pair else probs.sum() * 0.0
        losses["loss_similarity"] = self.similarity_weight * similarity
        get_event_storage().put_scalar("roi_head/num_similarity_regions", sum(counts))
        return losses


@ROI_HEADS_REGISTRY.register()
class SimilarityROIHeads(_SimilarityMixin, StandardROIHeads):
    """The FPN form (pooler, two fully connected layers) with the similarity loss.

    Source:
        Xiao et al., "Learning from suspected target", MICCAI 2019, eq. 3 and 4.
    """

    def classify_regions(self, features: dict[str, Tensor], boxes: list[Boxes]) -> tuple[Tensor, Tensor]:
        pooled = self.box_pooler([features[f] for f in self.box_in_features], boxes)
        return self.box_predictor(self.box_head(pooled))


@ROI_HEADS_REGISTRY.register()
class SimilarityRes5ROIHeads(_SimilarityMixin, Res5ROIHeads):
    """The C4 form (the paper's original Faster R-CNN: res5 on each region) with the similarity loss.

    Source:
        Xiao et al., "Learning from suspected target", MICCAI 2019, eq. 3 and 4.
    """

    def classify_regions(self, features: dict[str, Tensor], boxes: list[Boxes]) -> tuple[Tensor, Tensor]:
        regions = self._shared_roi_transform([features[f] for f in self.in_features], boxes)
        return self.box_predictor(regions.mean(dim=[2, 3]))
