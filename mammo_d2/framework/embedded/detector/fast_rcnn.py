"""Fast R-CNN's output layers (Girshick 2015): class scores and boxes of regions, their losses, and detections.

Shapes: R regions of all images together, R_i of image i, K foreground classes. Class K is the background and the last
column of the scores; -1 is a region to be ignored.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.layers import ShapeSpec, batched_nms, cat, cross_entropy
from mammo_d2.framework.embedded.config import CfgNode, configurable
from mammo_d2.framework.embedded.detector.box_regression import Box2BoxTransform, box_regression_loss
from mammo_d2.framework.embedded.structures.boxes import Boxes
from mammo_d2.framework.embedded.structures.instances import Instances
from mammo_d2.framework.embedded.utils.events import get_event_storage


def fast_rcnn_inference(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Turn scored boxes into detections, image by image.

    Boxes are clipped to the image; scores must exceed ``score_thresh``; non-maximum suppression runs within each class;
    the best ``topk_per_image`` remain (all, if negative). Regions with values that are not finite are left out.

    Args:
        boxes: per image ``(R_i, K * 4)``, or ``(R_i, 4)`` for one box whatever the class.
        scores: per image ``(R_i, K + 1)``.
        image_shapes: (height, width) of each image.
        score_thresh: see above.
        nms_thresh: IoU of the NMS.
        topk_per_image: see above.

    Returns:
        Per image Instances with "pred_boxes", "scores" and "pred_classes", best first; and per image the region each
        came from.
    """
    results = [
        _detect(image_boxes, image_scores, shape, score_thresh, nms_thresh, topk_per_image)
        for image_boxes, image_scores, shape in zip(boxes, scores, image_shapes, strict=True)
    ]
    return [instances for instances, _ in results], [regions for _, regions in results]


def _detect(
    boxes: Tensor, scores: Tensor, image_shape: tuple[int, int], score_thresh: float, nms_thresh: float, topk: int
) -> tuple[Instances, Tensor]:
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    if not finite.all():
        boxes, scores = boxes[finite], scores[finite]
    boxes_per_region = boxes.shape[1] // 4
    clipped = Boxes(boxes.reshape(-1, 4))
    clipped.clip(image_shape)
    per_class = clipped.tensor.view(-1, boxes_per_region, 4)

    scores = scores[:, :-1]
    region, label = (scores > score_thresh).nonzero(as_tuple=True)
    candidates = per_class[region, label if boxes_per_region > 1 else 0]
    candidate_scores = scores[region, label]
    keep = batched_nms(candidates, candidate_scores, label, nms_thresh)
    if topk >= 0:
        keep = keep[:topk]
    instances = Instances(
        image_shape, pred_boxes=Boxes(candidates[keep]), scores=candidate_scores[keep], pred_classes=label[keep]
    )
    return instances, region[keep]


