"""The models that the GMIC paper compares, and what each of them predicts.

Shape shorthand: N images, C classes, maps of h×w cells, K patches.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class GMICVariant:
    """One row of the paper's table 1.

    Attributes:
        patches: "retrieved" by saliency, "random", or "" for a model without local module.
        gated: gated attention, else equal weights.
        prediction: whose prediction is the model's: "both", "global" or "local".
    """

    patches: str = "retrieved"
    gated: bool = True
    prediction: str = "both"


GMIC_VARIANTS = {
    "full": GMICVariant(),
    "loc": GMICVariant(patches="", prediction="global"),
    "mil": GMICVariant(prediction="local"),
    "no_attention": GMICVariant(gated=False, prediction="local"),
    "random": GMICVariant(patches="random", prediction="local"),
    "loc_random": GMICVariant(patches="random"),
}


@dataclass
class GMICPrediction:
    """Output of the network for a batch.

    Attributes:
        saliency: (N, C, h, w) in [0, 1].
        global_scores: (N, C) ŷ_loc.
        positions: (N, K, 2) int64, top left pixels (row, column) of the patches on the network input.
        attention: (N, K).
        local_logits: (N, C), whose sigmoid is ŷ_mil.
        fusion_logits: (N, C), whose sigmoid is the fused prediction.
        The last four are None where the variant has no such part.
    """

    saliency: Tensor
    global_scores: Tensor
    positions: Tensor | None = None
    attention: Tensor | None = None
    local_logits: Tensor | None = None
    fusion_logits: Tensor | None = None
