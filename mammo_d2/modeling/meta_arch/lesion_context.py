"""Lesion classification with global context: the aggregation network (f_agg) on maps of the image around a patch.

Shape shorthand: N patches, lesions with n windows each, embeddings of D numbers, maps of h×w cells, C saliency maps,
M maps in all.

Model inputs in training are patches: ``patch_class``, ``embedding`` (D,), ``window`` (4,) and ``image_size`` (2,) in
pixels of the image file, ``saliency`` (C, h, w). At inference they are those of ``lesion_model.py`` with ``image_size``
and ``saliency``.

Source:
    Wu et al., Journal of Digital Imaging 2021.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.core.lesion_classes import PATCH_CLASSES
from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, configurable
from mammo_d2.modeling.backbone.patch_networks import PatchNetwork
from mammo_d2.modeling.feature_cache import ModuleFingerprint, content_key
from mammo_d2.modeling.functional.lesion_maps import combine_maps, count_maps, indicator_maps
from mammo_d2.modeling.meta_arch.lesion_model import LesionModel, patch_network_from_config


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
