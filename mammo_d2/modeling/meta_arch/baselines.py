"""Baselines without training, as models: what a detector must be better than, and results of other programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mammo_d2.core.files import FileFormatError, read_json
from mammo_d2.core.lesion_classes import CATEGORIES
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


@META_ARCH_REGISTRY.register()
class StoredResults(UntrainedDetector):
    """Boxes of another program, from a COCO results file in pixels of the data set's images.

    An image without an entry has no box. Categories are those of the package's format (benign 1, malignant 2); entries
    of categories that are no detection classes are left out.
    """

    @configurable
    def __init__(self, *, path: str, category_ids: Sequence[int], **kwargs: Any):
        """
        Args:
            path: the results file, a list of {image_id, category_id, bbox XYWH, score}.
            category_ids: of the classes, in order.
            kwargs: see the base class.

        Raises:
            FileNotFoundError: no such file.
            FileFormatError: it is no such list.
        """
        super().__init__(**kwargs)
        entries = read_json(path, if_missing="name a COCO results file in MODEL.BASELINE.RESULTS")
        if not isinstance(entries, list):
            raise FileFormatError(f"{path}: a COCO results file is a list of {{image_id, category_id, bbox, score}}")
        label_of = {number: label for label, number in enumerate(category_ids)}
        self.found: dict[Any, list[tuple[list[float], float, int]]] = {}
        for number, entry in enumerate(entries):
            try:
                x, y, w, h = (float(value) for value in entry["bbox"])
                image_id, category, score = entry["image_id"], entry["category_id"], float(entry["score"])
            except (KeyError, TypeError, ValueError) as error:
                raise FileFormatError(
                    f"{path}: entry {number}: {entry!r:.80} must have image_id, category_id, bbox XYWH and score"
                ) from error
            if category in label_of:
                self.found.setdefault(image_id, []).append(([x, y, x + w, y + h], score, label_of[category]))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        numbers = {str(category["name"]): category["id"] for category in CATEGORIES}
        names = list(cfg.DATASETS.CATEGORIES)
        if not set(names) <= set(numbers):
            raise ValueError(f"StoredResults: DATASETS.CATEGORIES is {names}; it can be of {', '.join(numbers)} alone")
        return {
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "path": cfg.MODEL.BASELINE.RESULTS,
            "category_ids": [numbers[name] for name in names],
        }

    def _output(self, record: dict) -> dict[str, Any]:
        found = self.found.get(record["image_id"], [])
        height, width = record["image"].shape[-2:]
        instances = Instances((record.get("height", height), record.get("width", width)))
        instances.pred_boxes = Boxes(torch.tensor([box for box, _, _ in found], dtype=torch.float32).reshape(-1, 4))
        instances.pred_boxes.clip(instances.image_size)
        instances.scores = torch.tensor([score for _, score, _ in found], dtype=torch.float32)
        instances.pred_classes = torch.tensor([label for _, _, label in found], dtype=torch.int64)
        return {"instances": instances[instances.pred_boxes.nonempty()]}
