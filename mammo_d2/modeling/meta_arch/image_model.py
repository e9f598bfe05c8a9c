"""What models of whole images share: normalised batches, and outputs in pixels of the image file."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mammo_d2.framework import Boxes, CfgNode, ImageList, Instances
from mammo_d2.modeling.functional.saliency import SaliencyBoxRule, saliency_boxes
from mammo_d2.modeling.window_average import average_outputs


class NetworkTransform(Protocol):
    """How the network input came from the image file, where it is more than a resize."""

    def boxes_to_source(self, boxes_xyxy: Any) -> np.ndarray:
        """(n, 4) XYXY boxes in pixels of the file."""

    def map_to_source(self, array: np.ndarray) -> np.ndarray:
        """(C, h, w) covering the network input to (C, h', w') covering the file's image."""


class ImageModel(nn.Module):
    """Base class; subclasses implement ``losses`` and ``outputs`` of a batch.

    Model inputs are dicts with ``image`` (D, H, W); ``height``, ``width`` of the image file; and, where the network
    input is more than a resize of that, ``network_transform``.

    Attributes:
        takes_network_transform: for all models of this kind; ``INPUT.PREPROCESSING`` needs it.
        averages_windows: the output of an input with ``windows`` is the mean over them; ``TEST.WINDOWS`` needs it.
    """

    takes_network_transform = True
    averages_windows = True

    def __init__(
        self,
        *,
        classes: Sequence[str],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        box_rule: SaliencyBoxRule | None = None,
        score_threshold: float = 0.0,
        size_divisibility: int = 0,
    ):
        """
        Args:
            classes: names by class number.
            pixel_mean, pixel_std: one per channel.
            box_rule: how boxes are made from saliency.
            score_threshold: boxes of a lower score are left out.
            size_divisibility: batches are padded to a multiple of this; 0: of anything.
        """
        super().__init__()
        self.size_divisibility = size_divisibility
        self.classes = list(classes)
        self.box_rule = box_rule or SaliencyBoxRule()
        self.score_threshold = score_threshold
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @staticmethod
    def arguments(cfg: CfgNode) -> dict[str, Any]:
        """This class's arguments that every subclass reads from the config in the same way."""
        return {
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "score_threshold": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
        }

    @classmethod
    def gives(cls, cfg: CfgNode) -> set[str]:
        """Keys of the outputs that an evaluator may need."""
        return {"instances", "image_scores", "saliency"}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device  # type: ignore[return-value,union-attr]

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """A dict of losses in training, else one dict of outputs per image.

        In training images of different sizes are padded to one batch. At inference they go one by one, so that the
        outputs of an image do not depend on the others of its batch.
        """
        if not self.training and any("windows" in record for record in batched_inputs):
            return [self._of_windows(record) for record in batched_inputs]
        if not self.training and len({record["image"].shape for record in batched_inputs}) > 1:
            return [output for record in batched_inputs for output in self([record])]
        images = ImageList.from_tensors(
            [(record["image"].to(self.device) - self.pixel_mean) / self.pixel_std for record in batched_inputs],
            self.size_divisibility,
        )
        if self.training:
            return self.losses(images.tensor, batched_inputs)
        return self.outputs(images.tensor, images.image_sizes, batched_inputs)

    def _of_windows(self, record: dict) -> dict[str, Any]:
        """Output of one image, the mean over its ``windows`` if it has any."""
        rest = {key: value for key, value in record.items() if key != "windows"}
        outputs = [self([rest | window])[0] for window in record.get("windows", [{}])]
        return average_outputs(outputs, self.box_rule, self.score_threshold) if len(outputs) > 1 else outputs[0]

    def losses(self, images: Tensor, records: list[dict]) -> dict[str, Tensor]:
        """Losses of normalised images (N, D, H, W)."""
        raise NotImplementedError

    def outputs(self, images: Tensor, sizes: list[tuple[int, int]], records: list[dict]) -> list[dict[str, Any]]:
        """Outputs of normalised images; ``sizes`` are their (height, width) before padding."""
        raise NotImplementedError

    def by_class(self, scores: Tensor) -> dict[str, float]:
        """(C,) as {class: number}."""
        return dict(zip(self.classes, scores.float().tolist(), strict=True))

    def image_output(
        self,
        saliency: Tensor,
        size: tuple[int, int],
        scores: Tensor,
        record: Mapping,
        network_saliency: Tensor | None = None,
    ) -> dict[str, Any]:
        """Image scores, saliency and its boxes of one image, in pixels of the file.

        Args:
            saliency: (C, h, w) covering the network input.
            size: (height, width) of the network input.
            scores: (C,) probability of each class.
            record: the model input.
            network_saliency: (C, h', w') the same map as the network gave it, see ``shown_part``; becomes
                ``network_saliency`` of the output. None: it is not known.
        """
        boxes, box_scores, classes = saliency_boxes(saliency, size, self.box_rule, scores)
        kept = box_scores >= self.score_threshold
        instances = Instances((record.get("height", size[0]), record.get("width", size[1])))
        instances.pred_boxes = Boxes(to_image_pixels(boxes[kept], size, record))
        instances.pred_boxes.clip(instances.image_size)
        instances.scores, instances.pred_classes = box_scores[kept], classes[kept]
        transform: NetworkTransform | None = record.get("network_transform")
        maps = {"saliency": saliency}
        if network_saliency is not None:
            maps["network_saliency"] = network_saliency
        if transform is not None:
            maps = {
                name: torch.from_numpy(transform.map_to_source(values.detach().float().cpu().numpy()))
                for name, values in maps.items()
            }
        return {
            "instances": instances[instances.pred_boxes.nonempty()].to(self.device),
            "image_scores": self.by_class(scores),
            **maps,
        }


def to_image_pixels(boxes: Tensor, size: tuple[int, int], record: Mapping) -> Tensor:
    """XYXY boxes (n, 4) on the network input of ``size`` (height, width) in pixels of the image file; not clipped."""
    transform: NetworkTransform | None = record.get("network_transform")
    if transform is not None:
        return torch.from_numpy(transform.boxes_to_source(boxes.numpy()).reshape(-1, 4)).float()
    height, width = record.get("height", size[0]), record.get("width", size[1])
    return boxes * torch.tensor([width / size[1], height / size[0]]).repeat(2)
