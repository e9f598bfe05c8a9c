"""GMIC: a classifier of whole mammograms with a saliency map and attention over the patches that the map points to.

Naming convention (paper; names of the released weights in brackets):
    global: the localisation module: ResNet-22, 1×1 convolution, sigmoid; ŷ_loc is the mean of the map's top cells.
    local: the patch network (ResNet-18) and attention over K patches; ŷ_mil [y_local].
    fusion: "average" ½(ŷ_loc + ŷ_mil), or "concat", a linear layer on both modules' features [y_fusion].

Shape shorthand: N images of H×W pixels, C classes, maps of h×w cells, K patches.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from mammo_d2.framework import META_ARCH_REGISTRY, Backbone, CfgNode, build_backbone, configurable
from mammo_d2.modeling.functional.losses import multi_label_bce, sparsity_loss
from mammo_d2.modeling.functional.saliency import (
    SaliencyBoxRule,
    crop_patches,
    crop_positions,
    map_size,
    random_windows,
    retrieve_windows,
    top_fraction_mean,
    window_cells,
)
from mammo_d2.modeling.image_labels import Finding, findings_from_config, image_targets
from mammo_d2.modeling.layers.attention import EqualAttention, GatedAttention
from mammo_d2.modeling.layers.receptive_field import PIXELS, cover_image, shown_part, shown_parts
from mammo_d2.modeling.meta_arch.gmic_variants import GMIC_VARIANTS, GMICPrediction
from mammo_d2.modeling.meta_arch.gmic_weights import rename_released
from mammo_d2.modeling.meta_arch.image_model import ImageModel, to_image_pixels
from mammo_d2.modeling.pretrained import load_pretrained, read_pretrained

FUSIONS = ("average", "concat")
#: Length of ResNet-18's feature of a patch.
PATCH_CHANNELS = 512


@META_ARCH_REGISTRY.register()
class GMIC(ImageModel):
    """Globally-aware multiple instance classifier.

    Inference gives per image ``image_scores`` {class: probability}, ``module_scores`` {"global", "local", "fusion":
    {class: probability}} as far as they exist, ``saliency`` (C, h, w), ``network_saliency`` (C, h', w') as the network
    gave it, ``patches`` (K, 4) XYXY in pixels of the image file, ``attention`` (K,), and ``instances``: boxes around
    salient components.

    Source:
        Shen et al., "Globally-aware multiple instance classifier for breast cancer screening", MLMI 2019. The form
        "concat" is that of the released weights (Shen et al., Medical Image Analysis 2021).
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        findings: Sequence[Finding],
        variant: str = "full",
        fusion: str = "average",
        top_fraction: float = 0.03,
        num_patches: int = 6,
        patch_size: tuple[int, int] = (256, 256),
        attention_channels: int = 128,
        patch_features: int = PATCH_CHANNELS,
        sparsity_weight: float = 1e-4,
        sparsity_exponent: float = 1.0,
        patch_weights: str = "",
        **kwargs: Any,
    ):
        """
        Args:
            backbone: with one feature map.
            findings: the C classes.
            variant: a key of ``GMIC_VARIANTS``.
            fusion: "average" or "concat".
            top_fraction: t, as a fraction of the map's cells.
            num_patches: K.
            patch_size: (height, width) in pixels of the network input.
            attention_channels: rows of the attention's U and V.
            patch_features: L, length of a patch's feature h; other than ResNet-18's 512, by a linear layer after it.
            sparsity_weight, sparsity_exponent: λ and β.
            patch_weights: file with a torchvision ResNet-18 for the patch network, or with a trained GMIC, whose
                patch network is taken; empty: random.
            kwargs: arguments of ``ImageModel``.

        Raises:
            ValueError: an unknown variant or fusion, a number out of range, or ``patch_weights`` of something else.
            FileNotFoundError: no file ``patch_weights``.
        """
        super().__init__(
            size_divisibility=backbone.size_divisibility, classes=[finding.name for finding in findings], **kwargs
        )
        self.backbone = backbone
        if variant not in GMIC_VARIANTS:
            raise ValueError(f"MODEL.GMIC.VARIANT is {variant!r}; use one of {', '.join(GMIC_VARIANTS)}")
        if fusion not in FUSIONS:
            raise ValueError(f"MODEL.GMIC.FUSION is {fusion!r}; use one of {', '.join(FUSIONS)}")
        if num_patches < 1 or min(patch_size) < 1 or not 0 < top_fraction <= 1:
            raise ValueError(
                f"MODEL.GMIC: NUM_PATCHES {num_patches} and PATCH_SIZE {tuple(patch_size)} must be positive, "
                f"TOP_FRACTION {top_fraction} must lie in (0, 1]"
            )
        if patch_features < 1:
            raise ValueError(f"MODEL.GMIC.PATCH_FEATURES is {patch_features}; it must be positive")
        self.findings = list(findings)
        self.variant = GMIC_VARIANTS[variant]
        self.top_fraction, self.num_patches = top_fraction, num_patches
        self.patch_size = (int(patch_size[0]), int(patch_size[1]))
        self.sparsity_weight, self.sparsity_exponent = sparsity_weight, sparsity_exponent

        num_classes, (self._feature, shape) = len(self.classes), next(iter(backbone.output_shape().items()))
        self._shape = shape
        assert shape.channels is not None
        self.saliency_head = nn.Conv2d(shape.channels, num_classes, 1, bias=False)
        self.fusion: nn.Linear | None = None
        self.patch_projection: nn.Linear | None = None
        if self.variant.patches:
            self.patch_net = _patch_network(patch_weights)
            if patch_features != PATCH_CHANNELS:
                self.patch_projection = nn.Linear(PATCH_CHANNELS, patch_features)
            self.attention = (
                GatedAttention(patch_features, attention_channels) if self.variant.gated else EqualAttention()
            )
            self.local_classifier = nn.Linear(patch_features, num_classes, bias=False)
            if fusion == "concat" and self.variant.prediction == "both":
                self.fusion = nn.Linear(shape.channels + patch_features, num_classes)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        keys = cfg.MODEL.GMIC
        return {
            **ImageModel.arguments(cfg),
            "backbone": build_backbone(cfg),
            "findings": findings_from_config(cfg),
            "variant": keys.VARIANT,
            "fusion": keys.FUSION,
            "top_fraction": keys.TOP_FRACTION,
            "num_patches": keys.NUM_PATCHES,
            "patch_size": tuple(keys.PATCH_SIZE),
            "attention_channels": keys.ATTENTION_CHANNELS,
            "patch_features": keys.PATCH_FEATURES,
            "sparsity_weight": keys.SPARSITY_WEIGHT,
            "sparsity_exponent": keys.SPARSITY_EXPONENT,
            "patch_weights": keys.PATCH_WEIGHTS,
            "box_rule": SaliencyBoxRule(
                keys.BOX_THRESHOLD, keys.BOX_FLOOR, keys.BOX_SCORE, cfg.TEST.DETECTIONS_PER_IMAGE
            ),
        }

    # --- the network --------------------------------------------------------------------------------------------
    def predict(
        self,
        images: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> GMICPrediction:
        """Run the modules on normalised images (N, D, H, W).

        Args:
            images: the batch.
            generators: of each image, draw its random patches (of the variants that have them); None: torch's global
                generator draws those of all images.
            sizes: (height, width) of each image before padding; padding is left out of every sum and choice. None: no
                padding.
        """
        sizes = [map_size(images)] * len(images) if sizes is None else sizes
        features = self.backbone(images)[self._feature]
        saliency = self.saliency_head(features).float().sigmoid()
        maps = shown_parts(saliency, self._shape, sizes)
        prediction = GMICPrediction(saliency, torch.cat([top_fraction_mean(part, self.top_fraction) for part in maps]))
        if not self.variant.patches:
            return prediction
        pictures = shown_parts(images, PIXELS, sizes)
        places, row = [], 0
        for part, image in zip(maps, pictures, strict=True):  # of all images, or of one each
            drawn_by = None if generators is None else generators[row : row + len(image)]
            places.append(self._patch_positions(part, image, drawn_by))
            row += len(image)
        prediction.positions = torch.cat(places)
        patches = [crop_patches(image, at, self.patch_size) for image, at in zip(pictures, places, strict=True)]
        codes = self._patch_features(torch.cat(patches)).float()
        # These layers cost little. In float32 they add no rounding errors under mixed precision.
        with torch.autocast(images.device.type, enabled=False):
            prediction.attention, pooled = self.attention(codes)
            prediction.local_logits = self.local_classifier(pooled)
            if self.fusion is not None:
                shown = shown_parts(features, self._shape, sizes)
                brightest = torch.cat([part.float().amax(dim=(2, 3)) for part in shown])
                prediction.fusion_logits = self.fusion(torch.cat([brightest, pooled], dim=1))
        return prediction

    def _patch_positions(
        self, saliency: Tensor, images: Tensor, generators: Sequence[torch.Generator] | None
    ) -> Tensor:
        cells_size, image_size = map_size(saliency), map_size(images)
        window = window_cells(cells_size, image_size, self.patch_size)
        if self.variant.patches == "random":
            if generators is None:
                cells = random_windows(cells_size, window, (len(images), self.num_patches))
            else:
                drawn = [random_windows(cells_size, window, (1, self.num_patches), each) for each in generators]
                cells = torch.cat(drawn)
        else:
            cells = retrieve_windows(saliency, window, self.num_patches)
        return crop_positions(cells, cells_size, image_size, self.patch_size)

    def _patch_features(self, patches: Tensor) -> Tensor:
        """Patches (N, K, D, h_c, w_c) to features (N, K, L)."""
        flat = patches.flatten(0, 1)
        if flat.shape[1] == 1:  # the patch network is made for colour images
            flat = flat.expand(-1, 3, -1, -1)
        codes = self.patch_net(flat)
        if self.patch_projection is not None:
            codes = self.patch_projection(codes)
        return codes.unflatten(0, patches.shape[:2])

    def final_scores(self, prediction: GMICPrediction) -> Tensor:
        """(N, C) probabilities that the variant predicts."""
        if self.variant.prediction == "global" or prediction.local_logits is None:
            return prediction.global_scores
        if prediction.fusion_logits is not None:
            return prediction.fusion_logits.float().sigmoid()
        local = prediction.local_logits.float().sigmoid()
        return local if self.variant.prediction == "local" else (prediction.global_scores + local) / 2

    # --- training and inference ---------------------------------------------------------------------------------
    def losses(self, images: Tensor, records: list[dict]) -> dict[str, Tensor]:
        """Eq. 1 of the paper; with the concatenating fusion also the cross-entropy of its prediction."""
        targets = image_targets(records, self.findings, self.device)
        sizes = [map_size(record["image"]) for record in records]
        prediction = self.predict(images, sizes=sizes)
        maps = shown_parts(prediction.saliency, self._shape, sizes)
        sparsity = torch.stack([sparsity_loss(part, self.sparsity_exponent) for part in maps]).mean()
        losses = {
            "loss_global": multi_label_bce(prediction.global_scores, targets),
            "loss_sparsity": self.sparsity_weight * sparsity,
        }
        if prediction.local_logits is not None:
            losses["loss_local"] = multi_label_bce(prediction.local_logits, targets, from_logits=True)
        if prediction.fusion_logits is not None:
            losses["loss_fusion"] = multi_label_bce(prediction.fusion_logits, targets, from_logits=True)
        return losses

    def outputs(self, images: Tensor, sizes: list[tuple[int, int]], records: list[dict]) -> list[dict[str, Any]]:
        """See the class; ``sizes`` are those of the images before padding."""
        prediction, scores = self.predict_scores(images, image_generators(records), sizes)
        return self.describe(prediction, scores, sizes, records)

    def predict_scores(
        self,
        images: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[GMICPrediction, Tensor]:
        """Prediction, and (N, C) final probabilities; arguments as for ``predict``."""
        prediction = self.predict(images, generators, sizes)
        return prediction, self.final_scores(prediction)

    def describe(
        self,
        prediction: GMICPrediction,
        scores: Tensor,
        sizes: list[tuple[int, int]],
        records: list[dict],
    ) -> list[dict[str, Any]]:
        """Outputs of images from their prediction.

        Args:
            prediction: of the batch.
            scores: (N, C) final probabilities.
            sizes, records: as for ``outputs``.
        """
        modules = {"global": prediction.global_scores}
        for name, logits in (("local", prediction.local_logits), ("fusion", prediction.fusion_logits)):
            if logits is not None:
                modules[name] = logits.float().sigmoid()
        results = []
        for row, (size, record) in enumerate(zip(sizes, records, strict=True)):
            saliency = cover_image(prediction.saliency[row], self._shape, size)
            own_map = shown_part(prediction.saliency[row], self._shape, size)
            output = self.image_output(saliency, size, scores[row], record, own_map)
            output["module_scores"] = {name: self.by_class(values[row]) for name, values in modules.items()}
            if prediction.positions is not None and prediction.attention is not None:
                output["patches"] = to_image_pixels(self.patch_boxes(prediction.positions[row].cpu()), size, record)
                output["attention"] = prediction.attention[row]
            results.append(output)
        return results

    def patch_boxes(self, positions: Tensor) -> Tensor:
        """Top left pixels (..., 2), row and column, as boxes (..., 4) XYXY of the network input, float32."""
        corners = positions.flip(-1).float()
        extent = corners.new_tensor([self.patch_size[1], self.patch_size[0]])
        return torch.cat([corners, corners + extent], dim=-1)

    def rename_weights(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """The weights of a file under this model's names; the checkpointer calls it before it compares them.

        Takes the released checkpoints as they are, and leaves out what the chosen variant does not have, so that one
        file serves all of them.
        """
        return rename_released(
            weights,
            has_local=bool(self.variant.patches),
            has_fusion=self.fusion is not None,
            has_attention=self.variant.gated,
        )


def image_generators(records: Sequence[Mapping[str, Any]]) -> list[torch.Generator]:
    """A generator for each image, seeded by its ``image_id``.

    What it draws differs between images and is the same in every evaluation, whatever the batches and processes. An
    image without id counts by its pixels.
    """
    generators = []
    for record in records:
        name = record.get("image_id")
        content = repr(name).encode() if name is not None else record["image"].cpu().numpy().tobytes()
        seed = int.from_bytes(hashlib.blake2b(content, digest_size=7).digest(), "little")
        generators.append(torch.Generator().manual_seed(seed))
    return generators


def _patch_network(path: str) -> nn.Module:
    """ResNet-18 without its classifier: (M, 3, h_c, w_c) to (M, PATCH_CHANNELS)."""
    network = resnet18(weights=None)
    network.fc = nn.Identity()  # type: ignore[assignment]
    if path:
        key, inside = "MODEL.GMIC.PATCH_WEIGHTS", "patch_net."
        weights = read_pretrained(path, key)
        of_gmic = {name.removeprefix(inside): value for name, value in weights.items() if name.startswith(inside)}
        weights = of_gmic or {name: value for name, value in weights.items() if not name.startswith("fc.")}
        load_pretrained(network, weights, path, key, "ResNet-18")
    return network
