"""A two-stage detector as one function of tensors, from pixels to boxes, that an exporter can follow.

The networks are the model's own, and so are their thresholds. What lies between them is written here once more, for one
image and without ``Instances``, loops over data, or sizes that are fixed by the first image seen. Results are those of
the model.

Shapes: R candidates, a number that depends on the image; A anchors per cell; K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from mammo_d2.framework import RPN, GeneralizedRCNN, Res5ROIHeads, StandardROIHeads
from mammo_d2.inference.export.network_input import network_input


def best(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` highest of (R,) scores, best first; all of them if there are fewer.

    Scores of minus infinity and NaN are left out.
    """
    # The padding makes the count constant: an exporter cannot compare it with a number that depends on the image.
    values, index = F.pad(scores, (0, count), value=-torch.inf).topk(count)
    return index[values > -torch.inf]


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes (..., 4) XYXY within an image of ``size`` (width, height, width, height)."""
    return torch.minimum(boxes.clamp(min=0), size)


def has_area(boxes: Tensor, least_side: float = 0.0) -> Tensor:
    """(R,) whether both sides of boxes (R, 4) are longer than ``least_side``."""
    return ((boxes[:, 2:] - boxes[:, :2]) > least_side).all(dim=1)


class DetectorGraph(nn.Module):
    """Detects in one image.

    ``forward`` takes the network input ``(1, 1, H, W)``, float32 in the range that PIXEL_MEAN expects (0 to 255), and
    returns boxes (n, 4) XYXY in its pixels, scores (n,) and class numbers (n,), int64, best first.
    """

    kind = "detector"
    takes_any_size = True
    output_names = ("boxes", "scores", "classes")

    def __init__(self, model: GeneralizedRCNN):
        """
        Args:
            model: in evaluation mode; its layers are shared.

        Raises:
            ValueError: a kind of detector that this class does not know.
        """
        super().__init__()
        check_detector(model)
        self.model: Any = model

    def expected(self, image: Tensor) -> dict[str, Tensor]:
        """What the model itself gives for an image (1, 1, H, W), under ``output_names``."""
        found = self.model([{"image": image[0].expand(len(self.model.pixel_mean), -1, -1)}])[0]["instances"]
        return {"boxes": found.pred_boxes.tensor, "scores": found.scores, "classes": found.pred_classes}

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        model = self.model
        features = model.backbone(network_input(model, image, model.backbone.size_divisibility))
        size = _size(image)
        proposals = self._proposals(features, size)
        return self._detections(features, proposals, size)

    def _proposals(self, features: dict[str, Tensor], size: Tensor) -> Tensor:
        """Boxes (POST_NMS_TOPK_TEST, 4) of the proposal generator, best first; empty ones where there are fewer."""
        rpn = self.model.proposal_generator
        maps = [features[name] for name in rpn.in_features]
        boxes, scores = [], []
        for number, (logits, deltas) in enumerate(zip(*rpn.rpn_head(maps), strict=True)):
            level_logits = logits.permute(0, 2, 3, 1).flatten()
            index = best(level_logits, rpn.pre_nms_topk[False])
            level_deltas = deltas.permute(0, 2, 3, 1).reshape(-1, 4)[index]
            anchors = _anchors(rpn.anchor_generator, number, index, _as_tensor(logits.shape[3], index))
            decoded = rpn.box2box_transform.apply_deltas(level_deltas, anchors)
            clipped = clip(decoded, size)
            usable = torch.isfinite(decoded).all(dim=1) & has_area(clipped, rpn.min_box_size)
            level_boxes, level_scores = clipped[usable], level_logits[index][usable]
            kept = nms(level_boxes, level_scores, rpn.nms_thresh)
            boxes.append(level_boxes[kept])
            scores.append(level_scores[kept])
        # A constant number of proposals: some layers cannot be exported for a number that depends on the image.
        count = rpn.post_nms_topk[False]
        chosen = F.pad(torch.cat(scores), (0, count), value=-torch.inf).topk(count).indices
        return F.pad(torch.cat(boxes), (0, 0, 0, count))[chosen]

    def _detections(
        self, features: dict[str, Tensor], proposals: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and classes of the second stage."""
        heads = self.model.roi_heads
        maps = [features[name] for name in heads.in_features]
        if isinstance(heads, Res5ROIHeads):
            codes = heads.res5(_pooled(heads.pooler, maps, proposals)).mean(dim=(2, 3))
        else:
            codes = heads.box_head(_pooled(heads.box_pooler, maps, proposals))
        predictor = heads.box_predictor
        logits, deltas = predictor(codes)
        probabilities = logits.sigmoid() if predictor.use_sigmoid_ce else logits.softmax(dim=1)
        decoded = predictor.box2box_transform.apply_deltas(deltas, proposals)
        usable = torch.isfinite(torch.cat([decoded, probabilities], dim=1)).all(dim=1) & has_area(proposals)
        clipped = clip(decoded.unflatten(1, (-1, 4)), size)
        boxes, scores, classes = [], [], []
        for label in range(predictor.num_classes):
            found = usable & (probabilities[:, label] > predictor.test_score_thresh)
            label_boxes = clipped[:, label if clipped.shape[1] > 1 else 0][found]
            label_scores = probabilities[:, label][found]
            kept = nms(label_boxes, label_scores, predictor.test_nms_thresh)
            boxes.append(label_boxes[kept])
            scores.append(label_scores[kept])
            classes.append(torch.full_like(kept, label))
        all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
        chosen = best(all_scores, predictor.test_topk_per_image)
        chosen = chosen[has_area(all_boxes[chosen])]
        return all_boxes[chosen], all_scores[chosen], torch.cat(classes)[chosen]


