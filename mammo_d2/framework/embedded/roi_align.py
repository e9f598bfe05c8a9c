"""ROIAlign for training on a CPU, as a sparse matrix product.

torchvision's CPU kernels run on one thread and, in the backward pass, work out every sampling position again for each
channel: on two cores a fifth of a training step of a ResNet-50-FPN. But pooling is linear in the feature map: a bin of
a region is a weighted sum of the cells under it, with weights that are the same for all channels. Here the weights are
computed once per region (those of a bin are the product of a row's and a column's weights), and the sums over cells
(forward) or over bins (backward) are ``torch.nn.functional.embedding_bag``, which is threaded and vectorised along the
channels. Results agree with torchvision's up to the rounding of a sum in another order.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Bounds the memory: about 100 bytes per weight, for this many weights at a time.
_WEIGHTS_AT_A_TIME = 1 << 20


def sparse_roi_align(
    features: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float, aligned: bool
) -> Tensor:
    """Pool regions with one sample per covered cell (sampling ratio 0).

    Args:
        features: ``(N, C, H, W)``, on the CPU; computed in float32.
        rois: ``(R, 5)``: index of the image, then XYXY in image pixels.
        output_size: (height, width) of the result.
        spatial_scale: feature cells per image pixel.
        aligned: see ``ROIAlign``.

    Returns:
        ``(R, C, height, width)`` of the features' type; the gradient flows into ``features`` only.
    """
    pooled = _SparseRoiAlign.apply(features.float(), rois.float(), output_size, spatial_scale, aligned)
    return pooled.to(features.dtype)


class _SparseRoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, rois: Tensor, output_size, spatial_scale, aligned) -> Tensor:
        _, channels, height, width = features.shape
        cells = features.permute(0, 2, 3, 1).reshape(-1, channels)
        ctx.save_for_backward(rois)
        ctx.arguments = (features.shape, output_size, spatial_scale, aligned)
        ctx.channels_last = features.is_contiguous(memory_format=torch.channels_last)
        parts = [
            F.embedding_bag(cell, cells, bin_start, mode="sum", per_sample_weights=weight)
            for _, cell, bin_start, _, weight in _chunks(rois, (height, width), *ctx.arguments[1:])
        ]
        pooled = parts[0] if len(parts) == 1 else torch.cat([features.new_zeros((0, channels)), *parts])
        return pooled.view(len(rois), *output_size, channels).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (rois,) = ctx.saved_tensors
        (num_images, channels, height, width), *arguments = ctx.arguments
        bins = grad.permute(0, 2, 3, 1).reshape(-1, channels)
        every_cell = torch.arange(num_images * height * width)
        total: Tensor | None = None
        for which, cell, _, bin_of, weight in _chunks(rois, (height, width), *arguments):
            # The transposed product: the sum over the bins that a cell contributed to.
            cell, order = cell.sort(stable=True)
            cell_start = torch.searchsorted(cell, every_cell)
            part = F.embedding_bag(bin_of[order], bins[which], cell_start, mode="sum", per_sample_weights=weight[order])
            total = part if total is None else total.add_(part)
        if total is None:
            total = grad.new_zeros((len(every_cell), channels))
        result = total.view(num_images, height, width, channels).permute(0, 3, 1, 2)
        # A gradient in another memory order than its tensor slows down whatever it is added to.
        return result if ctx.channels_last else result.contiguous(), None, None, None, None


def _chunks(
    rois: Tensor, size: tuple[int, int], output_size: tuple[int, int], spatial_scale: float, aligned: bool
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
    """Yield the weights of some regions at a time.

    Yields:
        Which bins these are. Then, with the weights in the order of the bins: the cell of each weight, the first weight
        of each bin, the bin of each weight (counted from the first of these bins), and the weights.
    """
    if len(rois) == 0:
        return
    (height, width), (rows, columns) = size, output_size
    image = rois[:, 0].long()
    left, top, right, bottom = (rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    lengths = [bottom - top, right - left]
    if not aligned:  # the first version of the operation had no regions smaller than a cell
        lengths = [length.clamp(min=1.0) for length in lengths]
    y, num_y, weight_y = _axis_weights(top, lengths[0], rows, height)
    x, num_x, weight_x = _axis_weights(left, lengths[1], columns, width)

    per_roi = (num_y * num_x * rows * columns).cumsum(0)
    first = 0
    while first < len(rois):
        done = int(per_roi[first - 1]) if first else 0
        last = max(int(torch.searchsorted(per_roi, done + _WEIGHTS_AT_A_TIME, right=True)), first + 1)
        part = slice(first, last)
        per_bin = (num_y[part] * num_x[part]).repeat_interleave(rows * columns)
        ends = per_bin.cumsum(0)
        starts = ends - per_bin
        bin_of = torch.arange(len(per_bin)).repeat_interleave(per_bin, output_size=int(ends[-1]))
        roi, place = first + bin_of // (rows * columns), bin_of % (rows * columns)
        # Weights of a bin run over its cells row by row.
        row, column = roi * rows + place // columns, roi * columns + place % columns
        entry = torch.arange(len(bin_of)) - starts[bin_of]
        cells_wide = num_x[roi]
        down = entry // cells_wide
        across = entry - down * cells_wide
        weight = weight_y.flatten()[row * weight_y.shape[2] + down]
        weight *= weight_x.flatten()[column * weight_x.shape[2] + across]
        cell_y = (y.flatten()[row] + down).clamp_(max=height - 1)
        cell_x = (x.flatten()[column] + across).clamp_(max=width - 1)
        cell = (image[roi] * height + cell_y).mul_(width).add_(cell_x)
        yield slice(first * rows * columns, last * rows * columns), cell, starts, bin_of, weight
        first = last


def _axis_weights(start: Tensor, length: Tensor, bins: int, extent: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the cells along one axis.

    Each bin has ``ceil(length / bins)`` samples, evenly spread; a sample is interpolated from the two nearest cells,
    taken as the outermost cell if it is up to one cell beyond it, and 0 further out.

    Args:
        start: ``(R,)`` where the regions begin, in cells.
        length: ``(R,)`` of the regions, in cells.
        bins: per region.
        extent: number of cells of the map.

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
    counts = (position >= -1) & (position <= extent) & (sample < num_samples[:, None])[:, None]
    position = position.clamp_(0, extent - 1)
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
