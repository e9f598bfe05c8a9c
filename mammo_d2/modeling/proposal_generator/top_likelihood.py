"""TopLikelihoodRPN: a region proposal network that learns from images without annotations by ranking their anchors."""

import torch
from torch import Tensor

from mammo_d2.framework import (
    PROPOSAL_GENERATOR_REGISTRY,
    RPN,
    Boxes,
    Instances,
    configurable,
    get_event_storage,
)
from mammo_d2.modeling.functional.losses import top_likelihood_loss

#: Anchor label of an image without annotations. The matcher's labels are 1 (object), 0 (background), -1 (ignored).
UNANNOTATED = -2

NEGATIVE_IMAGE_MODES = ("top_likelihood", "random")


@PROPOSAL_GENERATOR_REGISTRY.register()
class TopLikelihoodRPN(RPN):
    """RPN whose loss on negative images is the top likelihood loss.

    Positive images (with at least one ground-truth box) keep the ordinary RPN loss, averaged over positive images only.
    Negative images contribute ``loss_rpn_tll``, averaged over negative images only: the ``top_t`` anchors with the
    highest objectness over all levels are pushed to background. Inference is the RPN's.

    Source:
        Xiao et al., "Learning from suspected target", MICCAI 2019, eq. 1 and 2.
    """

    @configurable
    def __init__(
        self,
        *,
        negative_images: str = "top_likelihood",
        top_t: int = 256,
        top_likelihood_weight: float = 1.0,
        **kwargs,
    ):
        """
        Args:
            negative_images: "top_likelihood", or "random": negative images are sampled like any other (the control
                experiment, plain RPN).
            top_t: T, the number of anchors ranked highest in a negative image.
            top_likelihood_weight: λ2 of eq. 2.
            kwargs: arguments of the RPN.

        Raises:
            ValueError: an unknown ``negative_images`` or a ``top_t`` below 1.
        """
        super().__init__(**kwargs)
        if negative_images not in NEGATIVE_IMAGE_MODES:
            raise ValueError(
                f"MODEL.RPN.NEGATIVE_IMAGES is {negative_images!r}; use one of {', '.join(NEGATIVE_IMAGE_MODES)}"
            )
        if top_t < 1:
            raise ValueError(f"MODEL.RPN.TOP_LIKELIHOOD_T is {top_t}; it must be at least 1")
        self.negative_images = negative_images
        self.top_t = top_t
        self.top_likelihood_weight = top_likelihood_weight

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {
            **super().from_config(cfg, input_shape),
            "negative_images": cfg.MODEL.RPN.NEGATIVE_IMAGES,
            "top_t": cfg.MODEL.RPN.TOP_LIKELIHOOD_T,
            "top_likelihood_weight": cfg.MODEL.RPN.TOP_LIKELIHOOD_WEIGHT,
        }

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As the RPN's for positive images; every anchor of a negative image is labelled ``UNANNOTATED``.

        Returns:
            Per image the labels (A,) and the matched ground-truth boxes (A, 4) XYXY (zeros for negative images).
        """
        if self.negative_images == "random":
            return super().label_and_sample_anchors(anchors, gt_instances)
        num_anchors = sum(len(level) for level in anchors)
        device = anchors[0].tensor.device
        labels = [torch.full((num_anchors,), UNANNOTATED, dtype=torch.int8, device=device) for _ in gt_instances]
        boxes = [torch.zeros((num_anchors, 4), device=device) for _ in gt_instances]
        positives = [i for i, instances in enumerate(gt_instances) if len(instances) > 0]
        if positives:
            sampled = super().label_and_sample_anchors(anchors, [gt_instances[i] for i in positives])
            for i, image_labels, image_boxes in zip(positives, *sampled, strict=True):
                labels[i], boxes[i] = image_labels, image_boxes
        return labels, boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """
        Args:
            anchors: per level (Hi*Wi*A) boxes.
            pred_objectness_logits: per level (N, Hi*Wi*A).
            gt_labels, gt_boxes: from ``label_and_sample_anchors``.
            pred_anchor_deltas: per level (N, Hi*Wi*A, 4).

        Returns:
            ``loss_rpn_cls``, ``loss_rpn_loc`` and, unless negatives are sampled at random, ``loss_rpn_tll``.
        """
        if self.negative_images == "random":
            return super().losses(anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes)
        is_negative = [bool(labels[0] == UNANNOTATED) for labels in gt_labels]
        positives = [i for i, negative in enumerate(is_negative) if not negative]
        negatives = [i for i, negative in enumerate(is_negative) if negative]

        if positives:
            losses = super().losses(
                anchors,
                [logits[positives] for logits in pred_objectness_logits],
                [gt_labels[i] for i in positives],
                [deltas[positives] for deltas in pred_anchor_deltas],
                [gt_boxes[i] for i in positives],
            )
        else:
            losses = {
                "loss_rpn_cls": torch.cat(pred_objectness_logits, dim=1).sum() * 0.0,
                "loss_rpn_loc": torch.cat(pred_anchor_deltas, dim=1).sum() * 0.0,
            }
        all_logits = torch.cat([logits[negatives] for logits in pred_objectness_logits], dim=1)
        losses["loss_rpn_tll"] = self.top_likelihood_weight * top_likelihood_loss(all_logits, self.top_t)
        if negatives:
            top_score = all_logits.detach().amax(dim=1).float().sigmoid().mean()
            get_event_storage().put_scalar("rpn/top_score_negative_images", top_score.item())
        return losses