def check_detector(model: GeneralizedRCNN) -> None:
    """Check that a detector works the way ``DetectorGraph`` does.

    Raises:
        ValueError: it does not; the message names the part.
    """
    rpn: Any = model.proposal_generator
    heads: Any = model.roi_heads
    name = type(model).__name__
    if type(model).inference is not GeneralizedRCNN.inference:
        raise ValueError(f"{name} cannot be exported: it does not detect as GeneralizedRCNN does")
    if not isinstance(rpn, RPN) or type(rpn).predict_proposals is not RPN.predict_proposals:
        raise ValueError(
            f"{name} cannot be exported with the proposal generator {type(rpn).__name__}; RPN and TopLikelihoodRPN can"
        )
    standard = isinstance(heads, StandardROIHeads) and type(heads)._forward_box is StandardROIHeads._forward_box
    if not (standard or isinstance(heads, Res5ROIHeads)) or not hasattr(heads.box_predictor, "test_topk_per_image"):
        raise ValueError(
            f"{name} cannot be exported with the ROI heads {type(heads).__name__}; StandardROIHeads, Res5ROIHeads and "
            "their similarity forms can"
        )
    if getattr(heads, "mask_on", False) or getattr(heads, "keypoint_on", False):
        raise ValueError("only boxes are exported: set MODEL.MASK_ON and MODEL.KEYPOINT_ON to False")
    if getattr(rpn.anchor_generator, "box_dim", 4) != 4:
        raise ValueError("rotated boxes cannot be exported: use DefaultAnchorGenerator")
    if heads.box_predictor.test_topk_per_image < 1:
        raise ValueError("TEST.DETECTIONS_PER_IMAGE must be at least 1 for an export; a graph needs a largest number")
    if (getattr(model.backbone, "padding_constraints", None) or {}).get("square_size", 0) > 0:
        raise ValueError("backbones whose inputs are padded to a square cannot be exported")


def _size(image: Tensor) -> Tensor:
    """(width, height, width, height) of an image (..., H, W), float32 (4,)."""
    height, width = image.shape[-2:]
    return torch.cat([_as_tensor(side, image) for side in (width, height)] * 2)


def _as_tensor(number: int, like: Tensor) -> Tensor:
    """A number that an exporter may not know, as a tensor (1,) of the type and device of ``like``."""
    return like.new_ones(1) * number


def _anchors(generator: Any, level: int, index: Tensor, columns: Tensor) -> Tensor:
    """The anchors (R, 4) of some places of a feature map.

    Args:
        generator: a DefaultAnchorGenerator.
        level: number of the map.
        index: (R,) into all anchors of the map: row by row, cell by cell.
        columns: (1,) width of the map.
    """
    of_cell = list(generator.cell_anchors)[level]
    cell, anchor = index // len(of_cell), index % len(of_cell)
    corner = torch.stack([cell % columns, cell // columns], dim=1).to(of_cell.dtype) + generator.offset
    return (corner * generator.strides[level]).repeat(1, 2) + of_cell[anchor]


def _pooled(pooler: Any, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Regions (R, C, h, w) of boxes (R, 4), each from the map that the pooler has for its size."""
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    poolers = list(pooler.level_poolers)
    if len(poolers) == 1:
        return poolers[0](maps[0], rois)
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    levels = torch.floor(pooler.canonical_level + torch.log2(sides / pooler.canonical_box_size + 1e-8))
    levels = levels.clamp(min=pooler.min_level, max=pooler.max_level) - pooler.min_level
    parts = [
        pool(features, rois[levels == level]) for level, (features, pool) in enumerate(zip(maps, poolers, strict=True))
    ]
    # Back to the order of the boxes: the parts have them sorted by level, then place.
    place = torch.arange(boxes.shape[0], device=boxes.device)
    order = (levels.long() * boxes.shape[0] + place).argsort()
    return torch.cat(parts)[order.argsort()]
