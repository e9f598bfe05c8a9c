"""GMIC and DeepMIL as functions of tensors that an exporter can follow: image scores, saliency, patches.

Shape shorthand: C classes; h, w cells of a map that covers the image; K patches.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.inference.export.network_input import network_input
from mammo_d2.modeling.functional.saliency import map_size
from mammo_d2.modeling.layers.receptive_field import cover_image
from mammo_d2.modeling.meta_arch.deep_mil import DeepMIL
from mammo_d2.modeling.meta_arch.gmic import GMIC
from mammo_d2.modeling.meta_arch.gmic_ensemble import GMICEnsemble
from mammo_d2.modeling.meta_arch.mil_heads import cell_mask


class ImageGraph(nn.Module):
    """Classifies an image of one fixed size.

    ``forward`` takes the network input ``(1, 1, H, W)``, float32, and returns what ``output_names`` lists, of:
    image scores (C,), saliency (C, h, w) in [0, 1], patches (K, 4) XYXY in pixels of the input, attention (K,).
    The boxes that the models draw around salient regions are not among them: they need connected components.
    """

    kind = "image classifier"
    takes_any_size = False

    def __init__(self, model: Any, output_names: tuple[str, ...]):
        super().__init__()
        self.model: Any = _without_shortcuts(model)
        self._original = (model,)  # held in a tuple: no part of the graph
        self.output_names = output_names

    def expected(self, image: Tensor) -> dict[str, Tensor]:
        """What the model itself gives for an image (1, 1, H, W), under ``output_names``."""
        model = self._original[0]
        output = model([{"image": image[0].expand(len(model.pixel_mean), -1, -1)}])[0]
        return {**output, "image_scores": torch.tensor(list(output["image_scores"].values()))}


def _without_shortcuts(model: nn.Module) -> nn.Module:
    """The model, or a copy of it, whose layers do the same for every image: MODEL.RESNET22.SKIP_BACKGROUND is off."""
    if any(getattr(module, "skip_background", False) for module in model.modules()):
        model = copy.deepcopy(model)
        for module in model.modules():
            if getattr(module, "skip_background", False):
                module.skip_background = False  # type: ignore[assignment]
    return model


class GMICGraph(ImageGraph):
    """A GMIC, or an ensemble of them."""

    def __init__(self, model: GMIC | GMICEnsemble):
        """
        Raises:
            ValueError: a variant that draws its patches at random.
        """
        first = model.members[0] if isinstance(model, GMICEnsemble) else model
        assert isinstance(first, GMIC)
        if first.variant.patches == "random":
            raise ValueError("MODEL.GMIC.VARIANT draws patches at random, which a file cannot: export another variant")
        patches = ("patches", "attention") if first.variant.patches else ()
        super().__init__(model, ("image_scores", "saliency", *patches))
        self._first = (self.model.members[0] if isinstance(model, GMICEnsemble) else self.model,)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        first, size = self._first[0], map_size(image)
        pixels = network_input(self.model, image, self.model.size_divisibility)
        prediction, scores = self.model.predict_scores(pixels, None, [size])
        outputs = [scores[0], cover_image(prediction.saliency[0], first._shape, size)]
        if prediction.positions is not None and prediction.attention is not None:
            outputs += [first.patch_boxes(prediction.positions[0]), prediction.attention[0]]
        return tuple(outputs)


class DeepMILGraph(ImageGraph):
    """A DeepMIL; without a response map (head "classifier") it gives image scores only."""

    def __init__(self, model: DeepMIL, has_map: bool):
        super().__init__(model, ("image_scores", "saliency") if has_map else ("image_scores",))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        model, size = self.model, map_size(image)
        features = model.backbone(network_input(model, image, model.backbone.size_divisibility))[model.in_feature]
        outputs = model.head(features)
        mask = cell_mask([size], model._shape, map_size(features)).to(image.device)
        scores = model.head.image_logits(outputs, mask).sigmoid()[0]
        maps = model.head.response_map(outputs)
        return (scores,) if maps is None else (scores, cover_image(maps[0], model._shape, size))
