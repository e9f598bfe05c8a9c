"""Codes of windows that are encoded one by one: nothing around a window changes its code.

The published form of the dual branch. Shared maps (``region_encoders.py`` on the map of the whole image) are faster,
but there a cell near a window's border sees the image around it instead of padding: another network.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

#: Windows that go through the network together: more do not fit into the cache of a processor.
WINDOWS_ON_CPU, WINDOWS_ON_GPU = 8, 64


def window_codes(backbone: Any, encoder: Any, in_feature: str, image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Codes (m, D) of the windows of one image.

    Args:
        backbone: gives feature maps by name; ``backbone.windows`` instead, where it treats windows in another way.
        encoder: region encoder; each window is its one region, of the window's full size.
        in_feature: map that the encoder works on.
        image: (C, H, W), normalised.
        boxes: (m, 4) XYXY in pixels of the image.
        side: of the network's input in pixels. A box of this size at whole pixels is cut out as it is; others are
            sampled bilinearly to it.
    """
    codes = []
    layers = getattr(backbone, "windows", backbone)
    divisor = max(1, int(getattr(backbone, "size_divisibility", 0)))
    for part in boxes.split(WINDOWS_ON_CPU if image.device.type == "cpu" else WINDOWS_ON_GPU):
        windows = cut_windows(image, part, side)
        features = layers(F.pad(windows, (0, -side % divisor) * 2))[in_feature]
        whole = windows.new_tensor([[0.0, 0.0, side, side]])
        codes.append(encoder(features, [whole] * len(part)))
    return torch.cat(codes)


def cut_windows(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The windows (m, C, side, side) of an image (C, H, W), see ``window_codes``."""
    # One sample in the middle of each output pixel: exact for whole pixels, and as bilinear resizing otherwise.
    accurate = image.float() if image.dtype != torch.float64 else image
    return roi_align(accurate[None], [boxes.to(accurate.dtype)], side, 1.0, 1, aligned=True).to(image.dtype)
