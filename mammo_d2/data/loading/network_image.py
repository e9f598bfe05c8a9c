"""An image as the network takes it, before augmentation, and the cache of such images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mammo_d2.data.breast.window_transform import WindowTransform


@dataclass(frozen=True)
class NetworkImage:
    """An image as the network takes it, before augmentation.

    Attributes:
        pixels: (H, W) float32.
        transform: from the image file's pixels, where it is more than a resize.
        tissue: (2, h, w) where breast and muscle are, if the model takes that (see ``tissue_map.py``).
    """

    pixels: np.ndarray
    transform: WindowTransform | None = None
    tissue: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the pixels and the map."""
        return self.pixels.nbytes + (0 if self.tissue is None else self.tissue.nbytes)

    def sample_fields(self) -> dict[str, Any]:
        """Further fields of the model input: ``network_transform`` and ``tissue``, where present."""
        fields: dict[str, Any] = {}
        if self.transform is not None:
            fields["network_transform"] = self.transform
        if self.tissue is not None:
            fields["tissue"] = torch.from_numpy(self.tissue)
        return fields


class ImageCache:
    """Keeps prepared images in memory, as they are (float32), up to a number of bytes per process.

    A full cache keeps its images and takes no more. Training goes through the images in a new order each pass, so that
    the share of hits is the share of images that fit. Evicting the least recently used image would do worse: it is
    often needed soonest.
    """

    def __init__(self, megabytes: float):
        """
        Args:
            megabytes: limit in MiB of pixel data; 0 switches it off.
        """
        if megabytes < 0:
            raise ValueError(f"DATALOADER.CACHE_MB must not be negative: {megabytes}")
        self._free = int(megabytes * 2**20)
        self._images: dict[str, NetworkImage] = {}

    def __len__(self) -> int:
        return len(self._images)

    def get(self, key: str, make: Callable[[], NetworkImage]) -> NetworkImage:
        """The image of ``key``, made if it is not there; the caller must not write to it."""
        image = self._images.get(key)
        if image is None:
            image = make()
            if image.nbytes <= self._free:
                self._free -= image.nbytes
                self._images[key] = image
        return image
