"""Pooling of regions from one feature map, or each region from the pyramid level that fits its size."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import RoIPool

from mammo_d2.framework.embedded.backbone.layers import ROIAlign
from mammo_d2.framework.embedded.detector.roi_align import sparse_roi_align
from mammo_d2.framework.embedded.structures.boxes import Boxes


def assign_boxes_to_levels(
    box_lists: Sequence[Boxes], min_level: int, max_level: int, canonical_box_size: int, canonical_level: int
) -> Tensor:
    """Choose the pyramid level of each box: ``floor(canonical_level + log2(sqrt(area) / canonical_box_size))``.

    Args:
        box_lists: boxes of each image, in image pixels.
        min_level: finest level there is (level l has the stride 2^l).
        max_level: coarsest level there is; boxes beyond either end take the nearest.
        canonical_box_size: side in pixels of a square box of level ``canonical_level``.
        canonical_level: see there.

    Returns:
        Level minus ``min_level`` of all boxes together, int64.
    """
    sides = torch.sqrt(torch.cat([boxes.area() for boxes in box_lists]))
    # The epsilon is inside the logarithm: it keeps empty boxes finite and does not move a box of 2^k times the size.
    levels = torch.floor(canonical_level + torch.log2(sides / canonical_box_size + 1e-8))
    return levels.clamp(min=min_level, max=max_level).to(torch.int64) - min_level


def convert_boxes_to_pooler_format(box_lists: Sequence[Boxes]) -> Tensor:
    """Join boxes of all images to one tensor ``(R, 5)``: index of the image, then XYXY."""
    boxes = torch.cat([boxes.tensor for boxes in box_lists])
    counts = torch.tensor([len(boxes) for boxes in box_lists], device=boxes.device)
    image = torch.arange(len(box_lists), dtype=boxes.dtype, device=boxes.device).repeat_interleave(counts)
    return torch.cat([image[:, None], boxes], dim=1)


class ROIPooler(nn.Module):
    """Pools regions to a fixed size, from the level of a feature pyramid that their size calls for."""

    def __init__(
        self,
        output_size: int | Sequence[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ) -> None:
        """Set up one pooler per feature map.

        Args:
            output_size: side of the result, or (height, width).
            scales: 1 / stride of each map, finest first; powers of 2 without a gap.
            sampling_ratio: see ``ROIAlign``.
            pooler_type: "ROIAlignV2" (aligned), "ROIAlign" or "ROIPool".
            canonical_box_size: see ``assign_boxes_to_levels``.
            canonical_level: see there.

        Raises:
            ValueError: the pooler is unknown, or the strides are not such a pyramid.
        """
        super().__init__()
        height, width = (output_size, output_size) if isinstance(output_size, int) else output_size
        self.output_size = (height, width)
        if pooler_type not in ("ROIAlignV2", "ROIAlign", "ROIPool"):
            raise ValueError(f"POOLER_TYPE is {pooler_type!r}; it must be 'ROIAlignV2', 'ROIAlign' or 'ROIPool'")
        self.level_poolers = nn.ModuleList(
            RoIPool(self.output_size, scale)
            if pooler_type == "ROIPool"
            else ROIAlign(self.output_size, scale, sampling_ratio, aligned=pooler_type == "ROIAlignV2")
            for scale in scales
        )
        levels = [-math.log2(scale) for scale in scales]
        first = round(levels[0])
        if first < 0 or any(not math.isclose(level, first + i, abs_tol=1e-9) for i, level in enumerate(levels)):
            raise ValueError(f"strides {[1 / s for s in scales]} of the pooled features must be 2^l, 2^(l+1), ...")
        if canonical_box_size <= 0:
            raise ValueError(f"canonical_box_size must be positive, got {canonical_box_size}")
        self.min_level, self.max_level = first, first + len(levels) - 1
        self.canonical_box_size = canonical_box_size
        self.canonical_level = canonical_level

    def forward(self, x: Sequence[Tensor], box_lists: Sequence[Boxes]) -> Tensor:
        """Pool.

        Args:
            x: feature maps ``(N, C, H, W)``, one per scale.
            box_lists: boxes of each image, in image pixels.

        Returns:
            ``(R, C, height, width)`` for the R boxes of all images, in their order.

        Raises:
            ValueError: not one map per scale, or not one list of boxes per image.
        """
        if len(x) != len(self.level_poolers):
            raise ValueError(f"got {len(x)} feature maps for {len(self.level_poolers)} scales")
        if len(box_lists) != len(x[0]):
            raise ValueError(f"got boxes of {len(box_lists)} images and features of {len(x[0])}")
        if not box_lists:
            return x[0].new_zeros((0, x[0].shape[1], *self.output_size))
        rois = convert_boxes_to_pooler_format(box_lists)
        if len(self.level_poolers) == 1:
            return self.level_poolers[0](x[0], rois)

        levels = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        poolers = list(self.level_poolers)
        aligners = [pooler for pooler in poolers if isinstance(pooler, ROIAlign)]
        if aligners and all(pooler.trains_sparsely(m) for pooler, m in zip(aligners, x, strict=False)):
            scales = [pooler.spatial_scale for pooler in aligners]
            return sparse_roi_align(x, rois, levels, self.output_size, scales, aligners[0].aligned)
        output = x[0].new_zeros((len(rois), x[0].shape[1], *self.output_size))
        for level, (features, pooler) in enumerate(zip(x, poolers, strict=True)):
            # Also without any box: every map then gets a gradient, as training on several processes needs.
            index = (levels == level).nonzero().squeeze(1)
            output.index_put_((index,), pooler(features, rois[index]))
        return output
