"""WeaklySupervisedRCNN: regions, a backbone and heads that learn from image labels; end to end or in two stages."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, GeneralizedRCNN, ImageList, Instances, configurable
from mammo_d2.modeling.feature_cache import FeatureCache, ModuleFingerprint, content_key
from mammo_d2.modeling.image_labels import Finding, findings_from_config, image_targets
from mammo_d2.modeling.roi_heads.dual_branch import whole_image_if_empty
from mammo_d2.modeling.roi_heads.window_codes import window_codes

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class WeaklySupervisedRCNN(GeneralizedRCNN):
    """GeneralizedRCNN whose heads take image labels; proposals are computed, learned before, or come with the inputs.

    A proposal generator is never trained here, since there are no boxes to train it with. In two stages (``frozen``)
    the backbone and the region encoder are not trained either: they run image by image without a graph, and their
    results can be cached on disk. A change of image, regions, weights or layers makes a new entry.
    """

    roi_heads: Any
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        findings: Sequence[Finding],
        frozen: bool = False,
        cache: FeatureCache | None = None,
        window: int | None = None,
        **kwargs: Any,
    ):
        """
        Args:
            findings: the classes in order.
            frozen: two stages.
            cache: keeps the regions' codes; only with ``frozen``, and proposals that need no feature maps.
            window: encode each region by itself, in this many pixels a side; None: from shared maps of the image.
            kwargs: arguments of GeneralizedRCNN.

        Raises:
            ValueError: a cache for codes that training changes; ``window`` with proposals that need feature maps.
        """
        super().__init__(**kwargs)
        self.findings = list(findings)
        self.frozen = frozen
        self.cache = cache
        self.window = window
        self._needs_features = getattr(self.proposal_generator, "needs_features", self.proposal_generator is not None)
        if cache is not None and (not frozen or self._needs_features):
            raise ValueError(
                "MODEL.DUAL_BRANCH.CACHE_DIR needs MODEL.DUAL_BRANCH.FROZEN True and proposals that are not made from "
                "feature maps (SlidingWindowRegions or PrecomputedProposals)"
            )
        if window is not None and self._needs_features:
            raise ValueError(
                "MODEL.DUAL_BRANCH.SHARED_MAPS False makes no feature maps of the image, from which "
                f"{type(self.proposal_generator).__name__} makes its proposals; set it True, or use "
                "SlidingWindowRegions or PrecomputedProposals"
            )
        self._fixed = [module for module in self._fixed_modules() if module is not None]
        for module in self._fixed:
            module.requires_grad_(False)
        self._fingerprint = ModuleFingerprint([self.backbone, self.roi_heads.encoder])
        self.train(self.training)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        keys, parts = cfg.MODEL.DUAL_BRANCH, super().from_config(cfg)
        generator = parts["proposal_generator"]
        fixed = ["backbone and region encoder"] if keys.FROZEN else []
        fixed += ["proposal generator"] if generator is not None and any(True for _ in generator.parameters()) else []
        if fixed and not cfg.MODEL.WEIGHTS:
            logger.warning(
                "MODEL.WEIGHTS is empty and the %s will not be trained: random weights stay. Name trained weights%s",
                " and the ".join(fixed),
                ", or set MODEL.DUAL_BRANCH.FROZEN False" if keys.FROZEN else "",
            )
        return {
            **parts,
            "findings": findings_from_config(cfg),
            "frozen": keys.FROZEN,
            "window": None if keys.SHARED_MAPS else getattr(parts["backbone"], "window", cfg.MODEL.SLIDING_WINDOW.SIZE),
            "cache": FeatureCache(keys.CACHE_DIR) if keys.CACHE_DIR else None,
        }

    @classmethod
    def gives(cls, cfg: CfgNode) -> set[str]:
        """Keys of the outputs that an evaluator may need."""
        return {"instances", "image_scores"}

    def _fixed_modules(self) -> list[nn.Module | None]:
        fixed = [self.backbone, self.roi_heads.encoder] if self.frozen else []
        return [self.proposal_generator, *fixed]

    def train(self, mode: bool = True) -> "WeaklySupervisedRCNN":
        """Set the mode; parts that are not trained stay in evaluation mode (no dropout, no batch statistics)."""
        super().train(mode)
        for module in getattr(self, "_fixed", ()):
            module.eval()
        return self

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train on a batch, or classify its images and find what shows it.

        Args:
            batched_inputs: per image "image" (C, H, W), in training "labels"; "height" and "width" to give boxes in;
                "tissue" for SlidingWindowRegions; "proposals" if the model makes none.

        Returns:
            In training ``loss_image``. Otherwise per image ``image_scores`` {class: probability}, with "normal" (no
            finding) where there are several categories, and ``instances``: regions with ``pred_boxes``, ``scores`` and
            ``pred_classes``.
        """
        if not self.training:
            return self.inference(batched_inputs)
        codes, proposals, _ = self._regions(batched_inputs)
        targets = image_targets(batched_inputs, self.findings, self.device)
        return self.roi_heads.forward_codes(codes, proposals, targets)[1]

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list:
        """See ``forward``; without post-processing the regions alone, in network input pixels.

        Raises:
            NotImplementedError: ``detected_instances`` are given; nothing is predicted for given boxes here.
        """
        if detected_instances is not None:
            raise NotImplementedError("WeaklySupervisedRCNN predicts nothing for given boxes")
        codes, proposals, sizes = self._regions(batched_inputs)
        found, extra = self.roi_heads.forward_codes(codes, proposals)
        if not do_postprocess:
            return found
        results = self._postprocess(found, batched_inputs, sizes)
        image_probs, normal_probs = extra["image_probs"].detach(), extra["normal_probs"].detach()
        for result, probs, normal in zip(results, image_probs, normal_probs, strict=True):
            result["image_scores"] = {f.name: float(p) for f, p in zip(self.findings, probs, strict=True)}
            # With one category out of several, its absence does not mean normal.
            if sum(len(f.categories) for f in self.findings) > 1:
                result["image_scores"]["normal"] = float(normal)
        return results

    def _regions(self, inputs: list[dict]) -> tuple[list[Tensor], list[Instances], list[tuple[int, int]]]:
        """Per image the codes (m_n, D), the regions and the image's size."""
        if not self.frozen:
            images = self.preprocess_image(inputs)
            if self.window is not None:
                proposals = self._proposals(images, {}, inputs)
                pairs = zip(images.tensor, proposals, strict=True)
                return [self._window_codes(image, own) for image, own in pairs], proposals, images.image_sizes
            features = self.backbone(images.tensor)
            proposals = self._proposals(images, features, inputs)
            return self.roi_heads.encode(features, proposals), proposals, images.image_sizes
        parts = [self._frozen_regions(record) for record in inputs]
        codes, proposals, sizes = (list(column) for column in zip(*parts, strict=True))
        return codes, proposals, sizes

    @torch.no_grad()
    def _frozen_regions(self, record: dict) -> tuple[Tensor, Instances, tuple[int, int]]:
        """The same for one image; frozen images of full resolution go one by one to save memory."""
        image = record["image"]
        size = (image.shape[1], image.shape[2])
        if self._needs_features:
            images = self.preprocess_image([record])
            features = self.backbone(images.tensor)
            proposals = self._proposals(images, features, [record])
            return self.roi_heads.encode(features, proposals)[0], proposals[0], size
        # An image's shape and device without its memory: pixels are prepared only when needed.
        blank = self.pixel_mean.new_zeros(()).expand(1, *image.shape)
        proposals = self._proposals(ImageList(blank, [size]), {}, [record])

        def make() -> Tensor:
            pixels = self.preprocess_image([record]).tensor
            if self.window is not None:
                return self._window_codes(pixels[0], proposals[0]).float()
            return self.roi_heads.encode(self.backbone(pixels), proposals)[0].float()

        if self.cache is None:
            return make(), proposals[0], size
        device = self.pixel_mean.device.type
        autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else ""
        key = content_key(
            [
                *(self._fingerprint(), self.roi_heads.in_feature, autocast, str(tuple(image.shape))),
                *([] if self.window is None else [f"windows of {self.window} by themselves"]),
            ],
            [_different_channels(image), self.pixel_mean, self.pixel_std, proposals[0].proposal_boxes.tensor],
        )
        return self.cache.get(key, make).to(self.device), proposals[0], size

    def _window_codes(self, image: Tensor, regions: Instances) -> Tensor:
        """Codes (m, D) of an image's regions, each encoded by itself."""
        assert self.window is not None
        heads = self.roi_heads
        boxes = regions.proposal_boxes.tensor
        return window_codes(self.backbone, heads.encoder, heads.in_feature, image, boxes, self.window)

    @torch.no_grad()
    def _proposals(self, images: ImageList, features: dict[str, Tensor], inputs: list[dict]) -> list[Instances]:
        if self.proposal_generator is None:
            missing = [x.get("image_id") for x in inputs if "proposals" not in x]
            if missing:
                raise ValueError(
                    f"image {missing[0]!r} comes without proposals, but MODEL.PROPOSAL_GENERATOR.NAME is "
                    "PrecomputedProposals; name their files in DATASETS.PROPOSALS, or a generator such as "
                    "SlidingWindowRegions"
                )
            return whole_image_if_empty([x["proposals"].to(self.device) for x in inputs])
        fields = getattr(self.proposal_generator, "input_fields", ())
        extra = {name: [x.get(name) for x in inputs] for name in fields}
        proposals, _ = self.proposal_generator(images, features, None, **extra)
        return whole_image_if_empty(proposals)


def _different_channels(image: Tensor) -> Tensor:
    """The first channel alone if all are equal, as in a mammogram: a third of the bytes to hash."""
    return image[:1] if all(torch.equal(image[0], channel) for channel in image[1:]) else image
