"""ResNet-22 as a classifier of whole images: the baseline of the GMIC paper, and its pretraining on BI-RADS."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo_d2.framework import META_ARCH_REGISTRY, Backbone, CfgNode, build_backbone, configurable
from mammo_d2.modeling.image_labels import birads_targets, class_names, label_targets
from mammo_d2.modeling.losses import multi_label_bce
from mammo_d2.modeling.meta_arch.image_model import ImageModel
from mammo_d2.modeling.saliency import map_size, part_of_canvas

TARGETS = ("labels", "birads")


@META_ARCH_REGISTRY.register()
class ResNet22Classifier(ImageModel):
    """Global average pooling and a linear layer on a backbone.

    With ``target`` "labels" a multi-label classifier like GMIC: ``image_scores``, ``saliency`` (the class activation
    map, whose mean is the logit, through a sigmoid) and boxes from it. With "birads" a classifier of BI-RADS groups,
    whose backbone (same parameter names) GMIC starts from; it has no boxes.

    Source:
        Shen et al., MLMI 2019, table 1 (baseline) and section 3.1 (pretraining).
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        categories: Sequence[str],
        merged: str = "",
        target: str = "labels",
        birads_groups: Sequence[Sequence[int]] = ((0,), (1,), (2,)),
        **kwargs: Any,
    ):
        """
        Args:
            backbone: with one feature map.
            categories, merged: see ``label_targets``.
            target: "labels" or "birads".
            birads_groups: grades of each class of the target "birads".
            kwargs: arguments of ``ImageModel``.

        Raises:
            ValueError: an unknown target.
        """
        if target not in TARGETS:
            raise ValueError(f"MODEL.CLASSIFIER.TARGET is {target!r}; use one of {', '.join(TARGETS)}")
        names = class_names(categories, merged)
        if target == "birads":
            names = ["birads_" + "".join(map(str, grades)) for grades in birads_groups]
        super().__init__(backbone=backbone, classes=names, **kwargs)
        self.categories, self.merged, self.target = list(categories), merged, target
        self.birads_groups = [list(grades) for grades in birads_groups]
        self._feature, shape = next(iter(backbone.output_shape().items()))
        self.classifier = nn.Linear(shape.channels, len(names))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            **ImageModel.arguments(cfg),
            "backbone": build_backbone(cfg),
            "categories": list(cfg.DATASETS.CATEGORIES),
            "merged": cfg.DATASETS.MERGE_CATEGORIES,
            "target": cfg.MODEL.CLASSIFIER.TARGET,
            "birads_groups": cfg.MODEL.CLASSIFIER.BIRADS_GROUPS,
        }

    def losses(self, images: Tensor, records: list[dict]) -> dict[str, Tensor]:
        """``loss_classification``, unknown labels and BI-RADS left out."""
        logits = self.classifier(self.backbone(images)[self._feature].mean(dim=(2, 3))).float()
        if self.target == "birads":
            targets = birads_targets(records, self.birads_groups).to(self.device)
            known = targets >= 0
            total = F.cross_entropy(logits[known], targets[known], reduction="sum") + logits.sum() * 0.0
            return {"loss_classification": total / known.sum().clamp(min=1)}
        labels = label_targets(records, self.categories, self.merged).to(self.device)
        return {"loss_classification": multi_label_bce(logits, labels, from_logits=True)}

    def outputs(self, images: Tensor, sizes: list[tuple[int, int]], records: list[dict]) -> list[dict[str, Any]]:
        features = self.backbone(images)[self._feature]
        logits = self.classifier(features.mean(dim=(2, 3))).float()
        scores = logits.softmax(dim=1) if self.target == "birads" else logits.sigmoid()
        # The logit is the mean of this map: pooling and linear layer exchanged.
        maps = F.conv2d(features, self.classifier.weight[:, :, None, None], self.classifier.bias).float().sigmoid()
        results = []
        for row, (size, record) in enumerate(zip(sizes, records, strict=True)):
            output = self.image_output(part_of_canvas(maps[row], map_size(images), size), size, scores[row], record)
            if self.target == "birads":
                output["instances"] = output["instances"][torch.zeros(len(output["instances"]), dtype=torch.bool)]
            results.append(output)
        return results
