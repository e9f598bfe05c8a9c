"""Saliency maps as pure functions of tensors: pooling to a score, retrieval of patches, boxes (no framework).

Shape shorthand:
    N: images; C: classes; h, w: cells of a map; H, W: pixels of the image it covers; K: patches of one image.

A map covers its image: cell (i, j) shows the pixels from ``(i H/h, j W/w)`` to ``((i + 1) H/h, (j + 1) W/w)``.
Positions are (row, column), boxes XYXY in continuous pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

#: How a component of a thresholded map is scored.
BOX_SCORES = ("max", "mean", "max_times_image")


def map_size(maps: Tensor) -> tuple[int, int]:
    """(height, width) of a batch of maps or images (..., h, w)."""
    return maps.shape[-2], maps.shape[-1]


def top_fraction_mean(saliency: Tensor, fraction: float) -> Tensor:
    """Aggregate each map to one value: the mean of its largest cells.

    ``ŷ_loc^c = (1/|H+|) Σ_{(i,j) ∈ H+} A^c_ij`` with ``|H+| = round(fraction · h w)``, at least one cell. The gradient
    flows to the cells of H+ only.

    Args:
        saliency: (N, C, h, w).
        fraction: t in (0, 1]; 1 is global average pooling.

    Returns:
        (N, C), probabilities if the map's cells are.

    Raises:
        ValueError: a fraction outside (0, 1].

    Source:
        Shen et al., "Globally-aware multiple instance classifier", MLMI 2019, section 2.4.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the top fraction must lie in (0, 1], got {fraction}")
    cells = saliency.flatten(2)
    count = max(1, round(cells.shape[2] * fraction))
    return cells.topk(count, dim=2, sorted=False).values.mean(dim=2)


def minmax_normalize(saliency: Tensor) -> Tensor:
    """Scale each map (..., h, w) to 0..1 by its own minimum and maximum; a constant map becomes 0."""
    low, high = saliency.amin(dim=(-2, -1), keepdim=True), saliency.amax(dim=(-2, -1), keepdim=True)
    extent = high - low
    return (saliency - low) / torch.where(extent > 0, extent, torch.ones_like(extent))


