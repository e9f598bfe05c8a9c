"""Baselines without training, as models: what a detector must be better than."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mammo_d2.framework import META_ARCH_REGISTRY, Boxes, CfgNode, Instances, configurable
from mammo_d2.modeling.functional.blobs import bright_blobs, center_boxes
from mammo_d2.modeling.meta_arch.image_model import to_image_pixels


class UntrainedDetector(nn.Module):
    """Base class: ``boxes_of`` gives the same boxes for every class; there is nothing to train.

    Attributes:
        job: the only job for such models.
        takes_network_transform: see ``ImageModel``.
    """

    job = "UntrainedJob"
    takes_network_transform = True

    def __init__(self, *, num_classes: int):
        """
        Args:
            num_classes: number of detection classes.
        """
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("place", torch.zeros(1), persistent=False)

    @classmethod
    def gives(cls, cfg: CfgNode) -> set[str]:
        """Keys of the outputs that an evaluator may need."""
        return {"instances"}

    def boxes_of(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) XYXY and scores (n,) in (0, 1] of an image (H, W), background about 0."""
        raise NotImplementedError

    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Any]]:
        """One dict with ``instances`` per image, boxes in pixels of the image file.

        Raises:
            RuntimeError: in training mode.
        """
        if self.training:
            raise RuntimeError(f"{type(self).__name__} has nothing to train; set JOB UntrainedJob")
        return [self._output(record) for record in batched_inputs]

    def _output(self, record: dict) -> dict[str, Any]:
        image = record["image"].float().mean(dim=0).cpu().numpy()
        boxes, scores = self.boxes_of(image)
        size = (image.shape[0], image.shape[1])
        placed = to_image_pixels(torch.from_numpy(boxes).float(), size, record)
        instances = Instances((record.get("height", size[0]), record.get("width", size[1])))
        instances.pred_boxes = Boxes(placed.repeat(self.num_classes, 1))
        instances.pred_boxes.clip(instances.image_size)
        instances.scores = torch.from_numpy(scores).float().repeat(self.num_classes)
        instances.pred_classes = torch.arange(self.num_classes).repeat_interleave(len(scores))
        place: Tensor = self.place  # type: ignore[assignment]
        return {"instances": instances[instances.pred_boxes.nonempty()].to(place.device)}


@META_ARCH_REGISTRY.register()
class CenterPrior(UntrainedDetector):
    """Boxes around the centre of the breast, the same for every breast of one shape; see ``center_boxes``.

    The image score, that of the best box, is 1 for every image.
    """

    @configurable
    def __init__(self, *, side: float, **kwargs: Any):
        """
        Args:
            side: of the boxes, as a part of the breast's longer side.
            kwargs: see the base class.
        """
        super().__init__(**kwargs)
        self.side = side

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES, "side": cfg.MODEL.BASELINE.SIDE}

    def boxes_of(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return center_boxes(image, self.side)


@META_ARCH_REGISTRY.register()
class BrightestBlob(UntrainedDetector):
    """Spots that are brighter than their surroundings, by their contrast; see ``bright_blobs``."""

    @configurable
    def __init__(self, *, sigmas: Sequence[float], count: int, **kwargs: Any):
        """
        Args:
            sigmas: sizes of the spots, as parts of the image's longer side.
            count: most spots of an image.
            kwargs: see the base class.
        """
        super().__init__(**kwargs)
        self.sigmas, self.count = list(sigmas), count

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        keys = cfg.MODEL.BASELINE
        return {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES, "sigmas": keys.SIGMAS, "count": keys.COUNT}

    def boxes_of(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return bright_blobs(image, [sigma * max(image.shape) for sigma in self.sigmas], self.count)
