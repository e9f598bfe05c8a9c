"""The two-stage detector as a whole: images in, losses or detections out."""

from collections.abc import Sequence

import torch
from fvcore.common.registry import Registry
from torch import Tensor, nn
from torchvision.utils import draw_bounding_boxes

from mammo_d2.framework.embedded.backbone.backbone import Backbone, build_backbone
from mammo_d2.framework.embedded.config import CfgNode, configurable
from mammo_d2.framework.embedded.detector.proposals import build_proposal_generator
from mammo_d2.framework.embedded.detector.roi_heads import build_roi_heads
from mammo_d2.framework.embedded.structures.instances import ImageList, Instances
from mammo_d2.framework.embedded.utils.events import get_event_storage

# Classes called as f(cfg) that give a whole model.
META_ARCH_REGISTRY = Registry("META_ARCH")


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model named by MODEL.META_ARCHITECTURE on MODEL.DEVICE; weights are not loaded."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))


def detector_postprocess(results: Instances, output_height: int, output_width: int) -> Instances:
    """Bring detections to another image size; boxes that become empty are dropped.

    Note:
        The boxes of ``results`` are scaled too: the returned Instances share them.

    Args:
        results: with "pred_boxes" or "proposal_boxes", in pixels of ``results.image_size``.
        output_height: height wanted.
        output_width: width wanted.

    Raises:
        ValueError: there are no boxes.
    """
    height, width = results.image_size
    name = next((name for name in ("pred_boxes", "proposal_boxes") if results.has(name)), None)
    if name is None:
        raise ValueError(f"detections need pred_boxes or proposal_boxes; got {sorted(results.get_fields())}")
    resized = Instances((output_height, output_width), **results.get_fields())
    boxes = resized.get(name)
    boxes.scale(output_width / width, output_height / height)
    boxes.clip(resized.image_size)
    return resized[boxes.nonempty()]


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(nn.Module):
    """A backbone, a proposal generator on its features, and ROI heads on both.

    Attributes:
        pixel_mean: ``(C, 1, 1)``, subtracted from images; not saved with the weights.
        pixel_std: ``(C, 1, 1)``, which they are then divided by.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: makes the features.
            proposal_generator: makes the proposals; None if they come with the inputs.
            roi_heads: makes the detections.
            pixel_mean: one per channel.
            pixel_std: one per channel.
            input_format: order of the channels, "BGR" or other; for pictures only.
            vis_period: steps between pictures of training images in the event storage; 0: none.

        Raises:
            ValueError: mean and std differ in length.
        """
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(f"MODEL.PIXEL_MEAN has {len(pixel_mean)} channels, MODEL.PIXEL_STD {len(pixel_std)}")
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "roi_heads": build_roi_heads(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device  # type: ignore[return-value,union-attr]

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train on a batch, or detect in it.

        Args:
            batched_inputs: per image "image" ``(C, H, W)``, pixel values as PIXEL_MEAN expects; in training
                "instances" with "gt_boxes" and "gt_classes"; "height" and "width" to give detections in; "proposals"
                if the model makes none.

        Returns:
            In training a dict of losses; otherwise per image {"instances": detections}.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        gt_instances = None
        if "instances" in batched_inputs[0]:
            gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self._propose(images, features, batched_inputs, gt_instances)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**detector_losses, **proposal_losses}

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list:
        """Detect.

        Args:
            batched_inputs: as in ``forward``.
            detected_instances: per image known "pred_boxes" and "pred_classes"; only what belongs to them is predicted.
            do_postprocess: give detections in each input's "height" and "width".

        Returns:
            Per image {"instances": detections}; without post-processing the detections, in network input pixels.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is not None:
            known = [instances.to(self.device) for instances in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, known)  # type: ignore[operator]
        else:
            proposals, _ = self._propose(images, features, batched_inputs, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        return self._postprocess(results, batched_inputs, images.image_sizes) if do_postprocess else results

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise the images, then pad them with 0 to one batch."""
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        backbone = self.backbone
        return ImageList.from_tensors(
            images, backbone.size_divisibility, padding_constraints=backbone.padding_constraints
        )

    def visualize_training(self, batched_inputs: list[dict], proposals: list[Instances]) -> None:
        """Put a picture of the first image into the event storage: ground truth left, best 20 proposals right."""
        image = batched_inputs[0]["image"].detach().cpu().float()
        if self.input_format == "BGR":
            image = image.flip(0)
        if len(image) != 3:
            image = image[:1].expand(3, -1, -1)
        image = image.clamp(0, 255).to(torch.uint8)
        boxes = (batched_inputs[0]["instances"].gt_boxes, proposals[0].proposal_boxes[:20])
        pictures = [draw_bounding_boxes(image, b.tensor.cpu(), colors="red") if len(b) else image for b in boxes]
        get_event_storage().put_image("Left: ground truth;  Right: proposals", torch.cat(pictures, dim=2).numpy())

    def _propose(
        self, images: ImageList, features: dict[str, Tensor], inputs: list[dict], gt: list[Instances] | None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, gt)
        if "proposals" not in inputs[0]:
            raise ValueError("MODEL.PROPOSAL_GENERATOR.NAME is PrecomputedProposals, but the inputs have no proposals")
        return [x["proposals"].to(self.device) for x in inputs], {}

    @staticmethod
    def _postprocess(instances: list[Instances], batched_inputs: list[dict], image_sizes: list) -> list[dict]:
        return [
            {"instances": detector_postprocess(found, x.get("height", size[0]), x.get("width", size[1]))}
            for found, x, size in zip(instances, batched_inputs, image_sizes, strict=True)
        ]
