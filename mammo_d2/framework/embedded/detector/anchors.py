"""Anchors: the boxes of fixed sizes and ratios around every cell of a feature map from which proposals start."""

import math
from collections.abc import Iterator, Sequence

import torch
from fvcore.common.registry import Registry
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.layers import ShapeSpec
from mammo_d2.framework.embedded.config import CfgNode, configurable
from mammo_d2.framework.embedded.structures.boxes import Boxes

# Classes called as f(cfg, input_shapes: list[ShapeSpec]).
ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")


class _BufferList(nn.Module):
    """Tensors that follow the module to its device and are not saved with it."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__()
        for i, tensor in enumerate(tensors):
            self.register_buffer(str(i), tensor, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._buffers.values())  # type: ignore[arg-type]


def _per_feature(values: Sequence, num_features: int, key: str) -> list[Sequence[float]]:
    """Spread one list of numbers, or a list of one list, over all feature maps."""
    if not values:
        raise ValueError(f"MODEL.ANCHOR_GENERATOR.{key} is empty")
    lists = list(values) if isinstance(values[0], Sequence) else [values]
    if len(lists) == 1:
        return lists * num_features
    if len(lists) != num_features:
        raise ValueError(f"MODEL.ANCHOR_GENERATOR.{key} has {len(lists)} lists for {num_features} feature maps")
    return lists


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(nn.Module):
    """Anchors on a grid: at each cell one box per size and aspect ratio, sizes in the outer order.

    The first cell's anchors are centred at ``offset * stride``; anchors reach beyond the image and are not rounded.

    Attributes:
        cell_anchors: per feature map, the anchors ``(A, 4)`` of a cell, centred at 0.
        box_dim: numbers per box.
    """

    box_dim = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]] | Sequence[float],
        aspect_ratios: Sequence[Sequence[float]] | Sequence[float],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        """Compute the anchors of a cell of each feature map.

        Args:
            sizes: square roots of the areas in input pixels, per feature map or for all.
            aspect_ratios: height / width, per feature map or for all.
            strides: of the feature maps.
            offset: centre of the first anchors in units of the stride, in [0, 1).

        Raises:
            ValueError: the lists do not fit the number of feature maps, or the offset is out of range.
        """
        super().__init__()
        if not 0.0 <= offset < 1.0:
            raise ValueError(f"MODEL.ANCHOR_GENERATOR.OFFSET is {offset}; it must be in [0, 1)")
        self.strides = list(strides)
        self.num_features = len(self.strides)
        self.offset = offset
        per_feature = zip(
            _per_feature(sizes, self.num_features, "SIZES"),
            _per_feature(aspect_ratios, self.num_features, "ASPECT_RATIOS"),
            strict=True,
        )
        self.cell_anchors = _BufferList([self.generate_cell_anchors(s, r) for s, r in per_feature])
        # The grids last asked for: images of one size are the rule.
        self._cached_for: tuple | None = None
        self._cached: list[Tensor] = []

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> dict:
        keys = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": keys.SIZES,
            "aspect_ratios": keys.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": keys.OFFSET,
        }

    @property
    def num_anchors(self) -> list[int]:
        """Anchors per cell of each feature map."""
        return [len(anchors) for anchors in self.cell_anchors]  # type: ignore[arg-type]

    num_cell_anchors = num_anchors

    def generate_cell_anchors(
        self, sizes: Sequence[float] = (32, 64, 128, 256, 512), aspect_ratios: Sequence[float] = (0.5, 1, 2)
    ) -> Tensor:
        """Return the anchors around 0, ``(len(sizes) * len(aspect_ratios), 4)`` XYXY."""
        anchors = []
        for size in sizes:
            for ratio in aspect_ratios:
                # width * height = size^2 and height / width = ratio
                width = math.sqrt(size**2.0 / ratio)
                height = ratio * width
                anchors.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(anchors, dtype=torch.float32)

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """Return the anchors of maps ``(N, C, H, W)``: per map ``H * W * A`` boxes, row by row, cell by cell."""
        sizes = tuple(tuple(feature.shape[-2:]) for feature in features)
        anchors = list(self.cell_anchors)
        key = (sizes, anchors[0].device)
        if key != self._cached_for:
            self._cached = [
                self._grid(size, stride, cell) for size, stride, cell in zip(sizes, self.strides, anchors, strict=True)
            ]
            self._cached_for = key
        return [Boxes(tensor) for tensor in self._cached]

    def _grid(self, size: tuple[int, ...], stride: int, cell_anchors: Tensor) -> Tensor:
        start = self.offset * stride
        rows, columns = (
            torch.arange(start, count * stride, step=stride, dtype=torch.float32, device=cell_anchors.device)
            for count in size
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        shifts = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
        return (shifts + cell_anchors).reshape(-1, 4)


def build_anchor_generator(cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> nn.Module:
    """Build what MODEL.ANCHOR_GENERATOR.NAME names, for feature maps of these shapes."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
