"""Lesion classification with global context: the patch classifier (f_loc) and the aggregation network on top (f_agg).

Shape shorthand: N patches of S×S pixels, L lesions with n windows each, embeddings of D numbers, maps of h×w cells, C
saliency maps, M maps in all.

Model inputs in training are patches: ``patch_class`` and, for f_loc, ``image`` (1, S, S) in 0..255; for f_agg
``embedding`` (D,), ``window`` (4,) and ``image_size`` (2,) in pixels of the image file, ``saliency`` (C, h, w).
At inference they are images with all windows of their lesions: ``patches`` (n, 1, S, S), ``windows`` (n, 4),
``window_lesion`` (n,), ``num_lesions``, and for f_agg ``image_size`` and ``saliency``.

Source:
    Wu et al., "Reducing false-positive biopsies using deep neural networks that utilize both local and global image
    context of screening mammograms", Journal of Digital Imaging 2021.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, configurable
from mammo_d2.modeling.backbone.patch_networks import PatchNetwork
from mammo_d2.modeling.functional.lesion_maps import (
    PATCH_CLASSES,
    average_windows,
    class_weights,
    combine_maps,
    count_maps,
    indicator_maps,
    malignancy_scores,
    weighted_cross_entropy,
)
from mammo_d2.modeling.layers.feature_cache import ModuleFingerprint, content_key

LOSS_AVERAGES = ("patches", "weights")


class LesionModel(nn.Module):
    """What both stages share: normalisation, the weighted loss, and scores of lesions from those of their windows.

    Inference gives per image ``lesion_scores``: for each lesion (n, 2) scores of malignant and benign of its windows,
    normalised to the sum 1; ``malignancy`` (L,) their mean; and ``window_logits`` (N, 4).
    """

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
        if loss_average not in LOSS_AVERAGES:
            raise ValueError(f"MODEL.LESION.LOSS_AVERAGE is {loss_average!r}; use one of {', '.join(LOSS_AVERAGES)}")
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
                    "and evaluated with tools/train_lesion.py"
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
        """(N, 1, S, S) grey values to the network's three equal channels."""
        return ((patches.to(self.device) - self.pixel_mean) / self.pixel_std).expand(-1, 3, -1, -1)

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


class AggregationNetwork(nn.Sequential):
    """f_agg: twice normalisation, ReLU and 3×3 convolution; global average pooling; linear: (N, M, h, w) to (N, 4)."""

    def __init__(self, maps: int, channels: int = 32):
        """
        Args:
            maps: M.
            channels: of both convolutions.
        """
        layers: list[nn.Module] = []
        for inputs in (maps, channels):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, channels, 3, padding=1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(PATCH_CLASSES)))


