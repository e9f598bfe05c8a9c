"""Ensemble of GMIC models: the mean of their predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, configurable
from mammo_d2.modeling.meta_arch.gmic import GMIC, image_generators
from mammo_d2.modeling.meta_arch.gmic_variants import GMICPrediction
from mammo_d2.modeling.meta_arch.image_model import ImageModel


def member_prefix(number: int) -> str:
    """Prefix of a member's parameter names."""
    return f"members.{number}."


@META_ARCH_REGISTRY.register()
class GMICEnsemble(ImageModel):
    """Mean of image scores and saliency maps; ``patches`` are those of all members, their ``attention`` sums to 1.

    For prediction only: members are trained one by one and joined by ``mammo-d2 convert-weights``.

    Source:
        Shen et al., MLMI 2019, section 3.2 (the five models with the best validation AUC).
    """

    @configurable
    def __init__(self, *, members: Sequence[GMIC], **kwargs: Any):
        """
        Args:
            members: of the same classes and patch size.
            kwargs: arguments of ``ImageModel``; the backbone is the first member's.
        """
        super().__init__(**kwargs)
        self.members = nn.ModuleList(members)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        if not cfg.MODEL.GMIC.ENSEMBLE:
            raise ValueError("MODEL.GMIC.ENSEMBLE is empty; it lists the top fraction of each member")
        arguments = [{**GMIC.from_config(cfg), "top_fraction": t} for t in cfg.MODEL.GMIC.ENSEMBLE]
        members = [GMIC(**each) for each in arguments]
        return {
            **ImageModel.arguments(cfg),
            "members": members,
            "size_divisibility": members[0].size_divisibility,
            "classes": members[0].classes,
            "box_rule": members[0].box_rule,
        }

    def losses(self, images: Tensor, records: list[dict]) -> dict[str, Tensor]:
        raise ValueError("a GMICEnsemble is not trained: train GMIC models and join them with mammo-d2 convert-weights")

    def outputs(self, images: Tensor, sizes: list[tuple[int, int]], records: list[dict]) -> list[dict[str, Any]]:
        joined, scores = self.predict_scores(images, image_generators(records), sizes)
        first = self.members[0]
        assert isinstance(first, GMIC)
        return first.describe(joined, scores, sizes, records)

    def predict_scores(
        self,
        images: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[GMICPrediction, Tensor]:
        """As ``GMIC.predict_scores``; the generators go on drawing for every member."""
        predictions: list[GMICPrediction] = []
        scores = []
        for member in self.members:
            assert isinstance(member, GMIC)
            predictions.append(member.predict(images, generators, sizes))
            scores.append(member.final_scores(predictions[-1]))
        joined = GMICPrediction(
            torch.stack([each.saliency for each in predictions]).mean(dim=0),
            torch.stack([each.global_scores for each in predictions]).mean(dim=0),
            *(_joined([getattr(each, name) for each in predictions]) for name in ("positions", "attention")),
        )
        if joined.attention is not None:
            joined.attention = joined.attention / len(predictions)
        return joined, torch.stack(scores).mean(dim=0)

    def rename_weights(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """As ``GMIC.rename_weights``, member by member: one file serves both fusions and every variant."""
        renamed = dict(weights)
        for number, member in enumerate(self.members):
            assert isinstance(member, GMIC)
            prefix = member_prefix(number)
            of_member = {name.removeprefix(prefix): renamed.pop(name) for name in weights if name.startswith(prefix)}
            renamed |= {prefix + name: value for name, value in member.rename_weights(of_member).items()}
        return renamed


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The patches of all members, (N, members · K, ...)."""
    present = [part for part in parts if part is not None]
    return torch.cat(present, dim=1) if present else None
