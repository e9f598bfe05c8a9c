"""Lesion classification with global context: maps, scores and class weights as pure functions (torch only).

Shape shorthand:
    N: patches; h, w: cells of a map; H, W: pixels of the image it covers; D: length of an embedding; C: saliency maps;
    M: maps of the aggregation network's input; L: lesions.

A map covers the whole image: cell (i, j) shows the pixels from ``(i H/h, j W/w)`` to ``((i + 1) H/h, (j + 1) W/w)``.
Windows are XYXY in continuous pixels of the image: pixel ``k`` covers ``[k, k + 1)``.

Source:
    Wu et al., "Reducing false-positive biopsies using deep neural networks that utilize both local and global image
    context of screening mammograms", Journal of Digital Imaging 2021.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mammo_d2.core.lesion_classes import BENIGN, MALIGNANT

#: Kinds of maps, in the order in which they are joined.
MAP_KINDS = ("indicator", "embedding", "saliency")


def indicator_maps(windows: Tensor, image_sizes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Location indicator I: the part of every cell that a window covers, exactly.

    What a window covers is a product of an interval of rows and one of columns, so the part of a cell is the product of
    the covered parts of its two sides. What lies outside the image covers nothing.

    Args:
        windows: (N, 4) XYXY in pixels of each patch's image.
        image_sizes: (N, 2) its height and width.
        grid: (h, w).

    Returns:
        (N, 1, h, w) float32 in [0, 1].
    """
    # Pixels to cells in float64: a window of whole cells must cover them by exactly 1.
    sizes, edges = image_sizes.double(), windows.double()
    rows = _covered(edges[:, 1] * grid[0] / sizes[:, 0], edges[:, 3] * grid[0] / sizes[:, 0], grid[0])
    columns = _covered(edges[:, 0] * grid[1] / sizes[:, 1], edges[:, 2] * grid[1] / sizes[:, 1], grid[1])
    return (rows[:, :, None] * columns[:, None, :]).unsqueeze(1).float()


def _covered(begin: Tensor, end: Tensor, count: int) -> Tensor:
    """(N, count) length of [begin, end) inside each of the unit intervals [k, k + 1)."""
    start = torch.arange(count, device=begin.device, dtype=begin.dtype)
    return (torch.minimum(end[:, None], start + 1) - torch.maximum(begin[:, None], start)).clamp(min=0)


def embedding_maps(indicator: Tensor, embeddings: Tensor) -> Tensor:
    """Embedding maps E: map k is h_k in every cell that the window touches, 0 elsewhere.

    Args:
        indicator: (N, 1, h, w).
        embeddings: (N, D) h of each patch.

    Returns:
        (N, D, h, w), of the embeddings' type.
    """
    return (indicator > 0).to(embeddings.dtype) * embeddings[:, :, None, None]


def count_maps(kinds: Sequence[str], embedding_size: int, saliency_maps: int) -> int:
    """M, the number of maps that ``combine_maps`` joins.

    Args:
        kinds: some of ``MAP_KINDS``, each at most once, in any order.
        embedding_size: D.
        saliency_maps: C.

    Raises:
        ValueError: no kind, an unknown one, or one twice.
    """
    if not kinds or len(set(kinds)) != len(kinds) or not set(kinds) <= set(MAP_KINDS):
        raise ValueError(
            f"MODEL.LESION.MAPS is {list(kinds)}; it must name one or more of {', '.join(MAP_KINDS)}, each once"
        )
    lengths = {"indicator": 1, "embedding": embedding_size, "saliency": saliency_maps}
    return sum(lengths[kind] for kind in kinds)


def combine_maps(
    kinds: Sequence[str], indicator: Tensor, embeddings: Tensor | None = None, saliency: Tensor | None = None
) -> Tensor:
    """The aggregation network's input X: the chosen maps, always in the order of ``MAP_KINDS``.

    Args:
        kinds: see ``count_maps``.
        indicator: (N, 1, h, w).
        embeddings: (N, D), needed for "embedding".
        saliency: (N, C, h, w), needed for "saliency".

    Returns:
        (N, M, h, w).

    Raises:
        ValueError: a kind whose tensor is missing.
    """
    maps = []
    for kind in MAP_KINDS:
        if kind not in kinds:
            continue
        if kind == "indicator":
            maps.append(indicator)
        elif kind == "embedding" and embeddings is not None:
            maps.append(embedding_maps(indicator, embeddings))
        elif kind == "saliency" and saliency is not None:
            maps.append(saliency)
        else:
            raise ValueError(f"MODEL.LESION.MAPS has {kind!r}, but there are no {kind} values of the patches")
    return torch.cat(maps, dim=1)


def malignancy_scores(logits: Tensor) -> Tensor:
    """Scores of malignant and benign brought to the sum 1: ``p_m / (p_m + p_b)`` of the softmax over all classes.

    The other two classes cancel, so this is ``σ(s_m − s_b)`` of the logits: never 0/0, however sure the network is that
    a patch lies outside.

    Args:
        logits: (N, 4) in the order of ``PATCH_CLASSES``.

    Returns:
        (N,) float32 in [0, 1].
    """
    return (logits[:, MALIGNANT].float() - logits[:, BENIGN].float()).sigmoid()


def average_windows(scores: Tensor, lesion: Tensor, number: int) -> Tensor:
    """A lesion's malignancy: the mean over its windows.

    Args:
        scores: (N,) of each window.
        lesion: (N,) int64 lesion of each window.
        number: L.

    Returns:
        (L,) float64; NaN for a lesion without a window.
    """
    total = torch.zeros(number, dtype=torch.float64, device=scores.device).index_add_(0, lesion, scores.double())
    return total / torch.bincount(lesion, minlength=number)


def class_weights(counts: Sequence[int]) -> Tensor:
    """Weights of the classes in an epoch, inverse to their share of its patches.

    ``w_c = N / (C n_c)`` with the C classes that occur: their mean over the epoch's patches is 1, and every class
    contributes the same to the sum of the epoch's losses. A class that does not occur has weight 0.

    Args:
        counts: n_c of each class.

    Returns:
        (classes,) float32.

    Raises:
        ValueError: a negative number, or no patch at all.
    """
    numbers = torch.tensor(list(counts), dtype=torch.float64)
    if (numbers < 0).any() or not (numbers > 0).any():
        raise ValueError(f"an epoch's numbers of patches must not be negative nor all 0, got {list(counts)}")
    present = numbers > 0
    weights = numbers.sum() / (present.sum() * numbers.clamp(min=1))
    return torch.where(present, weights, torch.zeros_like(weights)).float()


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, *, by_weight: bool = False) -> Tensor:
    """Cross-entropy with class weights.

    Args:
        logits: (N, classes).
        targets: (N,) int64.
        weights: (classes,) of ``class_weights``.
        by_weight: divide by the sum of the batch's weights; by default by N. The default is unbiased: over an epoch
            every class counts the same. With ``by_weight`` one malignant patch dominates its batch, and a batch without
            any counts as much: a rare class gets the share of the batches that it is in.

    Returns:
        Scalar; 0 with a graph when N = 0.
    """
    if not len(logits):
        return logits.sum() * 0.0
    losses = torch.nn.functional.cross_entropy(logits.float(), targets, weight=weights, reduction="none")
    return losses.sum() / (weights[targets].sum() if by_weight else len(targets))