@META_ARCH_REGISTRY.register()
class LesionContextClassifier(LesionModel):
    """f_agg on the maps of a patch, with the frozen f_loc inside, so that one file of weights is the whole model.

    Saliency comes with the inputs: the context network is another model (any trained GMIC) that has run before, once
    per image.
    """

    network: PatchNetwork | None
    aggregation: AggregationNetwork

    @configurable
    def __init__(
        self,
        *,
        maps: Sequence[str],
        network: PatchNetwork | None,
        grid: tuple[int, int] = (46, 30),
        saliency_maps: int = 2,
        channels: int = 32,
        **kwargs: Any,
    ):
        """
        Args:
            maps: kinds of maps, see ``combine_maps``.
            network: f_loc, is frozen; None if embeddings are not used.
            grid: (h, w).
            saliency_maps: C.
            channels: of f_agg's convolutions.
            kwargs: arguments of ``LesionModel``.

        Raises:
            ValueError: an unknown kind of map, or embeddings without f_loc.
        """
        super().__init__(**kwargs)
        if "embedding" in maps and network is None:
            raise ValueError("MODEL.LESION.MAPS has embedding, which needs the patch network")
        self.maps, self.grid, self.saliency_maps = tuple(maps), (int(grid[0]), int(grid[1])), saliency_maps
        size = 0 if network is None else network.embedding_size
        self.aggregation = AggregationNetwork(count_maps(self.maps, size, saliency_maps), channels)
        self.network = network
        # Embeddings of windows seen before on the CPU, by f_loc and patches: every evaluation has the same windows.
        self._known: dict[str, Tensor] = {}
        if self.network is not None:
            self.network.requires_grad_(False).eval()
            self._fingerprint = ModuleFingerprint([self.network])

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        keys = cfg.MODEL.LESION
        return {
            "maps": keys.MAPS,
            "network": patch_network_from_config(cfg) if "embedding" in keys.MAPS else None,
            "grid": tuple(keys.MAP_SIZE),
            "saliency_maps": keys.SALIENCY_MAPS,
            "channels": keys.CHANNELS,
            **LesionModel.arguments(cfg),
        }

    def train(self, mode: bool = True) -> "LesionContextClassifier":
        """f_loc stays in evaluation mode: its statistics are frozen with its weights."""
        super().train(mode)
        if self.network is not None:
            self.network.eval()
        return self

    def aggregate(
        self, windows: Tensor, image_sizes: Tensor, embeddings: Tensor | None, saliency: Tensor | None
    ) -> Tensor:
        """Logits (N, 4) of patches by their maps.

        Args:
            windows: (N, 4) XYXY in pixels of each one's image.
            image_sizes: (N, 2).
            embeddings: (N, D) or None.
            saliency: (N, C, h, w) or None.
        """
        indicator = indicator_maps(windows, image_sizes, self.grid)
        return self.aggregation(combine_maps(self.maps, indicator, embeddings, saliency))

    def patch_logits(self, records: list[dict]) -> Tensor:
        embeddings = self._stacked(records, "embedding") if "embedding" in self.maps else None
        saliency = self._saliency(records) if "saliency" in self.maps else None
        return self.aggregate(
            self._stacked(records, "window"), self._stacked(records, "image_size"), embeddings, saliency
        )

    def window_logits(self, record: Mapping[str, Any]) -> Tensor:
        windows = record["windows"].to(self.device)
        sizes = record["image_size"].to(self.device).expand(len(windows), -1)
        embeddings = None if self.network is None else self.window_embeddings(record["patches"])
        saliency = None
        if "saliency" in self.maps:
            saliency = self._saliency([record]).expand(len(windows), -1, -1, -1)
        return self.aggregate(windows, sizes, embeddings, saliency)

    def window_embeddings(self, patches: Tensor) -> Tensor:
        """Embeddings (N, D) of patches (N, 1, S, S) in 0..255, computed once for the same patches and weights."""
        assert self.network is not None
        precision = str(torch.is_autocast_enabled(self.device.type))
        key = content_key([self._fingerprint(), precision], [patches])
        if key not in self._known:
            self._known[key] = self.in_parts(self.network, patches)[0].detach().cpu()
        return self._known[key].to(self.device)

    def forget_embeddings(self) -> None:
        """Free what ``window_embeddings`` has kept."""
        self._known.clear()

    def _stacked(self, records: Sequence[Mapping[str, Any]], key: str) -> Tensor:
        return torch.stack([record[key] for record in records]).to(self.device)

    def _saliency(self, records: Sequence[Mapping[str, Any]]) -> Tensor:
        """(N, C, h, w) of the images of some inputs.

        Raises:
            ValueError: no saliency, or not C maps of the model's size.
        """
        for record in records:
            shape = tuple(record["saliency"].shape) if "saliency" in record else None
            if shape != (self.saliency_maps, *self.grid):
                raise ValueError(
                    f"image {record.get('image_id')!r}: saliency of shape {shape} instead of "
                    f"{(self.saliency_maps, *self.grid)}; check MODEL.LESION.SALIENCY_MAPS (the context network's "
                    "classes) and MODEL.LESION.MAP_SIZE"
                )
        return self._stacked(records, "saliency")


def patch_network_from_config(cfg: CfgNode) -> PatchNetwork:
    """f_loc of MODEL.LESION."""
    keys = cfg.MODEL.LESION
    return PatchNetwork(keys.NETWORK, keys.EMBEDDING, keys.NETWORK_WEIGHTS)
