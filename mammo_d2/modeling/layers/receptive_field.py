"""Where the cells of a feature map lie on the image: what layers see along an axis, and its centre.

A strided layer whose padding is symmetrical centres its first output on the first pixel, not in the middle of the first
``stride`` pixels. A map stretched over its image is therefore up to half a cell too far right and down.
Detectors learn this offset from boxes; a model that learns from image labels cannot.

Positions are continuous pixels of the network input: pixel p reaches from p to p + 1, its centre is p + 0.5.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mammo_d2.framework import ShapeSpec


@dataclass(frozen=True)
class Reach:
    """What a layer sees along an axis: output j depends on the inputs ``j·stride − before`` to ``j·stride + after``.

    Zero padding counts as inputs beyond the border.
    """

    stride: int
    before: int
    after: int

    def then(self, later: "Reach") -> "Reach":
        """Of this layer followed by another."""
        return Reach(
            self.stride * later.stride,
            later.before * self.stride + self.before,
            later.after * self.stride + self.after,
        )

    @property
    def first_centre(self) -> float:
        """Position of the middle of what output 0 sees; output j's is ``j·stride`` further."""
        return (self.after - self.before + 1) / 2


def reach_of(layers: Iterable[nn.Module]) -> Reach:
    """What convolutions and max pooling with square kernels see, one after the other; other layers see one pixel."""
    reach = Reach(1, 0, 0)
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding, dilation = (
                value[0] if isinstance(value, tuple) else value
                for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            )
            reach = reach.then(Reach(int(stride), int(padding), int(dilation) * (int(kernel) - 1) - int(padding)))
    return reach


@dataclass
class MapShape(ShapeSpec):
    """A ShapeSpec that also says where the map lies.

    Attributes:
        first_centre: position of the centre of cell 0 along both axes. 0.5 is that of networks whose layers have odd
            kernels and symmetrical padding, such as detectron2's ResNets.
    """

    first_centre: float = 0.5


def first_centre(shape: ShapeSpec) -> float:
    """Of a map, see ``MapShape``, whose default holds for a plain ShapeSpec."""
    return getattr(shape, "first_centre", MapShape.first_centre)


#: Pixels as a map.
PIXELS = MapShape(stride=1)


def shown_cells(cells: tuple[int, int], shape: ShapeSpec, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a map whose centres lie on the image rather than on the padding of its batch.

    Args:
        cells: (h, w) of the map.
        shape: of the map; its stride.
        size: (H, W) of the image before padding at the bottom and on the right.

    Returns:
        Both at least 1: an image that ends before the first centre is shown by the first cell.
    """
    assert shape.stride
    rows, columns = (
        min(count, max(1, math.ceil((side - first_centre(shape)) / shape.stride)))
        for count, side in zip(cells, size, strict=True)
    )
    return rows, columns


def shown_parts(maps: Tensor, shape: ShapeSpec, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Maps without the cells that show padding, see ``shown_cells``.

    Args:
        maps: (N, C, h, w), or with ``PIXELS`` the images themselves.
        shape: of the maps; its stride.
        sizes: (H, W) of each image before padding at the bottom and on the right.

    Returns:
        One tensor (N, C, h', w') if all images have the same size, else one of each image (1, C, h', w').
    """
    cells = [shown_cells((maps.shape[-2], maps.shape[-1]), shape, size) for size in sizes]
    if len(set(sizes)) <= 1:
        return [maps[:, :, : cells[0][0], : cells[0][1]]] if cells else [maps]
    return [maps[row : row + 1, :, :h, :w] for row, (h, w) in enumerate(cells)]


def shown_part(maps: Tensor, shape: ShapeSpec, size: tuple[int, int]) -> Tensor:
    """The map (C, h, w) of one image without the cells that show padding, see ``shown_cells``."""
    rows, columns = shown_cells((maps.shape[-2], maps.shape[-1]), shape, size)
    return maps[:, :rows, :columns]


#: Cells of a map that covers its image, along an axis, for one of the feature map.
PARTS = 4


def cover_image(maps: Tensor, shape: ShapeSpec, size: tuple[int, int]) -> Tensor:
    """A feature map as a map that covers its image, with ``PARTS`` times as many cells along each axis.

    Each of the new cells has the value of the feature map's cell whose centre is nearest to its own. They cover the
    image evenly: cell (i, j) of h' by w' shows the pixels from ``(i H/h', j W/w')`` to ``((i+1) H/h', (j+1) W/w')``.

    Args:
        maps: (C, h, w); its cells lie where ``shape`` says, counted from the top left of the image.
        shape: of the map; its stride.
        size: (H, W) of the image in pixels. What of the map lies outside, over padding, is left out.

    Returns:
        (C, h', w').
    """
    assert shape.stride
    index = []
    for cells, pixels in zip(maps.shape[-2:], size, strict=True):
        count = max(1, round(pixels * PARTS / shape.stride))
        positions = (torch.arange(count, device=maps.device) + 0.5) * (pixels / count)
        nearest = ((positions - first_centre(shape)) / shape.stride).round().long()
        index.append(nearest.clamp(0, cells - 1))
    return maps[:, index[0]][:, :, index[1]]
