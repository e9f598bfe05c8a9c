"""Region proposal network (Ren et al. 2015).

Shapes: N images, L feature maps, A anchors per cell, R = sum over the maps of H * W * A anchors per image.
Names: objectness is "an object, whatever its class"; deltas are those of ``Box2BoxTransform``; labels of anchors are
1 positive, 0 negative, -1 ignored.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from fvcore.common.registry import Registry
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.layers import Conv2d, ShapeSpec, cat
from mammo_d2.framework.embedded.config import CfgNode, configurable
from mammo_d2.framework.embedded.detector.anchors import build_anchor_generator
from mammo_d2.framework.embedded.detector.box_regression import Box2BoxTransform, box_regression_loss
from mammo_d2.framework.embedded.detector.matching import Matcher, subsample_labels
from mammo_d2.framework.embedded.detector.proposals import PROPOSAL_GENERATOR_REGISTRY, suppress_proposals, top_of_level
from mammo_d2.framework.embedded.structures.boxes import Boxes, pairwise_iou
from mammo_d2.framework.embedded.structures.instances import ImageList, Instances
from mammo_d2.framework.embedded.utils.events import get_event_storage

# Classes called as f(cfg, input_shapes: list[ShapeSpec]).
RPN_HEAD_REGISTRY = Registry("RPN_HEAD")


def build_rpn_head(cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> nn.Module:
    """Build the head named by MODEL.RPN.HEAD_NAME."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then two 1x1 convolutions: objectness and deltas of each anchor. Shared by all feature maps."""

    @configurable
    def __init__(
        self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims: Sequence[int] = (-1,)
    ) -> None:
        """Make the layers.

        Args:
            in_channels: channels of the feature maps.
            num_anchors: anchors per cell.
            box_dim: deltas per anchor.
            conv_dims: output channels of the 3x3 convolutions, -1 for as many as come in.

        Raises:
            ValueError: a number of channels is neither positive nor -1.
        """
        super().__init__()
        widths = [in_channels]
        for width in conv_dims:
            if width != -1 and width <= 0:
                raise ValueError(f"MODEL.RPN.CONV_DIMS {list(conv_dims)} must be positive or -1")
            widths.append(widths[-1] if width == -1 else width)
        convs = [Conv2d(a, b, 3, padding=1, activation=F.relu_) for a, b in pairwise(widths)]
        if len(convs) == 1:  # a checkpoint of a single convolution has no number in its name
            self.conv: nn.Module = convs[0]
        else:
            self.conv = nn.Sequential()
            for i, conv in enumerate(convs):
                self.conv.add_module(f"conv{i}", conv)
        self.objectness_logits = nn.Conv2d(widths[-1], num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(widths[-1], num_anchors * box_dim, kernel_size=1)
        for layer in (*convs, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> dict:
        channels = {shape.channels for shape in input_shape}
        anchors = build_anchor_generator(cfg, input_shape)
        num_anchors = set(anchors.num_anchors)  # type: ignore[arg-type]
        if len(channels) != 1 or len(num_anchors) != 1:
            raise ValueError(
                f"MODEL.RPN.IN_FEATURES have {sorted(channels)} channels and {sorted(num_anchors)} anchors per cell; "  # type: ignore[type-var]
                "one head needs the same number on all of them"
            )
        return {
            "in_channels": channels.pop(),
            "num_anchors": num_anchors.pop(),
            "box_dim": anchors.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map features ``(N, C, H, W)`` to objectness logits ``(N, A, H, W)`` and deltas ``(N, A * 4, H, W)``."""
        hidden = [self.conv(x) for x in features]
        return [self.objectness_logits(x) for x in hidden], [self.anchor_deltas(x) for x in hidden]


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Scores and regresses all anchors, trains on a sample of them, and proposes the best."""

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ) -> None:
        """Put the parts together.

        Args:
            in_features: names of the feature maps.
            head: maps features to logits and deltas, as ``StandardRPNHead``.
            anchor_generator: maps features to anchors.
            anchor_matcher: labels anchors by IoU.
            box2box_transform: how deltas are meant.
            batch_size_per_image: anchors sampled per image.
            positive_fraction: largest part of positives among them.
            pre_nms_topk: (training, test) proposals per feature map before NMS.
            post_nms_topk: (training, test) proposals per image after NMS.
            nms_thresh: IoU of the NMS.
            min_box_size: proposals need both sides above this, in pixels.
            anchor_boundary_thresh: anchors further than this outside the image are not trained on; negative: all are.
            loss_weight: of both losses, or by name ("loss_rpn_cls", "loss_rpn_loc"; 1 if missing).
            box_reg_loss_type: see ``box_regression_loss``.
            smooth_l1_beta: see there.
        """
        super().__init__()
        self.in_features = in_features
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        # Looked up by self.training.
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = loss_weight
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        rpn = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in rpn.IN_FEATURES]
        return {
            "in_features": rpn.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, allow_low_quality_matches=True),
            "head": build_rpn_head(cfg, shapes),
            "box2box_transform": Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT,
            },
            "box_reg_loss_type": rpn.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": rpn.SMOOTH_L1_BETA,
        }

    def forward(
        self, images: ImageList, features: dict[str, Tensor], gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Propose regions, and compute the losses in training.

        Args:
            images: the batch, for its image sizes.
            features: name -> ``(N, C, H, W)``.
            gt_instances: per image "gt_boxes"; needed in training.

        Returns:
            Per image Instances with "proposal_boxes" and "objectness_logits", best first, cut from the graph; and the
            losses (empty outside training).
        """
        maps = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(maps)
        logits, deltas = self.rpn_head(maps)
        # Channels hold the anchors of a cell; flattened, anchors run along the cells as the generator's do.
        logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
        box_dim = self.anchor_generator.box_dim
        deltas = [x.permute(0, 2, 3, 1).reshape(len(x), -1, box_dim) for x in deltas]
        losses: dict[str, Tensor] = {}
        if self.training:
            if gt_instances is None:
                raise ValueError("the RPN needs ground truth in training: the inputs have no 'instances'")
            gt_labels, gt_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, gt_labels, deltas, gt_boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label all anchors and keep a random sample; the others are ignored.

        Args:
            anchors: per feature map.
            gt_instances: per image, with "gt_boxes".

        Returns:
            Per image the labels ``(R,)``, int8, and each anchor's ground-truth box ``(R, 4)``, which means something
            for positive anchors only.
        """
        all_anchors = Boxes.cat(anchors)
        labels, matched_boxes = [], []
        for truth in gt_instances:
            matches, label = self.anchor_matcher(pairwise_iou(truth.gt_boxes, all_anchors))
            if self.anchor_boundary_thresh >= 0:
                label[~all_anchors.inside_box(truth.image_size, self.anchor_boundary_thresh)] = -1
            labels.append(self._subsample_labels(label))
            boxes = truth.gt_boxes.tensor
            matched_boxes.append(boxes[matches] if len(boxes) else torch.zeros_like(all_anchors.tensor))
        return labels, matched_boxes

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Set the labels ``(R,)`` that are not drawn to -1, in place."""
        positive, negative = subsample_labels(label, self.batch_size_per_image, self.positive_fraction, 0)
        label.fill_(-1)
        label[positive] = 1
        label[negative] = 0
        return label

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the losses of the sampled anchors.

        Both are sums divided by ``batch_size_per_image * N``, also if fewer anchors were sampled.

        Args:
            anchors: per feature map ``(H * W * A, 4)``.
            pred_objectness_logits: per feature map ``(N, H * W * A)``.
            gt_labels: per image ``(R,)``.
            pred_anchor_deltas: per feature map ``(N, H * W * A, 4)``.
            gt_boxes: per image ``(R, 4)``.

        Returns:
            "loss_rpn_cls", the cross-entropy of objectness, and "loss_rpn_loc", the regression of positive anchors.
        """
        num_images = len(gt_labels)
        labels = torch.stack(gt_labels)
        positive, sampled = labels == 1, labels >= 0
        image_index, anchor_index = positive.nonzero(as_tuple=True)
        num_positive = len(image_index)
        num_negative = int(sampled.sum()) - num_positive
        storage = get_event_storage()
        storage.put_scalar("rpn/num_pos_anchors", num_positive / num_images)
        storage.put_scalar("rpn/num_neg_anchors", num_negative / num_images)

        logits = cat(pred_objectness_logits, dim=1)[sampled]
        objectness_loss = F.binary_cross_entropy_with_logits(logits, labels[sampled].float(), reduction="sum")
        localization_loss = box_regression_loss(
            self.box2box_transform,
            cat(pred_anchor_deltas, dim=1)[image_index, anchor_index],
            cat([boxes.tensor for boxes in anchors])[anchor_index],
            torch.stack(gt_boxes)[image_index, anchor_index],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        normalizer = self.batch_size_per_image * num_images
        losses = {"loss_rpn_cls": objectness_loss / normalizer, "loss_rpn_loc": localization_loss / normalizer}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode the best anchors of each feature map and suppress duplicates.

        Later stages treat proposals as given, so no gradient flows into them. Only anchors that survive the choice per
        feature map are decoded; the numbers are those of decoding all.

        Args:
            anchors: per feature map ``(H * W * A, 4)``.
            pred_objectness_logits: per feature map ``(N, H * W * A)``.
            pred_anchor_deltas: per feature map ``(N, H * W * A, 4)``.
            image_sizes: (height, width) of each image.

        Returns:
            As ``suppress_proposals``.
        """
        boxes, logits = [], []
        for level_anchors, level_logits, level_deltas in zip(
            anchors, pred_objectness_logits, pred_anchor_deltas, strict=True
        ):
            top_logits, index = top_of_level(level_logits, self.pre_nms_topk[self.training])
            deltas = level_deltas.gather(1, index[..., None].expand(*index.shape, level_deltas.shape[2]))
            decoded = self.box2box_transform.apply_deltas(deltas.flatten(0, 1), level_anchors.tensor[index.flatten()])
            boxes.append(decoded.view(*index.shape, -1))
            logits.append(top_logits)
        return suppress_proposals(
            boxes,
            logits,
            image_sizes,
            self.nms_thresh,
            self.post_nms_topk[self.training],
            self.min_box_size,
            self.training,
        )
