"""ROI heads: sampling of proposals for training, and what is predicted for each region, in the C4 and the FPN form."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fvcore.common.registry import Registry
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.layers import ShapeSpec
from mammo_d2.framework.embedded.backbone.resnet import BottleneckBlock, ResNet
from mammo_d2.framework.embedded.config import CfgNode, configurable
from mammo_d2.framework.embedded.detector.box_head import build_box_head
from mammo_d2.framework.embedded.detector.fast_rcnn import FastRCNNOutputLayers
from mammo_d2.framework.embedded.detector.matching import Matcher, subsample_labels
from mammo_d2.framework.embedded.detector.poolers import ROIPooler
from mammo_d2.framework.embedded.detector.proposals import add_ground_truth_to_proposals
from mammo_d2.framework.embedded.structures.boxes import Boxes, pairwise_iou
from mammo_d2.framework.embedded.structures.instances import ImageList, Instances
from mammo_d2.framework.embedded.utils.events import get_event_storage

# Classes called as f(cfg, input_shapes: dict[str, ShapeSpec]) that give ROIHeads.
ROI_HEADS_REGISTRY = Registry("ROI_HEADS")


def build_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the heads named by MODEL.ROI_HEADS.NAME.

    Raises:
        ValueError: the config wants masks or keypoints.
    """
    for key in ("MASK_ON", "KEYPOINT_ON"):
        if cfg.MODEL[key]:
            raise ValueError(f"MODEL.{key}: masks and keypoints need the detectron2 engine; set it to False")
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


