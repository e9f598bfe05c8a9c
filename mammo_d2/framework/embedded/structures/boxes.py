"""Axis-aligned boxes: the ``Boxes`` container, overlaps of two sets, and box formats."""

from collections.abc import Iterator, Sequence
from enum import IntEnum, unique
from typing import Any

import numpy as np
import torch
from torch import Tensor


@unique
class BoxMode(IntEnum):
    """How four numbers describe a box; the values are part of the data set format."""

    XYXY_ABS = 0  # left, top, right, bottom in pixels
    XYWH_ABS = 1  # left, top, width, height in pixels
    XYXY_REL = 2  # fractions of the image; named, never converted
    XYWH_REL = 3
    XYWHA_ABS = 4  # rotated box; named, never converted

    @staticmethod
    def convert(box: Any, from_mode: "BoxMode", to_mode: "BoxMode") -> Any:
        """Convert one box or many between XYXY_ABS and XYWH_ABS.

        Args:
            box: a list or tuple of 4 numbers, or an array or tensor (N, 4). It is not modified.
            from_mode: format of ``box``.
            to_mode: format wanted.

        Returns:
            The boxes in the type of ``box`` (the same object if the formats agree).

        Raises:
            ValueError: a list or tuple that has not 4 entries.
            NotImplementedError: any other pair of formats.
        """
        if from_mode == to_mode:
            return box
        if {from_mode, to_mode} != {BoxMode.XYXY_ABS, BoxMode.XYWH_ABS}:
            raise NotImplementedError(f"no conversion from box mode {from_mode!r} to {to_mode!r}")
        # Right and bottom are corner + size, so the two directions differ only in the sign.
        sign = 1 if to_mode == BoxMode.XYXY_ABS else -1
        if isinstance(box, (list, tuple)):
            if len(box) != 4:
                raise ValueError(f"a box must have 4 numbers, got {box!r}")
            # float32, as every other way a box takes through the engine.
            left, top, a, b = torch.tensor(box)
            converted_box = torch.stack([left, top, a + sign * left, b + sign * top]).tolist()
            return tuple(converted_box) if isinstance(box, tuple) else converted_box
        converted = box.copy() if isinstance(box, np.ndarray) else box.clone()
        converted[..., 2:4] += sign * converted[..., :2]
        return converted


class Boxes:
    """N boxes as a float32 tensor ``(N, 4)`` of left, top, right, bottom in absolute pixels.

    Indexing, iteration and ``len`` go by box. ``clip`` and ``scale`` change the object.

    Attributes:
        tensor: the boxes.
    """

    def __init__(self, tensor: Any) -> None:
        """Wrap boxes given as a tensor, array or nested list ``(N, 4)``; anything empty becomes ``(0, 4)``.

        Raises:
            ValueError: the shape is another one.
        """
        if isinstance(tensor, Tensor):
            tensor = tensor.to(torch.float32)
        else:
            tensor = torch.as_tensor(tensor, dtype=torch.float32)
        if tensor.numel() == 0:
            # Reshaped, not made anew, so that it stays part of its graph.
            tensor = tensor.reshape(0, 4)
        if tensor.dim() != 2 or tensor.shape[1] != 4:
            raise ValueError(f"boxes must have the shape (N, 4), got {tuple(tensor.shape)}")
        self.tensor = tensor

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def clone(self) -> "Boxes":
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device | str) -> "Boxes":
        """Return the boxes on another device; they stay float32."""
        return Boxes(self.tensor.to(device=device))

    def area(self) -> Tensor:
        """Areas ``(N,)`` in square pixels; negative sides are not repaired."""
        left, top, right, bottom = self.tensor.unbind(1)
        return (right - left) * (bottom - top)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move every corner into ``[0, width] x [0, height]``, in place.

        Args:
            box_size: (height, width) of the image.

        Raises:
            ValueError: a coordinate is not finite.
        """
        if not torch.isfinite(self.tensor).all():
            raise ValueError("cannot clip boxes with infinite or NaN coordinates")
        height, width = box_size
        left, top, right, bottom = self.tensor.unbind(1)
        self.tensor = torch.stack(
            (left.clamp(0, width), top.clamp(0, height), right.clamp(0, width), bottom.clamp(0, height)), dim=1
        )

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Tell which boxes have both sides longer than ``threshold`` pixels, bool ``(N,)``."""
        sides = self.tensor[:, 2:] - self.tensor[:, :2]
        return (sides > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: float = 0) -> Tensor:
        """Tell which boxes reach no further than ``boundary_threshold`` pixels beyond an image, bool ``(N,)``."""
        height, width = box_size
        left, top, right, bottom = self.tensor.unbind(-1)
        low = (left >= -boundary_threshold) & (top >= -boundary_threshold)
        return low & (right < width + boundary_threshold) & (bottom < height + boundary_threshold)

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply x and y coordinates, in place, also in a tensor shared with other objects."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: Sequence["Boxes"]) -> "Boxes":
        """Join lists of boxes; the result never shares memory with them."""
        return cls(torch.cat([boxes.tensor for boxes in boxes_list]) if len(boxes_list) else torch.empty(0))

    def __getitem__(self, item: Any) -> "Boxes":
        """Select by an int (giving one box), a slice, or an index or mask tensor."""
        selected = self.tensor[item]
        if isinstance(item, int):
            selected = selected[None]
        if selected.dim() != 2:
            raise ValueError(f"indexing boxes with {item!r} gives no list of boxes")
        return Boxes(selected)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the boxes, each a tensor ``(4,)``."""
        return iter(self.tensor)

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Areas ``(N, M)`` of the intersections of every box of one set with every box of the other."""
    a, b = boxes1.tensor[:, None], boxes2.tensor
    sides = torch.min(a[..., 2:], b[:, 2:]) - torch.max(a[..., :2], b[:, :2])
    width, height = sides.clamp_(min=0).unbind(2)
    return width * height


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection over union ``(N, M)`` of every pair; 0 where they do not meet."""
    area1, area2 = boxes1.area(), boxes2.area()
    intersection = pairwise_intersection(boxes1, boxes2)
    union = area1[:, None] + area2 - intersection
    return torch.where(intersection > 0, intersection / union, intersection.new_zeros(()))
