"""From the pixels that an exported file takes to what the networks see; the same steps as the models' own."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def network_input(model: Any, image: Tensor, divisibility: int) -> Tensor:
    """Repeat the grey values for each channel, normalise, and pad with 0 at the bottom and on the right.

    Args:
        model: has ``pixel_mean`` and ``pixel_std``.
        image: (1, 1, H, W).
        divisibility: sides become multiples of this; 0 or 1: they stay.

    Returns:
        (1, C, H', W').
    """
    pixels = (image.expand(-1, model.pixel_mean.shape[0], -1, -1) - model.pixel_mean) / model.pixel_std
    if divisibility <= 1:
        return pixels
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % divisibility, 0, -height % divisibility))
