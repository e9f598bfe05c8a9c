"""ROIAlign for training on a CPU, as a sparse matrix product.

torchvision's CPU kernels run on one thread and, in the backward pass, work out every sampling position again for each
channel. But pooling is linear in the feature map: a bin of a region is a weighted sum of the cells under it, with
weights that are the same for all channels. Here the weights are computed once per region (those of a bin are the
product of a row's and a column's weights), and the sums over cells (forward) or over bins (backward) are
``torch.nn.functional.embedding_bag``, which is threaded and vectorised along the channels. On one thread this saves 8
to 16 % of a training step with a feature pyramid (docs/results.md). Results agree with torchvision's up to the rounding
of a sum in another order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Bounds the memory: about 100 bytes per weight, for this many weights at a time.
_WEIGHTS_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class _Pooling:
    """What to pool: bins per region (rows, columns), cells per pixel of each map, and whether centres are halves."""

    output_size: tuple[int, int]
    scales: tuple[float, ...]
    aligned: bool


def sparse_roi_align(
    maps: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    scales: Sequence[float],
    aligned: bool,
) -> Tensor:
    """Pool each region from one of several maps, with one sample per covered cell (sampling ratio 0).

    Args:
        maps: each ``(N, C, H, W)``, on the CPU; computed in float32.
        rois: ``(R, 5)``: index of the image, then XYXY in image pixels.
        levels: ``(R,)`` which of the maps, int64.
        output_size: (height, width) of the result.
        scales: cells per image pixel of each map.
        aligned: see ``ROIAlign``.

    Returns:
        ``(R, C, height, width)`` of the maps' type; the gradient flows into the maps only.
    """
    pooling = _Pooling(output_size, tuple(scales), aligned)
    pooled = _SparseRoiAlign.apply(rois.float(), levels, pooling, *(x.float() for x in maps))
    return pooled.to(maps[0].dtype)


class _SparseRoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rois: Tensor, levels: Tensor, pooling: _Pooling, *maps: Tensor) -> Tensor:
        ctx.save_for_backward(rois, levels)
        ctx.pooling = pooling
        ctx.shapes = [x.shape for x in maps]
        ctx.channels_last = [x.is_contiguous(memory_format=torch.channels_last) for x in maps]
        cells = _as_rows(maps)
        parts = [
            F.embedding_bag(cell, cells, bin_start, mode="sum", per_sample_weights=weight)
            for _, cell, bin_start, _, weight in _chunks(rois, levels, ctx.shapes, pooling)
        ]
        pooled = parts[0] if len(parts) == 1 else torch.cat([cells.new_zeros((0, cells.shape[1])), *parts])
        pooled = pooled.view(len(rois), *pooling.output_size, cells.shape[1]).permute(0, 3, 1, 2)
        # In the memory order of the maps: else whoever flattens it for a linear layer holds two copies.
        return pooled if ctx.channels_last[0] else pooled.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        rois, levels = ctx.saved_tensors
        channels = grad.shape[1]
        bins = grad.permute(0, 2, 3, 1).reshape(-1, channels)
        counts = [n * height * width for n, _, height, width in ctx.shapes]
        every_cell = torch.arange(sum(counts))
        total: Tensor | None = None
        for which, cell, _, bin_of, weight in _chunks(rois, levels, ctx.shapes, ctx.pooling):
            # The transposed product: the sum over the bins that a cell contributed to.
            cell, order = cell.sort(stable=True)
            cell_start = torch.searchsorted(cell, every_cell)
            part = F.embedding_bag(bin_of[order], bins[which], cell_start, mode="sum", per_sample_weights=weight[order])
            total = part if total is None else total.add_(part)
        if total is None:
            total = grad.new_zeros((len(every_cell), channels))
        del bins
        gradients = []
        for rows, (n, _, height, width), last in zip(total.split(counts), ctx.shapes, ctx.channels_last, strict=True):
            gradient = rows.view(n, height, width, channels).permute(0, 3, 1, 2)
            # A gradient in another memory order than its tensor slows down whatever it is added to.
            gradients.append(gradient if last else gradient.contiguous())
        return None, None, None, *gradients


def _as_rows(maps: Sequence[Tensor]) -> Tensor:
    """All cells of all maps, ``(cells, C)``: map by map, image by image, row by row."""
    rows = [x.permute(0, 2, 3, 1) for x in maps]
    channels = rows[0].shape[-1]
    if len(rows) == 1:
        return rows[0].reshape(-1, channels)
    joined = rows[0].new_empty((sum(x.numel() for x in rows) // channels, channels))
    for part, x in zip(joined.split([x.numel() // channels for x in rows]), rows, strict=True):
        part.view(x.shape).copy_(x)
    return joined


def _chunks(
    rois: Tensor, levels: Tensor, shapes: Sequence[torch.Size], pooling: _Pooling
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
    """Yield the weights of some regions at a time.

    Yields:
        Which bins these are. Then, with the weights in the order of the bins: the cell of each weight, the first weight
        of each bin, the bin of each weight (counted from the first of these bins), and the weights.
    """
    if len(rois) == 0:
        return
    rows, columns = pooling.output_size
    # Of each region: the size of its map, and its image's first cell among all cells.
    height, width = (torch.tensor([shape[axis] for shape in shapes])[levels] for axis in (2, 3))
    cells_before = torch.tensor([0, *(shape[0] * shape[2] * shape[3] for shape in shapes[:-1])]).cumsum(0)
    origin = cells_before[levels] + rois[:, 0].long() * height * width
    scale = torch.tensor(pooling.scales, dtype=torch.float32)[levels, None]
    left, top, right, bottom = (rois[:, 1:] * scale - (0.5 if pooling.aligned else 0.0)).unbind(1)
    lengths = [bottom - top, right - left]
    if not pooling.aligned:  # the first version of the operation had no regions smaller than a cell
        lengths = [length.clamp(min=1.0) for length in lengths]
    y, num_y, weight_y = _axis_weights(top, lengths[0], rows, height)
    x, num_x, weight_x = _axis_weights(left, lengths[1], columns, width)

    per_roi = (num_y * num_x * rows * columns).cumsum(0)
    first = 0
    while first < len(rois):
        done = int(per_roi[first - 1]) if first else 0
        last = max(int(torch.searchsorted(per_roi, done + _WEIGHTS_AT_A_TIME, right=True)), first + 1)
        part = slice(first, last)
        along_y = y[part], num_y[part], weight_y[part], height[part]
        along_x = x[part], num_x[part], weight_x[part], width[part]
        yield slice(first * rows * columns, last * rows * columns), *_products(along_y, along_x, origin[part])
        first = last


_Axis = tuple[Tensor, Tensor, Tensor, Tensor]


def _products(along_y: _Axis, along_x: _Axis, origin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Multiply the weights of rows with those of columns.

    Args:
        along_y: of R regions what ``_axis_weights`` returns, and the number of rows of the map ``(R,)``.
        along_x: the same for columns.
        origin: ``(R,)`` the first cell of the region's image.

    Returns:
        As ``_chunks`` yields.
    """
    (y, num_y, weight_y, height), (x, num_x, weight_x, width) = along_y, along_x
    rows, columns = y.shape[1], x.shape[1]
    per_bin = (num_y * num_x).repeat_interleave(rows * columns)
    ends = per_bin.cumsum(0)
    starts = ends - per_bin
    bin_of = torch.arange(len(per_bin)).repeat_interleave(per_bin, output_size=int(ends[-1]))
    roi, place = bin_of // (rows * columns), bin_of % (rows * columns)
    row, column = roi * rows + place // columns, roi * columns + place % columns
    # Weights of a bin run over its cells row by row.
    entry = torch.arange(len(bin_of)) - starts[bin_of]
    cells_wide = num_x[roi]
    down = entry // cells_wide
    across = entry - down * cells_wide
    weight = weight_y.flatten()[row * weight_y.shape[2] + down]
    weight *= weight_x.flatten()[column * weight_x.shape[2] + across]
    # Beyond the far border there are weights of 0 only; they need a cell all the same.
    cell_y = torch.minimum(y.flatten()[row] + down, height[roi] - 1)
    cell_x = torch.minimum(x.flatten()[column] + across, width[roi] - 1)
    cell = cell_y.mul_(width[roi]).add_(cell_x).add_(origin[roi])
    return cell, starts, bin_of, weight


