"""DeepMIL: classify a whole mammogram from the responses of its regions, with image labels only."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.framework import (
    META_ARCH_REGISTRY,
    Backbone,
    Boxes,
    CfgNode,
    ImageList,
    Instances,
    build_backbone,
    configurable,
    detector_postprocess,
)
from mammo_d2.modeling.functional.saliency import SaliencyBoxRule, saliency_boxes
from mammo_d2.modeling.image_labels import Finding, findings_from_config, image_targets
from mammo_d2.modeling.layers.receptive_field import cover_image, shown_part
from mammo_d2.modeling.meta_arch.mil_heads import build_mil_head, cell_mask


@META_ARCH_REGISTRY.register()
class DeepMIL(nn.Module):
    """A backbone and a multi-instance head on one of its feature maps; every finding is classified independently.

    The L2 term of the paper's losses is the optimizer's: SOLVER.WEIGHT_DECAY is λ, with SOLVER.OPTIMIZER Adam.

    Source:
        Zhu et al., MICCAI 2017.
    """

    head: Any

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: Any,
        in_feature: str,
        findings: Sequence[Finding],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        box_rule: SaliencyBoxRule,
    ):
        """
        Args:
            backbone: makes the feature maps.
            head: see ``mil_heads.py``.
            in_feature: name of the map that the head works on.
            findings: the C classes.
            pixel_mean, pixel_std: one per channel.
            box_rule: how boxes are made from the response map.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.in_feature = in_feature
        self._shape = backbone.output_shape()[in_feature]
        self.findings = list(findings)
        self.box_rule = box_rule
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        shapes, keys = backbone.output_shape(), cfg.MODEL.DEEP_MIL
        in_feature = keys.IN_FEATURE or list(shapes)[-1]
        if in_feature not in shapes:
            raise ValueError(
                f"MODEL.DEEP_MIL.IN_FEATURE is {in_feature!r}; {cfg.MODEL.BACKBONE.NAME} gives {', '.join(shapes)}"
            )
        findings = findings_from_config(cfg)
        channels = shapes[in_feature].channels
        assert channels is not None  # every backbone tells them
        return {
            "backbone": backbone,
            "head": build_mil_head(cfg, channels, len(findings)),
            "in_feature": in_feature,
            "findings": findings,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "box_rule": SaliencyBoxRule(
                keys.BOX_THRESHOLD, keys.BOX_FLOOR, score="max", limit=cfg.TEST.DETECTIONS_PER_IMAGE
            ),
        }

    @classmethod
    def gives(cls, cfg: CfgNode) -> set[str]:
        """Keys of the outputs that an evaluator may need; without a response map there is never a box."""
        return {"image_scores"} | (set() if cfg.MODEL.DEEP_MIL.HEAD == "classifier" else {"saliency", "instances"})

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device  # type: ignore[return-value,union-attr]

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train on a batch, or classify its images.

        Args:
            batched_inputs: per image "image" (C, H, W), in training "labels"; "height" and "width" to give boxes in.

        Returns:
            In training ``loss_mil``. Otherwise per image ``image_scores`` {class: probability}; the responses, which
            the classifier has not, as ``saliency`` (C, h, w) in [0, 1] and as the network gave them,
            ``network_saliency`` (C, h', w'); and ``instances`` with ``pred_boxes``, ``scores`` and ``pred_classes``
            made from them.
        """
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)[self.in_feature]
        outputs = self.head(features)
        mask = cell_mask(images.image_sizes, self._shape, (features.shape[2], features.shape[3])).to(self.device)
        if self.training:
            targets = image_targets(batched_inputs, self.findings, self.device)
            return {"loss_mil": self.head.loss(outputs, mask, targets)}
        scores = self.head.image_logits(outputs, mask).detach().sigmoid()
        maps = self.head.response_map(outputs)
        results = []
        for i, (record, size) in enumerate(zip(batched_inputs, images.image_sizes, strict=True)):
            result: dict[str, Any] = {
                "image_scores": {f.name: float(score) for f, score in zip(self.findings, scores[i], strict=True)}
            }
            if maps is not None:
                result["saliency"] = cover_image(maps[i], self._shape, size)
                result["network_saliency"] = shown_part(maps[i], self._shape, size)
            found = self._boxes(result.get("saliency"), size, scores[i])
            result["instances"] = detector_postprocess(
                found, record.get("height", size[0]), record.get("width", size[1])
            )
            results.append(result)
        return results

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise the images, then pad them with 0 to one batch."""
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(
            images, self.backbone.size_divisibility, padding_constraints=self.backbone.padding_constraints
        )

    def _boxes(self, saliency: Tensor | None, size: tuple[int, int], scores: Tensor) -> Instances:
        if saliency is None:
            saliency = scores.new_zeros(len(self.findings), 1, 1)
        boxes, box_scores, classes = saliency_boxes(saliency, size, self.box_rule, scores)
        found = Instances(size)
        found.pred_boxes = Boxes(boxes.to(self.device))
        found.scores = box_scores.to(self.device)
        found.pred_classes = classes.to(self.device)
        return found