def _log_classification_stats(logits: Tensor, gt_classes: Tensor, prefix: str = "fast_rcnn") -> None:
    """Write the accuracy over all regions, that over foreground regions, and their rate of misses to the storage."""
    if gt_classes.numel() == 0:
        return
    background = logits.shape[1] - 1
    predicted = logits.argmax(dim=1)
    correct = predicted == gt_classes
    foreground = (gt_classes >= 0) & (gt_classes < background)
    count = int(foreground.sum())
    storage = get_event_storage()
    storage.put_scalar(f"{prefix}/cls_accuracy", int(correct.sum()) / gt_classes.numel())
    if count:
        storage.put_scalar(f"{prefix}/fg_cls_accuracy", int((correct & foreground).sum()) / count)
        missed = (predicted == background) & foreground
        storage.put_scalar(f"{prefix}/false_negative", int(missed.sum()) / count)


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers, class scores and box deltas of each region, with their losses and their decoding."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec | int,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | dict[str, float] = 1.0,
        use_sigmoid_ce: bool = False,
    ) -> None:
        """Make the layers.

        Args:
            input_shape: shape of the features, or their number.
            box2box_transform: how deltas are meant.
            num_classes: K, without the background.
            test_score_thresh: scores of detections are above this.
            test_nms_thresh: IoU of the NMS within a class.
            test_topk_per_image: largest number of detections.
            cls_agnostic_bbox_reg: one box per region, not one per class.
            smooth_l1_beta: see ``box_regression_loss``.
            box_reg_loss_type: see there.
            loss_weight: of both losses, or by name ("loss_cls", "loss_box_reg"; 1 if missing).
            use_sigmoid_ce: scores are independent probabilities of each class; the background column is unused.
        """
        super().__init__()
        if isinstance(input_shape, int):
            input_shape = ShapeSpec(channels=input_shape)
        size = input_shape.channels * (input_shape.height or 1) * (input_shape.width or 1)  # type: ignore[operator]
        box_dim = len(box2box_transform.weights)
        self.num_classes = num_classes
        self.cls_score = nn.Linear(size, num_classes + 1)
        self.bbox_pred = nn.Linear(size, box_dim * (1 if cls_agnostic_bbox_reg else num_classes))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.box2box_transform = box2box_transform
        self.smooth_l1_beta = smooth_l1_beta
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.box_reg_loss_type = box_reg_loss_type
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight
        self.use_sigmoid_ce = use_sigmoid_ce

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        roi, box = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
        if box.USE_FED_LOSS:
            raise ValueError("MODEL.ROI_BOX_HEAD.USE_FED_LOSS: the federated loss needs the detectron2 engine")
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=box.BBOX_REG_WEIGHTS),
            "num_classes": roi.NUM_CLASSES,
            "cls_agnostic_bbox_reg": box.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": box.SMOOTH_L1_BETA,
            "test_score_thresh": roi.SCORE_THRESH_TEST,
            "test_nms_thresh": roi.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "box_reg_loss_type": box.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": box.BBOX_REG_LOSS_WEIGHT},
            "use_sigmoid_ce": box.USE_SIGMOID_CE,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map features ``(R, ...)`` to logits ``(R, K + 1)`` and deltas ``(R, K * 4)`` or ``(R, 4)``."""
        x = x.flatten(start_dim=1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]) -> dict[str, Tensor]:
        """Compute the losses of sampled proposals.

        Args:
            predictions: logits and deltas from ``forward``.
            proposals: per image "proposal_boxes", "gt_classes", and "gt_boxes" unless the image has no ground truth.

        Returns:
            "loss_cls", the mean cross-entropy, and "loss_box_reg", the sum over foreground proposals divided by the
            number of all proposals. Both are 0 and connected to the graph if there are none.
        """
        scores, deltas = predictions
        if proposals:
            gt_classes = cat([p.gt_classes for p in proposals])
            boxes = cat([p.proposal_boxes.tensor for p in proposals])
            # All proposals of an image without ground truth are background: any box will do in their place.
            gt_boxes = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        else:
            gt_classes = torch.empty(0, dtype=torch.int64, device=scores.device)
            boxes = gt_boxes = deltas.new_empty((0, 4))
        _log_classification_stats(scores, gt_classes)
        classification = self.sigmoid_cross_entropy_loss if self.use_sigmoid_ce else cross_entropy
        losses = {
            "loss_cls": classification(scores, gt_classes),
            "loss_box_reg": self.box_reg_loss(boxes, gt_boxes, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def sigmoid_cross_entropy_loss(self, pred_class_logits: Tensor, gt_classes: Tensor) -> Tensor:
        """Binary cross-entropy of each foreground class, summed over classes, averaged over regions.

        Args:
            pred_class_logits: ``(R, K + 1)``.
            gt_classes: ``(R,)``.
        """
        if pred_class_logits.numel() == 0:
            return pred_class_logits.sum() * 0.0
        target = F.one_hot(gt_classes, pred_class_logits.shape[1])[:, :-1].to(pred_class_logits.dtype)
        loss = F.binary_cross_entropy_with_logits(pred_class_logits[:, :-1], target, reduction="none")
        return loss.sum() / len(gt_classes)

    def box_reg_loss(self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor) -> Tensor:
        """Regression loss of foreground regions, divided by R: each counts the same in every mini-batch.

        Args:
            proposal_boxes: ``(R, 4)`` XYXY.
            gt_boxes: ``(R, 4)`` XYXY.
            pred_deltas: ``(R, K * 4)`` or ``(R, 4)``.
            gt_classes: ``(R,)``.
        """
        foreground = ((gt_classes >= 0) & (gt_classes < self.num_classes)).nonzero().squeeze(1)
        if pred_deltas.shape[1] == 4:
            deltas = pred_deltas[foreground]
        else:
            deltas = pred_deltas.view(-1, self.num_classes, 4)[foreground, gt_classes[foreground]]
        loss = box_regression_loss(
            self.box2box_transform,
            deltas,
            proposal_boxes[foreground],
            gt_boxes[foreground],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return loss / max(gt_classes.numel(), 1)

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Turn predictions into detections, see ``fast_rcnn_inference``."""
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def predict_boxes(self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]) -> Sequence[Tensor]:
        """Decode the deltas: per image boxes ``(R_i, K * 4)`` or ``(R_i, 4)`` XYXY."""
        if not proposals:
            return []
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        return self.box2box_transform.apply_deltas(predictions[1], boxes).split([len(p) for p in proposals])

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]
    ) -> list[Tensor]:
        """Decode the deltas of each proposal's own class ("gt_classes"): per image boxes ``(R_i, 4)`` XYXY."""
        own_boxes = []
        for boxes, p in zip(self.predict_boxes(predictions, proposals), proposals, strict=True):
            per_class = boxes.view(len(p), boxes.shape[1] // 4, 4)
            # Background has no box of its own; the last class stands in.
            label = p.gt_classes.clamp(0, per_class.shape[1] - 1)
            own_boxes.append(per_class[torch.arange(len(p), device=boxes.device), label])
        return own_boxes

    def predict_probs(self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Instances]) -> Sequence[Tensor]:
        """Return per image the class probabilities ``(R_i, K + 1)``."""
        scores = predictions[0]
        probabilities = scores.sigmoid() if self.use_sigmoid_ce else F.softmax(scores, dim=-1)
        return probabilities.split([len(p) for p in proposals])
