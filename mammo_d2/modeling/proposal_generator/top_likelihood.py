"""TopLikelihoodRPN: a region proposal network that learns from images without annotations by ranking their anchors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mammo_d2.framework import (
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    RPN,
    Boxes,
    Instances,
    configurable,
    get_event_storage,
)
from mammo_d2.modeling.functional.losses import top_likelihood_loss

#: Anchor labels of an image without annotations: an anchor that may be used, and one that is left out. The matcher's
#: labels of other images are 1 (object), 0 (background), -1 (ignored).
UNANNOTATED = -2
LEFT_OUT = -3

NEGATIVE_IMAGE_MODES = ("top_likelihood", "random", "ignore")
LOSS_AVERAGES = ("kind", "all")


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
        loss_average: str = "kind",
        top_t: int = 0,
        top_likelihood_weight: float = 1.0,
        **kwargs,
    ):
        """
        Args:
            negative_images: "top_likelihood"; "random": the anchors of negative images are sampled like any others (the
                control experiment), or "ignore": no loss on negative images.
            loss_average: "kind": positive and negative images are averaged apart; "all": together, as the plain RPN
                does ("random" only).
            top_t: T, the number of anchors ranked highest in a negative image; 0: ``batch_size_per_image``.
            top_likelihood_weight: λ2 of eq. 2, of the loss of negative images; the weight of ``loss_rpn_cls`` in
                ``loss_weight`` multiplies it.
            kwargs: arguments of the RPN. Anchors that ``anchor_boundary_thresh`` leaves out are not ranked.

        Raises:
            ValueError: an unknown ``negative_images`` or ``loss_average``, two that do not go together, or a negative
                ``top_t``.
        """
        super().__init__(**kwargs)
        if negative_images not in NEGATIVE_IMAGE_MODES:
            raise ValueError(
                f"MODEL.RPN.NEGATIVE_IMAGES is {negative_images!r}; use one of {', '.join(NEGATIVE_IMAGE_MODES)}"
            )
        if loss_average not in LOSS_AVERAGES:
            raise ValueError(f"MODEL.RPN.LOSS_AVERAGE is {loss_average!r}; use one of {', '.join(LOSS_AVERAGES)}")
        if loss_average == "all" and negative_images != "random":
            raise ValueError(
                f"MODEL.RPN.LOSS_AVERAGE 'all' needs MODEL.RPN.NEGATIVE_IMAGES 'random', not {negative_images!r}; set "
                "LOSS_AVERAGE to 'kind'"
            )
        if top_t < 0:
            raise ValueError(
                f"MODEL.RPN.TOP_LIKELIHOOD_T is {top_t}; it must be at least 1, or 0 for MODEL.RPN.BATCH_SIZE_PER_IMAGE"
            )
        self.negative_images = negative_images
        self.loss_average = loss_average
        self.top_t = top_t or self.batch_size_per_image
        self.top_likelihood_weight = top_likelihood_weight

    @classmethod
    def from_config(cls, cfg, input_shape):
        """
        Raises:
            ValueError: "ignore" with ROI heads that would learn from negative images.
        """
        rpn, heads = cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS.NAME
        if rpn.NEGATIVE_IMAGES == "ignore" and not hasattr(ROI_HEADS_REGISTRY.get(heads), "ignore_negatives"):
            raise ValueError(
                f"MODEL.RPN.NEGATIVE_IMAGES 'ignore': MODEL.ROI_HEADS.NAME {heads} learns from negative images; "
                "use SimilarityROIHeads or SimilarityRes5ROIHeads, or the sampler PositiveSampler"
            )
        return {
            **super().from_config(cfg, input_shape),
            "negative_images": rpn.NEGATIVE_IMAGES,
            "loss_average": rpn.LOSS_AVERAGE,
            "top_t": rpn.TOP_LIKELIHOOD_T,
            "top_likelihood_weight": rpn.TOP_LIKELIHOOD_WEIGHT,
        }

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As the RPN's for positive images.

        The anchors of a negative image are labelled ``UNANNOTATED`` (its loss may use them) or ``LEFT_OUT``: those that
        were not sampled ("random"), that reach too far out of the image ("top_likelihood"), or all ("ignore"). With
        ``loss_average`` "all" the labels are the RPN's.

        Returns:
            Per image the labels (A,) and the matched ground-truth boxes (A, 4) XYXY (zeros for negative images).
        """
        if self.negative_images == "random":
            labels, boxes = super().label_and_sample_anchors(anchors, gt_instances)
            if self.loss_average == "kind":
                for image_labels, instances in zip(labels, gt_instances, strict=True):
                    if len(instances) == 0:
                        usable = image_labels >= 0
                        image_labels.fill_(LEFT_OUT)
                        image_labels[usable] = UNANNOTATED
            return labels, boxes
        num_anchors = sum(len(level) for level in anchors)
        device = anchors[0].tensor.device
        label = LEFT_OUT if self.negative_images == "ignore" else UNANNOTATED
        labels = [torch.full((num_anchors,), label, dtype=torch.int8, device=device) for _ in gt_instances]
        boxes = [torch.zeros((num_anchors, 4), device=device) for _ in gt_instances]
        if self.anchor_boundary_thresh >= 0:
            all_anchors = Boxes.cat(anchors)
            for image_labels, instances in zip(labels, gt_instances, strict=True):
                inside = all_anchors.inside_box(instances.image_size, self.anchor_boundary_thresh)
                image_labels[~inside] = LEFT_OUT
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
            ``loss_rpn_cls`` and ``loss_rpn_loc``. Then the loss of negative images: ``loss_rpn_tll``, or
            ``loss_rpn_random`` if they are sampled at random and averaged apart: the cross-entropy of the sampled
            anchors divided by ``batch_size_per_image`` times the number of negative images.
        """
        if self.loss_average == "all":
            return super().losses(anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes)
        is_negative = [bool(labels[0] <= UNANNOTATED) for labels in gt_labels]
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
        logits = torch.cat([level[negatives] for level in pred_objectness_logits], dim=1)
        candidates = torch.stack([gt_labels[i] for i in negatives]) == UNANNOTATED if negatives else None
        weight = self.top_likelihood_weight * self.loss_weight.get("loss_rpn_cls", 1.0)
        if self.negative_images == "top_likelihood":
            losses["loss_rpn_tll"] = weight * top_likelihood_loss(logits, self.top_t, candidates)
        elif self.negative_images == "random":
            chosen = logits[candidates] if candidates is not None else logits.flatten()
            entropy = F.softplus(chosen.float()).sum()  # cross-entropy of background
            losses["loss_rpn_random"] = weight * entropy / (self.batch_size_per_image * max(1, len(negatives)))
        if negatives:
            top_score = logits.detach().amax(dim=1).float().sigmoid().mean()
            get_event_storage().put_scalar("rpn/top_score_negative_images", top_score.item())
        return losses
