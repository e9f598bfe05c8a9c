"""ResNet-22 as a classifier of whole images: the baseline of the GMIC paper, and its pretraining on BI-RADS."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo_d2.framework import META_ARCH_REGISTRY, Backbone, CfgNode, build_backbone, configurable
from mammo_d2.modeling.functional.losses import multi_label_bce
from mammo_d2.modeling.functional.saliency import map_size
from mammo_d2.modeling.image_labels import Finding, findings_from_config, image_targets
from mammo_d2.modeling.layers.receptive_field import cover_image, shown_part, shown_parts
from mammo_d2.modeling.meta_arch.image_model import ImageModel

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
        findings: Sequence[Finding],
        target: str = "labels",
        birads_groups: Sequence[Sequence[int]] = ((0,), (1,), (2,)),
        **kwargs: Any,
    ):
        """
        Args:
            backbone: with one feature map.
            findings: the classes of the target "labels".
            target: "labels" or "birads".
            birads_groups: grades of each class of the target "birads".
            kwargs: arguments of ``ImageModel``.

        Raises:
            ValueError: an unknown target.
        """
        if target not in TARGETS:
            raise ValueError(f"MODEL.CLASSIFIER.TARGET is {target!r}; use one of {', '.join(TARGETS)}")
        names = [finding.name for finding in findings]
        if target == "birads":
            names = ["birads_" + "".join(map(str, grades)) for grades in birads_groups]
        super().__init__(size_divisibility=backbone.size_divisibility, classes=names, **kwargs)
        self.backbone = backbone
        self.findings, self.target = list(findings), target
        self.birads_groups = [list(grades) for grades in birads_groups]
        self._feature, shape = next(iter(backbone.output_shape().items()))
        self._shape = shape
        assert shape.channels is not None
        self.classifier = nn.Linear(shape.channels, len(names))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            **ImageModel.arguments(cfg),
            "backbone": build_backbone(cfg),
            "findings": findings_from_config(cfg),
            "target": cfg.MODEL.CLASSIFIER.TARGET,
            "birads_groups": cfg.MODEL.CLASSIFIER.BIRADS_GROUPS,
        }

    @classmethod
    def gives(cls, cfg: CfgNode) -> set[str]:
        """As the base class; nothing with the target "birads", which has no scores of the data set's classes."""
        return set() if cfg.MODEL.CLASSIFIER.TARGET == "birads" else super().gives(cfg)

    def losses(self, images: Tensor, records: list[dict]) -> dict[str, Tensor]:
        """``loss_classification``, a mean over the images to which unknown labels and BI-RADS add nothing."""
        features = self.backbone(images)[self._feature]
        logits = self._logits(features, [map_size(record["image"]) for record in records])
        if self.target == "birads":
            targets = birads_targets(records, self.birads_groups).to(self.device)
            known = targets >= 0
            total = F.cross_entropy(logits[known], targets[known], reduction="sum") + logits.sum() * 0.0
            return {"loss_classification": total / max(1, len(targets))}
        labels = image_targets(records, self.findings, self.device)
        return {"loss_classification": multi_label_bce(logits, labels, from_logits=True)}

    def _logits(self, features: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """(N, classes) float32 of features (N, F, h, w), without the padding around images of these sizes."""
        means = [part.mean(dim=(2, 3)) for part in shown_parts(features, self._shape, sizes)]
        return self.classifier(torch.cat(means)).float()

    def outputs(self, images: Tensor, sizes: list[tuple[int, int]], records: list[dict]) -> list[dict[str, Any]]:
        features = self.backbone(images)[self._feature]
        logits = self._logits(features, sizes)
        scores = logits.softmax(dim=1) if self.target == "birads" else logits.sigmoid()
        # The logit is the mean of this map: pooling and linear layer exchanged.
        maps = F.conv2d(features, self.classifier.weight[:, :, None, None], self.classifier.bias).float().sigmoid()
        results = []
        for row, (size, record) in enumerate(zip(sizes, records, strict=True)):
            placed, own_map = (place(maps[row], self._shape, size) for place in (cover_image, shown_part))
            output = self.image_output(placed, size, scores[row], record, own_map)
            if self.target == "birads":
                output["instances"] = output["instances"][torch.zeros(len(output["instances"]), dtype=torch.bool)]
            results.append(output)
        return results


def birads_targets(records: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[int]]) -> Tensor:
    """Number of the BI-RADS group of each image, -1 where it is unknown or in no group: (N,) int64.

    Args:
        records: model inputs with ``birads``, a number or a text such as "4A"; None or absent: unknown.
        groups: grades of each class.
    """
    class_of = {int(grade): number for number, grades in enumerate(groups) for grade in grades}
    found = [re.match(r"\s*(?:BI-?RADS\s*)?([0-6])", str(record.get("birads"))) for record in records]
    return torch.tensor([-1 if match is None else class_of.get(int(match[1]), -1) for match in found])
