"""Test-time augmentation: an image goes through the model mirrored and at other sizes, too, and the boxes are fused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Fields of a model input that are maps of the image.
_MAPS = ("image", "tissue")
#: Mirrored versions of an image.
FLIPS = ("horizontal", "vertical")


@dataclass(frozen=True)
class Version:
    """One version of an image.

    Attributes:
        flips: along which it is mirrored, of ``FLIPS``.
        scale: of its sides.
    """

    flips: tuple[str, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class TestTimeAugmentation:
    """The versions of an image that go through the model; the image itself is always the first.

    Attributes:
        flips: of ``FLIPS``; with both there is a version for each, not one for both together.
        scales: of the model input's sides; each with every mirrored version.
        iou: of the fusion, see ``fuse_boxes``.
    """

    __test__ = False  # not a pytest class

    flips: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    iou: float = 0.55
    versions: tuple[Version, ...] = field(init=False)

    def __post_init__(self) -> None:
        if unknown := set(self.flips) - set(FLIPS):
            raise ValueError(f"flips {sorted(unknown)} must be of {', '.join(FLIPS)}")
        if not all(0.25 <= scale <= 4 for scale in self.scales):
            raise ValueError(f"scales {list(self.scales)} must lie between 0.25 and 4")
        if not 0 <= self.iou <= 1:
            raise ValueError(f"the IoU of the fusion, {self.iou}, must lie between 0 and 1")
        scales = dict.fromkeys((1.0, *self.scales))
        mirrored: list[tuple[str, ...]] = [(), *((flip,) for flip in dict.fromkeys(self.flips))]
        object.__setattr__(self, "versions", tuple(Version(flips, scale) for scale in scales for flips in mirrored))


def version_of_sample(sample: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """A model input mirrored and scaled; ``height`` and ``width``, in whose pixels boxes come, stay.

    Args:
        sample: with ``image`` (C, H, W), and ``tissue`` (2, h, w) for models that take it.
        version: of it.

    Raises:
        ValueError: an input that is placed in a window (``INPUT.PREPROCESSING``) or has several windows (TEST.WINDOWS).
    """
    if "network_transform" in sample or "windows" in sample:
        raise ValueError(
            f"{sample['file_name']}: test-time augmentation is for models that take the whole image; this one takes "
            "windows of it (INPUT.PREPROCESSING, TEST.WINDOWS): leave out --flips and --scales"
        )
    changed = dict(sample)
    for name in _MAPS:
        if name in sample:
            changed[name] = _version_of_map(sample[name], version)
    return changed


def boxes_of_version(boxes: Tensor, version: Version, size: tuple[int, int]) -> Tensor:
    """Boxes of a mirrored image on the image as it is.

    Args:
        boxes: (N, 4) XYXY in pixels of the image of ``size``.
        version: that the model saw.
        size: (height, width).
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    if "horizontal" in version.flips:
        x1, x2 = size[1] - x2, size[1] - x1
    if "vertical" in version.flips:
        y1, y2 = size[0] - y2, size[0] - y1
    return torch.stack([x1, y1, x2, y2], dim=1)


def _version_of_map(image: Tensor, version: Version) -> Tensor:
    axes = [{"horizontal": -1, "vertical": -2}[flip] for flip in version.flips]
    image = image.flip(axes) if axes else image
    if version.scale == 1:
        return image
    size = [max(1, round(side * version.scale)) for side in image.shape[-2:]]
    return F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0].to(image.dtype)