class ROIHeads(nn.Module):
    """Matches proposals with ground truth and samples them; subclasses predict."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ) -> None:
        """Set the sampling.

        Args:
            num_classes: foreground classes; the background has this index.
            batch_size_per_image: proposals sampled per image.
            positive_fraction: largest part of foreground among them.
            proposal_matcher: labels proposals by IoU.
            proposal_append_gt: ground-truth boxes join the proposals, so that there is foreground from the start.
        """
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        roi = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": roi.NUM_CLASSES,
            "batch_size_per_image": roi.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": roi.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(roi.IOU_THRESHOLDS, roi.IOU_LABELS, allow_low_quality_matches=False),
            "proposal_append_gt": roi.PROPOSAL_APPEND_GT,
        }

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """Match proposals with ground truth and draw a random sample for training.

        Args:
            proposals: per image "proposal_boxes" and "objectness_logits".
            targets: per image "gt_boxes" and "gt_classes", and any other field named "gt_...".

        Returns:
            Per image the proposals drawn, foreground first, with "gt_classes" and, if the image has ground truth, the
            "gt_..." fields of the ground truth each one matches (of no meaning for background).
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        samples, foreground, background = [], [], []
        for found, truth in zip(proposals, targets, strict=True):
            matches, labels = self.proposal_matcher(pairwise_iou(truth.gt_boxes, found.proposal_boxes))
            index, classes = self._sample_proposals(matches, labels, truth.gt_classes)
            sample = found[index]
            sample.gt_classes = classes
            if len(truth) > 0:
                for name, value in truth.get_fields().items():
                    if name.startswith("gt_") and not sample.has(name):
                        sample.set(name, value[matches[index]])
            samples.append(sample)
            background.append(int((classes == self.num_classes).sum()))
            foreground.append(len(classes) - background[-1])
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", float(np.mean(foreground)))
        storage.put_scalar("roi_head/num_bg_samples", float(np.mean(background)))
        return samples

    def _sample_proposals(self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor) -> tuple:
        """Give the proposals ``(N,)`` their classes and draw a sample.

        Returns:
            Indices of the sample, foreground first, and their classes.
        """
        if gt_classes.numel() > 0:
            classes = gt_classes[matched_idxs]
            classes[matched_labels == 0] = self.num_classes
            classes[matched_labels == -1] = -1
        else:
            classes = torch.full_like(matched_idxs, self.num_classes)
        drawn = torch.cat(
            subsample_labels(classes, self.batch_size_per_image, self.positive_fraction, self.num_classes)
        )
        return drawn, classes[drawn]

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Predict for every proposal.

        Args:
            images: the batch.
            features: name -> ``(N, C, H, W)``.
            proposals: per image "proposal_boxes" and "objectness_logits".
            targets: per image "gt_boxes" and "gt_classes"; in training only.

        Returns:
            In training the sampled proposals (or nothing) and the losses; otherwise the detections and no losses.
        """
        raise NotImplementedError

    def forward_with_given_boxes(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """Predict what belongs to known boxes besides their class: nothing, here."""
        return instances


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """The "C4" form: regions of one feature map go through the last stage of the ResNet, then the predictor."""

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        pooler: ROIPooler,
        res5: nn.Module | Sequence[nn.Module],
        box_predictor: nn.Module,
        **kwargs,
    ) -> None:
        """Put the parts together.

        Args:
            in_features: name of the feature map, in a list.
            pooler: cuts regions out of it.
            res5: the stage, or its blocks.
            box_predictor: as ``FastRCNNOutputLayers``.
            **kwargs: arguments of ``ROIHeads``.
        """
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        self.res5: Any = nn.Sequential(*res5) if isinstance(res5, (list, tuple)) else res5
        self.box_predictor: Any = box_predictor

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:  # type: ignore[override]
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if len(in_features) != 1:
            raise ValueError(f"MODEL.ROI_HEADS.IN_FEATURES {in_features} must be one feature for {cls.__name__}")
        head = cfg.MODEL.ROI_BOX_HEAD
        scales = (1.0 / input_shape[in_features[0]].stride,)  # type: ignore[operator]
        res5, out_channels = cls._build_res5_block(cfg)
        return {
            **super().from_config(cfg),
            "in_features": in_features,
            "pooler": ROIPooler(head.POOLER_RESOLUTION, scales, head.POOLER_SAMPLING_RATIO, head.POOLER_TYPE),
            "res5": res5,
            "box_predictor": FastRCNNOutputLayers(cfg, ShapeSpec(channels=out_channels, height=1, width=1)),
        }

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        """Make the stage; it has bottleneck blocks whatever the depth. Returns it and its output channels."""
        resnets = cfg.MODEL.RESNETS
        if resnets.DEFORM_ON_PER_STAGE[-1]:
            raise ValueError("MODEL.RESNETS.DEFORM_ON_PER_STAGE: there is no deformable res5 head")
        out_channels = 8 * resnets.RES2_OUT_CHANNELS
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            in_channels=out_channels // 2,
            out_channels=out_channels,
            stride_per_block=[2, 1, 1],
            bottleneck_channels=8 * resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP,
            num_groups=resnets.NUM_GROUPS,
            norm=resnets.NORM,
            stride_in_1x1=resnets.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def _shared_roi_transform(self, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Cut regions out of ``(N, C, H, W)`` maps and convolve them: ``(R, C', h, w)``."""
        return self.res5(self.pooler(features, boxes))

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See ``ROIHeads.forward``."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, _required(targets))
        box_features = self._shared_roi_transform(
            [features[name] for name in self.in_features], [p.proposal_boxes for p in proposals]
        )
        predictions = self.box_predictor(box_features.mean(dim=(2, 3)))
        if self.training:
            return [], self.box_predictor.losses(predictions, proposals)
        instances, _ = self.box_predictor.inference(predictions, proposals)
        return self.forward_with_given_boxes(features, instances), {}


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """The form for feature pyramids: regions are pooled from the level that fits, then a box head and the predictor."""

    @configurable
    def __init__(
        self,
        *,
        box_in_features: Sequence[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        train_on_pred_boxes: bool = False,
        **kwargs,
    ) -> None:
        """Put the parts together.

        Args:
            box_in_features: names of the feature maps, finest first.
            box_pooler: cuts regions out of them.
            box_head: maps a region's features to a vector.
            box_predictor: as ``FastRCNNOutputLayers``.
            train_on_pred_boxes: in training, proposals take the boxes predicted for them once the losses are computed.
            **kwargs: arguments of ``ROIHeads``.
        """
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor: Any = box_predictor
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:  # type: ignore[override]
        return {
            **super().from_config(cfg),
            "train_on_pred_boxes": cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES,
            **cls._init_box_head(cfg, input_shape),
        }

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Make the parts of the box branch."""
        head, in_features = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS.IN_FEATURES
        channels = {input_shape[name].channels for name in in_features}
        if len(channels) != 1:
            raise ValueError(f"MODEL.ROI_HEADS.IN_FEATURES {in_features} must have the same number of channels")
        size = head.POOLER_RESOLUTION
        scales = tuple(1.0 / input_shape[name].stride for name in in_features)  # type: ignore[operator]
        box_head = build_box_head(cfg, ShapeSpec(channels=channels.pop(), height=size, width=size))
        return {
            "box_in_features": in_features,
            "box_pooler": ROIPooler(size, scales, head.POOLER_SAMPLING_RATIO, head.POOLER_TYPE),
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(cfg, box_head.output_shape),  # type: ignore[arg-type]
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See ``ROIHeads.forward``."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, _required(targets))
            return proposals, self._forward_box(features, proposals)
        instances = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, instances), {}

    def _forward_box(self, features: dict[str, Tensor], proposals: list[Instances]):
        """Run the box branch.

        Args:
            features: name -> ``(N, C, H, W)``.
            proposals: per image "proposal_boxes"; in training as ``label_and_sample_proposals`` returns them.

        Returns:
            The losses in training, otherwise the detections of each image.
        """
        maps = [features[name] for name in self.box_in_features]
        pooled = self.box_pooler(maps, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(self.box_head(pooled))
        del pooled
        if not self.training:
            instances, _ = self.box_predictor.inference(predictions, proposals)
            return instances
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for p, predicted in zip(proposals, boxes, strict=True):
                p.proposal_boxes = Boxes(predicted)
        return losses


def _required(targets: list[Instances] | None) -> list[Instances]:
    if not targets:
        raise ValueError("ROI heads need ground truth in training: the inputs have no 'instances'")
    return targets
