"""Box regression: the deltas that turn one box into another, and the losses on them."""

import math
from collections.abc import Sequence

import torch
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss

# Largest log-scale decoded: a box of 16 pixels becomes at most 1000 pixels wide or high.
SCALE_CLAMP = math.log(1000.0 / 16)

_BOX_LOSSES = {"giou": giou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}


class Box2BoxTransform:
    """Deltas (dx, dy, dw, dh): a shift of the centre in units of the box's sides, and the logarithm of the scaling.

    Attributes:
        weights: factors of the four deltas, which bring targets to about unit variance.
        scale_clamp: largest dw and dh decoded.
    """

    def __init__(self, weights: Sequence[float], scale_clamp: float = SCALE_CLAMP) -> None:
        self.weights = tuple(weights)
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """Return the deltas ``(N, 4)`` that turn ``src_boxes`` into ``target_boxes``, both ``(N, 4)`` XYXY.

        Raises:
            ValueError: a source box has no width.
        """
        src_x, src_y, src_w, src_h = _centre_and_size(src_boxes)
        target_x, target_y, target_w, target_h = _centre_and_size(target_boxes)
        if not (src_w > 0).all():
            raise ValueError("boxes of zero or negative width cannot be regressed from")
        wx, wy, ww, wh = self.weights
        dx = wx * (target_x - src_x) / src_w
        dy = wy * (target_y - src_y) / src_h
        dw = ww * torch.log(target_w / src_w)
        dh = wh * torch.log(target_h / src_h)
        return torch.stack((dx, dy, dw, dh), dim=1)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Move and scale boxes.

        Args:
            deltas: ``(N, 4 * k)``, k sets of deltas for each box; computed in float32.
            boxes: ``(N, 4)`` XYXY.

        Returns:
            ``(N, 4 * k)`` XYXY boxes, float32.
        """
        dx, dy, dw, dh = deltas.float().unflatten(1, (-1, 4)).unbind(-1)
        wx, wy, ww, wh = self.weights
        x, y, w, h = (values[:, None] for values in _centre_and_size(boxes.float()))
        new_x = dx / wx * w + x
        new_y = dy / wy * h + y
        half_w = 0.5 * (torch.exp((dw / ww).clamp(max=self.scale_clamp)) * w)
        half_h = 0.5 * (torch.exp((dh / wh).clamp(max=self.scale_clamp)) * h)
        corners = (new_x - half_w, new_y - half_h, new_x + half_w, new_y + half_h)
        return torch.stack(corners, dim=-1).view(deltas.shape)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, top, right, bottom = boxes.unbind(-1)
    width, height = right - left, bottom - top
    return left + 0.5 * width, top + 0.5 * height, width, height


def box_regression_loss(
    transform: Box2BoxTransform,
    pred_deltas: Tensor,
    boxes: Tensor,
    gt_boxes: Tensor,
    loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Loss of predicted deltas, summed over all boxes given.

    Args:
        transform: how deltas are meant.
        pred_deltas: ``(N, 4)`` predictions for ``boxes``.
        boxes: ``(N, 4)`` XYXY anchors or proposals.
        gt_boxes: ``(N, 4)`` XYXY, what they should become.
        loss_type: "smooth_l1" compares deltas; "giou", "diou" and "ciou" compare decoded boxes.
        smooth_l1_beta: error at which the smooth L1 loss turns from quadratic to linear; 0 is the L1 loss.

    Returns:
        A scalar; 0, connected to ``pred_deltas``, for no boxes.

    Raises:
        ValueError: the loss is unknown.
    """
    if loss_type == "smooth_l1":
        return smooth_l1_loss(pred_deltas, transform.get_deltas(boxes, gt_boxes), beta=smooth_l1_beta, reduction="sum")
    if loss_type not in _BOX_LOSSES:
        raise ValueError(f"BBOX_REG_LOSS_TYPE is {loss_type!r}; it must be smooth_l1, {', '.join(_BOX_LOSSES)}")
    return _BOX_LOSSES[loss_type](transform.apply_deltas(pred_deltas, boxes), gt_boxes, reduction="sum")
