"""Names of the released GMIC checkpoints and of this package's model, exactly."""

import logging
import re
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

# (released name, name of the model); every rule names whole components.
_RULES = [
    (r"ds_net\.first_conv\.(.+)", r"backbone.conv1.\1"),
    (r"ds_net\.layer_list\.(\d)\.(\d)\.downsample\.0\.(.+)", r"backbone.stages.\1.\2.shortcut.\3"),
    (r"ds_net\.layer_list\.(\d)\.(\d)\.((?:bn|conv)\d\..+)", r"backbone.stages.\1.\2.\3"),
    (r"ds_net\.final_bn\.(.+)", r"backbone.norm.\1"),
    (r"left_postprocess_net\.gn_conv_last\.(.+)", r"saliency_head.\1"),
    (r"dn_resnet\.(.+)", r"patch_net.\1"),
    (r"mil_attn_V\.(.+)", r"attention.content.\1"),
    (r"mil_attn_U\.(.+)", r"attention.gate.\1"),
    (r"mil_attn_w\.(.+)", r"attention.score.\1"),
    (r"classifier_linear\.(.+)", r"local_classifier.\1"),
    (r"fusion_dnn\.(.+)", r"fusion.\1"),
]

#: Tensors of the released files that their own model does not use.
STRAY = ("shared_rep_filter.weight",)

_LOCAL = ("patch_net.", "patch_projection.", "attention.", "local_classifier.", "fusion.")
_FUSION = ("fusion.",)
_ATTENTION = ("attention.",)


def released_name(name: str) -> str | None:
    """This package's name of a released tensor; None if the released model has no such tensor."""
    for pattern, ours in _RULES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    return None


def is_released(weights: Mapping[str, Any]) -> bool:
    """Whether a file has the released names."""
    return "ds_net.first_conv.weight" in weights


def rename_released(
    weights: Mapping[str, Any], has_local: bool = True, has_fusion: bool = True, has_attention: bool = True
) -> dict[str, Any]:
    """Weights under this package's names, without stray tensors and without the parts that the model lacks.

    Names of neither kind stay as they are, so that the checkpointer reports them. What is left out is logged.

    Args:
        weights: of a released file, or of this package's.
        has_local: the model has the local module.
        has_fusion: the model has the concatenating fusion.
        has_attention: its attention has weights, unlike equal attention's.

    Raises:
        ValueError: two tensors would get the same name.
    """
    released = is_released(weights)
    renamed: dict[str, Any] = {}
    left_out = []
    unused = (() if has_local else _LOCAL) + (() if has_fusion else _FUSION) + (() if has_attention else _ATTENTION)
    for name, value in weights.items():
        ours = (released_name(name) or name) if released else name
        if (released and name in STRAY) or ours.startswith(unused):
            left_out.append(name)
        elif ours in renamed:
            raise ValueError(f"two tensors of the file would both be {ours}, one of them {name}; the file is damaged")
        else:
            renamed[ours] = value
    if left_out:
        shown = ", ".join(left_out[:5]) + (" ..." if len(left_out) > 5 else "")
        logger.info("left out %d tensors that this model does not use: %s", len(left_out), shown)
    return renamed