def window_cells(grid: tuple[int, int], image_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """Cells that a patch covers: ``h_c · h/H`` by ``w_c · w/W``, rounded, at least one and at most the map.

    Args:
        grid: (h, w) cells of the map.
        image_size: (H, W) pixels.
        patch_size: (h_c, w_c) pixels.
    """
    rows, columns = (
        min(max(1, round(patch * cells / pixels)), cells)
        for patch, cells, pixels in zip(patch_size, grid, image_size, strict=True)
    )
    return rows, columns


def retrieve_windows(saliency: Tensor, window: tuple[int, int], count: int) -> Tensor:
    """Greedily choose the windows with the largest sum of the class-wise normalised maps.

    The maps are min-max normalised per class and summed over the classes; then ``count`` times the window with the
    largest sum is taken and its cells are set to 0. Of equal windows the topmost, then the leftmost is taken, so a map
    without contrast gives (0, 0) every time. Not differentiated through.

    Args:
        saliency: (N, C, h, w).
        window: (rows, columns) in cells; a window larger than the map is cut to it.
        count: K.

    Returns:
        (N, K, 2) int64, (row, column) of each window's top left cell, in the order of choice.

    Raises:
        ValueError: an empty window or no window at all.

    Source:
        Shen et al., MLMI 2019, algorithm 1.
    """
    rows, columns = min(window[0], saliency.shape[-2]), min(window[1], saliency.shape[-1])
    if rows < 1 or columns < 1 or count < 1:
        raise ValueError(f"retrieval needs at least one window of at least one cell, got {count} of {window}")
    with torch.no_grad():
        remaining = minmax_normalize(saliency.detach()).sum(dim=1)
        row = torch.arange(remaining.shape[1], device=saliency.device)[:, None]
        column = torch.arange(remaining.shape[2], device=saliency.device)
        found = []
        for _ in range(count):
            scores = F.avg_pool2d(remaining[:, None], (rows, columns), stride=1)[:, 0]
            best = _first_maximum(scores.flatten(1))
            top, left = best // scores.shape[2], best % scores.shape[2]
            down, across = row - top[:, None, None], column - left[:, None, None]
            taken = (down >= 0) & (down < rows) & (across >= 0) & (across < columns)
            remaining = remaining.masked_fill(taken, 0)
            found.append(torch.stack([top, left], dim=1))
    return torch.stack(found, dim=1)


def _first_maximum(values: Tensor) -> Tensor:
    """(N, M) -> (N,) index of the first maximum of each row; argmax alone promises no order among equals."""
    index = torch.arange(values.shape[1], device=values.device).expand_as(values)
    is_best = values == values.amax(dim=1, keepdim=True)
    return torch.where(is_best, index, values.shape[1] - 1).amin(dim=1)


def random_windows(
    grid: tuple[int, int], window: tuple[int, int], shape: tuple[int, int], generator: torch.Generator | None = None
) -> Tensor:
    """Window positions drawn uniformly and independently: (N, K, 2) int64 like ``retrieve_windows``, on the CPU.

    Args:
        grid: (h, w) cells of the map.
        window: (rows, columns) in cells.
        shape: (N, K).
        generator: source of randomness; None: torch's global one.
    """
    spans = [max(1, cells - part + 1) for cells, part in zip(grid, window, strict=True)]
    return torch.stack([torch.randint(span, shape, generator=generator) for span in spans], dim=-1)


def crop_positions(
    cells: Tensor, grid: tuple[int, int], image_size: tuple[int, int], patch_size: tuple[int, int]
) -> Tensor:
    """Top left pixels of the patches that belong to windows of a map.

    ``round(i/h · H)``, moved inside so that the patch keeps its size; 0 along a side that is shorter than the patch.

    Args:
        cells: (..., 2) int64 (row, column).
        grid: (h, w) cells of the map.
        image_size: (H, W) pixels.
        patch_size: (h_c, w_c) pixels.

    Returns:
        (..., 2) int64 (row, column) in pixels, on the device of ``cells``.
    """
    # Multiplied first: i H is a whole number, so that one division decides where a half is rounded to.
    pixels = (cells * cells.new_tensor(image_size)).double() / cells.new_tensor(grid)
    pixels = pixels.round().long()
    last = torch.tensor([max(0, size - patch) for size, patch in zip(image_size, patch_size, strict=True)])
    return torch.minimum(pixels, last.to(cells.device))


def crop_patches(images: Tensor, positions: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Cut patches out of images; what lies outside an image that is smaller than a patch has its lowest value.

    Args:
        images: (N, D, H, W).
        positions: (N, K, 2) int64 from ``crop_positions``.
        patch_size: (h_c, w_c) pixels.

    Returns:
        (N, K, D, h_c, w_c).
    """
    height, width = patch_size
    down, across = (torch.arange(side, device=images.device) for side in patch_size)
    rows = (positions[..., 0, None].to(images.device) + down)[..., :, None]  # (N, K, h_c, 1)
    columns = (positions[..., 1, None].to(images.device) + across)[..., None, :]
    last_row, last_column = images.shape[2] - 1, images.shape[3] - 1
    patches = []
    for image, y, x in zip(images, rows, columns, strict=True):
        patch = image[:, y.clamp(max=last_row), x.clamp(max=last_column)]
        if images.shape[2] < height or images.shape[3] < width:
            patch = torch.where((y <= last_row) & (x <= last_column), patch, image.min())
        patches.append(patch.transpose(0, 1))
    return torch.stack(patches)


@dataclass(frozen=True)
class SaliencyBoxRule:
    """How boxes are made from a map.

    Attributes:
        threshold: cells of at least this fraction of the map's own maximum belong to a box, in (0, 1].
        floor: and at least this saliency, in [0, 1].
        score: of a box: "max" or "mean" of its cells, or "max_times_image", the maximum times the image's score of the
            class, which ranks boxes of different images better.
        limit: the best boxes that are kept, all classes together.
    """

    threshold: float = 0.5
    floor: float = 0.05
    score: str = "max_times_image"
    limit: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or not 0 <= self.floor <= 1 or self.limit < 1:
            raise ValueError(
                f"boxes from saliency: threshold {self.threshold} must lie in (0, 1], floor {self.floor} in [0, 1], "
                f"limit {self.limit} must be positive"
            )
        if self.score not in BOX_SCORES:
            raise ValueError(f"boxes from saliency: score {self.score!r}; use one of {', '.join(BOX_SCORES)}")


def saliency_boxes(
    saliency: Tensor, image_size: tuple[float, float], rule: SaliencyBoxRule, image_scores: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes around the connected components (8 neighbours) of each class's map above a threshold.

    Args:
        saliency: (C, h, w) in [0, 1].
        image_size: (H, W) pixels that the map covers.
        rule: threshold and score.
        image_scores: (C,) probability of each class in the image.

    Returns:
        boxes (n, 4) float32 XYXY in pixels, scores (n,) float32, classes (n,) int64, best first, on the CPU.
    """
    maps, factors = saliency.detach().float().cpu().numpy(), image_scores.detach().float().cpu().numpy()
    size_y, size_x = (pixels / cells for pixels, cells in zip(image_size, maps.shape[1:], strict=True))
    found: list[tuple[float, int, tuple[float, ...]]] = []
    for label, class_map in enumerate(maps):
        level = max(rule.threshold * float(class_map.max()), rule.floor)
        components, _ = ndimage.label((class_map >= level) & (class_map > 0), structure=np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1):
            cells = class_map[rows, columns][components[rows, columns] == number]
            score = float(cells.mean() if rule.score == "mean" else cells.max())
            if rule.score == "max_times_image":
                score *= float(factors[label])
            box = (columns.start * size_x, rows.start * size_y, columns.stop * size_x, rows.stop * size_y)
            found.append((score, label, box))
    found = sorted(found, key=lambda item: -item[0])[: rule.limit]
    return (
        torch.tensor([box for _, _, box in found], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([score for score, _, _ in found], dtype=torch.float32),
        torch.tensor([label for _, label, _ in found], dtype=torch.int64),
    )