def _axis_weights(start: Tensor, length: Tensor, bins: int, extent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the cells along one axis.

    Each bin has ``ceil(length / bins)`` samples, evenly spread; a sample is interpolated from the two nearest cells,
    taken as the outermost cell if it is up to one cell beyond it, and 0 further out.

    Args:
        start: ``(R,)`` where the regions begin, in cells.
        length: ``(R,)`` of the regions, in cells.
        bins: per region.
        extent: ``(R,)`` number of cells of the map.

    Returns:
        The first cell of each bin ``(R, bins)``, int64; how many cells each bin of a region covers ``(R,)``, int64;
        their weights ``(R, bins, K)``, 0 beyond that number.
    """
    bin_length = length / bins
    num_samples = bin_length.ceil().clamp_(min=0)
    largest = max(int(num_samples.max()), 1)
    divisor = num_samples.clamp(min=1)[:, None]
    sample = torch.arange(largest, dtype=torch.float32)
    bin_start = start[:, None] + torch.arange(bins, dtype=torch.float32) * bin_length[:, None]
    position = bin_start[..., None] + ((sample + 0.5) * bin_length[:, None] / divisor)[:, None]
    end = extent.float()[:, None, None]
    counts = (position >= -1) & (position <= end) & (sample < num_samples[:, None])[:, None]
    position = torch.minimum(position.clamp_(min=0), end - 1)
    lower = position.floor()
    upper_part = position - lower
    first = lower[..., 0]
    # Samples are at most a cell apart, so that they and the cells above them fit into num_samples + 1 cells.
    offset = (lower - first[..., None]).long()
    # Those that do not count may lie anywhere; they add 0 to the last cell.
    offset = torch.where(counts, offset, largest)
    share = counts / divisor[..., None]
    weights = torch.zeros(*first.shape, largest + 2)
    weights.scatter_add_(2, offset, (1 - upper_part) * share)
    weights.scatter_add_(2, offset + 1, upper_part * share)
    return first.long(), num_samples.long() + 1, weights
