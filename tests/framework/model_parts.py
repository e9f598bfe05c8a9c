"""Small parts of a detector, put together from an engine's."""

from typing import Any

import torch
from torch import nn

from tests.framework.engines import Engine


def small_rpn(parts: Engine, **kwargs: Any) -> nn.Module:
    """An RPN on the one feature "f" of one channel and stride 4, with two square anchors (8 and 16) per cell."""
    arguments = {
        "in_features": ["f"],
        "head": parts.StandardRPNHead(in_channels=1, num_anchors=2),
        "anchor_generator": parts.DefaultAnchorGenerator(sizes=[[8, 16]], aspect_ratios=[[1]], strides=[4], offset=0.0),
        "anchor_matcher": parts.Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "box2box_transform": parts.Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        "batch_size_per_image": 8,
        "positive_fraction": 0.5,
        "pre_nms_topk": (10, 10),
        "post_nms_topk": (5, 5),
    }
    return parts.RPN(**{**arguments, **kwargs})


def top_proposals(
    parts: Engine,
    boxes: list[torch.Tensor],
    logits: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
    pre: int,
    post: int,
    min_size: float,
    training: bool,
) -> list[Any]:
    """What an RPN proposes of anchors (H * W * A, 4) per feature map that it does not move."""
    rpn = small_rpn(parts, pre_nms_topk=(pre, pre), post_nms_topk=(post, post), min_box_size=min_size).train(training)
    deltas = [torch.zeros(len(x), len(b), 4) for x, b in zip(logits, boxes, strict=True)]
    return rpn.predict_proposals([parts.Boxes(b) for b in boxes], logits, deltas, image_sizes)


def rpn_box_loss(parts: Engine, kind: str, beta: float, *, deltas: list[float], gt: list[float]) -> float:
    """The box loss of one positive anchor 0, 0, 10, 10, divided by 1."""
    rpn = small_rpn(parts, box_reg_loss_type=kind, smooth_l1_beta=beta, batch_size_per_image=1)
    anchors = [parts.Boxes([[0.0, 0, 10, 10]])]
    with parts.EventStorage(0):
        losses = rpn.losses(
            anchors,
            [torch.zeros(1, 1)],
            [torch.tensor([1])],
            [torch.tensor(deltas, dtype=torch.float32).view(1, 1, 4)],
            [torch.tensor([gt], dtype=torch.float32)],
        )
    return losses["loss_rpn_loc"].item()


def output_layers(parts: Engine, num_classes: int, **kwargs: Any) -> nn.Module:
    """Output layers on features of length 4."""
    transform = parts.Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))
    shape = parts.ShapeSpec(channels=4)
    return parts.FastRCNNOutputLayers(shape, box2box_transform=transform, num_classes=num_classes, **kwargs)


def small_roi_heads(
    parts: Engine, thresholds: list[float], labels: list[int], batch_size_per_image: int, num_classes: int = 2
) -> nn.Module:
    """ROI heads on the one feature "f" of one channel and stride 4, pooled to 2x2."""
    return parts.StandardROIHeads(
        box_in_features=["f"],
        box_pooler=parts.ROIPooler(2, [0.25], 0, "ROIAlignV2"),
        box_head=parts.FastRCNNConvFCHead(parts.ShapeSpec(channels=1, height=2, width=2), conv_dims=[], fc_dims=[4]),
        box_predictor=output_layers(parts, num_classes),
        num_classes=num_classes,
        batch_size_per_image=batch_size_per_image,
        positive_fraction=0.5,
        proposal_matcher=parts.Matcher(thresholds, labels),
    )


def small_fpn(parts: Engine) -> nn.Module:
    """A feature pyramid on the stem and res2 of nothing: two levels, from maps of 64 channels and strides 4 and 8."""

    class Maps(parts.Backbone):
        def __init__(self) -> None:
            super().__init__()
            self._out_features = ["a", "b"]
            self._out_feature_strides = {"a": 4, "b": 8}
            self._out_feature_channels = {"a": 64, "b": 64}

        def forward(self, x):
            return {"a": x, "b": x[..., ::2, ::2]}

    return parts.FPN(Maps(), ["a", "b"], 256)


def preprocessing_model(parts: Engine) -> nn.Module:
    """A detector of which only the treatment of images is of interest; images are padded to multiples of 4."""

    class Pads(parts.Backbone):
        size_divisibility = 4

        def forward(self, x):
            return {}

    return parts.GeneralizedRCNN(
        backbone=Pads(),
        proposal_generator=None,
        roi_heads=nn.Identity(),
        pixel_mean=parts.get_cfg().MODEL.PIXEL_MEAN,
        pixel_std=parts.get_cfg().MODEL.PIXEL_STD,
    )
