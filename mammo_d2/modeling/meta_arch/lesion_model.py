"""Lesion classification: what both of its stages share, and the first of them, the patch classifier (f_loc).

Shape shorthand: N patches of S×S pixels, L lesions with n windows each, embeddings of D numbers.

Model inputs in training are patches: ``patch_class`` and ``image`` (1, S, S) in 0..255. At inference they are images
with all windows of their lesions: ``patches`` (n, 1, S, S), ``windows`` (n, 4), ``window_lesion`` (n,) and
``num_lesions``. ``lesion_context.py`` says what the second stage needs.

Source:
    Wu et al., "Reducing false-positive biopsies using deep neural networks that utilize both local and global image
    context of screening mammograms", Journal of Digital Imaging 2021.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.core.lesion_classes import PATCH_CLASSES
from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, configurable
from mammo_d2.modeling.backbone.patch_networks import PatchNetwork
from mammo_d2.modeling.functional.lesion_maps import (
    average_windows,
    class_weights,
    malignancy_scores,
    weighted_cross_entropy,
)

PATCH_LOSS_AVERAGES = ("patches", "weights")


class LesionModel(nn.Module):
    """What both stages share: normalisation, the weighted loss, and scores of lesions from those of their windows.

    Inference gives per image ``lesion_scores``: for each lesion (n, 2) scores of malignant and benign of its windows,
    normalised to the sum 1; ``malignancy`` (L,) their mean; and ``window_logits`` (N, 4).
    """

    #: What trains the model, a name in JOB_REGISTRY: its batches are no images.
    job = "LesionContextJob"

    pixel_mean: Tensor
    pixel_std: Tensor
    weights: Tensor

    def __init__(
        self,
        *,
        epoch: Sequence[int],
        loss_average: str = "patches",
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        windows_per_forward: int = 100,
    ):
        """
        Args:
            epoch: patches of each class in an epoch.
            loss_average: "patches" or "weights", see ``weighted_cross_entropy``.
            pixel_mean, pixel_std: one, or one per channel of the network.
            windows_per_forward: windows that go through the patch network together.

        Raises:
            ValueError: an unknown average, a number out of range.
        """
        super().__init__()
        if loss_average not in PATCH_LOSS_AVERAGES:
            raise ValueError(
                f"MODEL.LESION.LOSS_AVERAGE is {loss_average!r}; use one of {', '.join(PATCH_LOSS_AVERAGES)}"
            )
        if windows_per_forward < 1:
            raise ValueError(f"MODEL.LESION.WINDOWS_PER_FORWARD is {windows_per_forward}; it must be at least 1")
        self.by_weight, self.windows_per_forward = loss_average == "weights", windows_per_forward
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.register_buffer("weights", class_weights(epoch), persistent=False)

    @staticmethod
    def arguments(cfg: CfgNode) -> dict[str, Any]:
        """This class's arguments from the config."""
        return {
            "epoch": cfg.MODEL.LESION.EPOCH,
            "loss_average": cfg.MODEL.LESION.LOSS_AVERAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "windows_per_forward": cfg.MODEL.LESION.WINDOWS_PER_FORWARD,
        }

    @classmethod
    def gives(cls, cfg: CfgNode) -> set[str]:
        """Keys of the outputs that an evaluator may need."""
        return {"lesion_scores"}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """A dict of losses in training, else one dict of outputs per image.

        Raises:
            ValueError: inputs that are no patches, as those of the ordinary loaders.
        """
        needed = "patch_class" if self.training else "patches"
        for record in batched_inputs:
            if needed not in record:
                raise ValueError(
                    f"image {record.get('image_id')!r}: the input has no {needed}; {type(self).__name__} is trained "
                    f"and evaluated by the job {self.job}: set JOB"
                )
        if self.training:
            targets = torch.tensor([record["patch_class"] for record in batched_inputs], device=self.device)
            loss = weighted_cross_entropy(
                self.patch_logits(batched_inputs), targets, self.weights, by_weight=self.by_weight
            )
            return {"loss_patch": loss}
        return [self._lesions(record) for record in batched_inputs]

    def patch_logits(self, records: list[dict]) -> Tensor:
        """(N, 4) of training patches."""
        raise NotImplementedError

    def window_logits(self, record: Mapping[str, Any]) -> Tensor:
        """(n, 4) of all windows of an image; there is at least one."""
        raise NotImplementedError

    def normalize(self, patches: Tensor) -> Tensor:
        """(N, 1, S, S) grey values to normalised ones, with as many channels as there are means."""
        return (patches.to(self.device) - self.pixel_mean) / self.pixel_std

    def in_parts(self, network: PatchNetwork, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) and logits (N, 4) of many patches."""
        parts = [network(self.normalize(part)) for part in patches.split(self.windows_per_forward)]
        return torch.cat([h for h, _ in parts]), torch.cat([logits for _, logits in parts])

    def _lesions(self, record: Mapping[str, Any]) -> dict[str, Any]:
        number = int(record["num_lesions"])
        empty = torch.zeros(0, len(PATCH_CLASSES), device=self.device)
        logits = self.window_logits(record).float() if len(record["patches"]) else empty
        scores, lesion = malignancy_scores(logits), record["window_lesion"].to(self.device)
        rows = torch.stack([scores, 1 - scores], dim=1)
        return {
            "lesion_scores": [rows[lesion == row] for row in range(number)],
            "malignancy": average_windows(scores, lesion, number),
            "window_logits": logits,
        }


@META_ARCH_REGISTRY.register()
class LesionPatchClassifier(LesionModel):
    """f_loc alone: says from a patch what it shows, and from a lesion's windows what the lesion is."""

    job = "LesionPatchJob"

    network: PatchNetwork

    @configurable
    def __init__(self, *, network: PatchNetwork, **kwargs: Any):
        """
        Args:
            network: f_loc.
            kwargs: arguments of ``LesionModel``.
        """
        super().__init__(**kwargs)
        self.network = network

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"network": patch_network_from_config(cfg), **LesionModel.arguments(cfg)}

    def patch_logits(self, records: list[dict]) -> Tensor:
        return self.network(self.normalize(torch.stack([record["image"] for record in records])))[1]

    def window_logits(self, record: Mapping[str, Any]) -> Tensor:
        return self.in_parts(self.network, record["patches"])[1]

    def embed(self, patches: Tensor) -> Tensor:
        """Embeddings (N, D) of patches (N, 1, S, S) in 0..255."""
        return self.in_parts(self.network, patches)[0]


def patch_network_from_config(cfg: CfgNode) -> PatchNetwork:
    """f_loc of MODEL.LESION."""
    keys = cfg.MODEL.LESION
    return PatchNetwork(keys.NETWORK, keys.EMBEDDING, keys.NETWORK_WEIGHTS, cfg)
