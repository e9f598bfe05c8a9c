"""Parameter names of other programs -> this package's, and matching by the endings of names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Endings of Caffe2 names. "s" is the scale, "riv" the running variance; later models have gamma, beta etc.
_CAFFE2_PARAMETERS = {
    "_bn_s": ".norm.weight",
    "_bn_b": ".norm.bias",
    "_bn_rm": ".norm.running_mean",
    "_bn_riv": ".norm.running_var",
    "_bn_gamma": ".norm.weight",
    "_bn_beta": ".norm.bias",
    "_bn_running_mean": ".norm.running_mean",
    "_bn_running_var": ".norm.running_var",
    "_gn_s": ".norm.weight",
    "_gn_b": ".norm.bias",
    "_w": ".weight",
    "_b": ".bias",
}

# Layers of Caffe2's Faster R-CNN. Its RPN on a pyramid names the shared layers after the finest level, fpn2.
_CAFFE2_LAYERS = [
    (r"(?:res_)?conv1", r"stem.conv1"),
    (r"res(\d)_(\d+)_branch1", r"res\1.\2.shortcut"),
    (r"res(\d)_(\d+)_branch2a", r"res\1.\2.conv1"),
    (r"res(\d)_(\d+)_branch2b", r"res\1.\2.conv2"),
    (r"res(\d)_(\d+)_branch2c", r"res\1.\2.conv3"),
    (r"fpn_inner_res(\d)_\d+_sum(?:_lateral)?", r"fpn_lateral\1"),
    (r"fpn_res(\d)_\d+_sum", r"fpn_output\1"),
    (r"conv_rpn(?:_fpn2)?", r"proposal_generator.rpn_head.conv"),
    (r"rpn_cls_logits(?:_fpn2)?", r"proposal_generator.rpn_head.objectness_logits"),
    (r"rpn_bbox_pred(?:_fpn2)?", r"proposal_generator.rpn_head.anchor_deltas"),
    (r"fc6", r"box_head.fc1"),
    (r"fc7", r"box_head.fc2"),
    (r"head_conv(\d)", r"box_head.conv\1"),
    (r"(cls_score|bbox_pred)", r"\1"),
    (r"pred", r"linear"),
]

_TORCHVISION_PARTS = [
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"^conv1\.", lambda m: "stem.conv1."),
    (r"^bn1\.", lambda m: "stem.conv1.norm."),
    (r"\.downsample\.0\.", lambda m: ".shortcut."),
    (r"\.downsample\.1\.", lambda m: ".shortcut.norm."),
    (r"\.bn(\d)\.", lambda m: f".conv{m[1]}.norm."),
]

# What torchvision's ImageNet ResNets were trained with, as config keys and values. Pixel values are 0..255, RGB.
TORCHVISION_SETTINGS: dict[str, Any] = {
    "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
    "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
    "INPUT.FORMAT": "RGB",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}


class AmbiguousWeightError(ValueError):
    """One tensor of a file fits several parameters of the model."""


def is_torchvision_resnet(weights: Mapping[str, Any]) -> bool:
    """Whether these are the weights of a torchvision ResNet (or one with its names)."""
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(weights)


def rename_torchvision_resnet(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Torchvision's ResNet names -> ours, e.g. layer1.0.bn1.weight -> res2.0.conv1.norm.weight; no batch counters."""
    renamed = {}
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        for pattern, part in _TORCHVISION_PARTS:
            name = re.sub(pattern, part, name)
        renamed[name] = value
    return renamed


def torchvision_mismatches(model: nn.Module) -> list[str]:
    """Settings of a model that do not suit torchvision's weights.

    Args:
        model: a model with a ResNet; pixel statistics are looked at where it has ``pixel_mean`` and ``pixel_std``.

    Returns:
        One sentence for each, with the config key and the value it should have.
    """
    found = []
    for attribute, key in (("pixel_mean", "MODEL.PIXEL_MEAN"), ("pixel_std", "MODEL.PIXEL_STD")):
        value = getattr(model, attribute, None)
        if isinstance(value, Tensor) and value.numel() == 3:
            wanted = torch.tensor(TORCHVISION_SETTINGS[key], dtype=torch.float32)
            if not torch.allclose(value.detach().float().cpu().flatten(), wanted, atol=1e-2):
                found.append(f"{key} is {value.flatten().tolist()}, should be {TORCHVISION_SETTINGS[key]}")
    modules = dict(model.named_modules())
    for name, module in modules.items():
        is_bottleneck = name.endswith("res3.0.conv1") and name.replace("conv1", "conv3") in modules
        if is_bottleneck and getattr(module, "stride", 1) in (2, (2, 2)):
            found.append("MODEL.RESNETS.STRIDE_IN_1X1 is True, should be False")
    return found


def rename_caffe2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2 names -> the endings of ours, with the background class moved from first to last.

    Its box regressor has four rows for the background, which are dropped. Names of no known layer only get dots for
    underscores.

    Raises:
        AmbiguousWeightError: two names become one.
    """
    renamed: dict[str, Tensor] = {}
    for old, value in weights.items():
        name = _caffe2_name(old)
        if name.startswith("bbox_pred."):
            value = value[4:]
        elif name.startswith("cls_score."):
            value = torch.cat([value[1:], value[:1]])
        if name in renamed:
            raise AmbiguousWeightError(f"two tensors of the file are both {name}, one of them {old}")
        renamed[name] = value
    return renamed


def _caffe2_name(old: str) -> str:
    layer, parameter = old, ""
    for ending in sorted(_CAFFE2_PARAMETERS, key=len, reverse=True):
        if old.endswith(ending):
            layer, parameter = old[: -len(ending)], _CAFFE2_PARAMETERS[ending]
            break
    for pattern, replacement in _CAFFE2_LAYERS:
        match = re.fullmatch(pattern, layer)
        if match:
            return match.expand(replacement) + parameter
    return layer.replace("_", ".") + parameter


def match_by_ending(model_shapes: Mapping[str, torch.Size], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor the name of the model's parameter that ends in its name.

    "res2.0.conv1.weight" fits "backbone.bottom_up.res2.0.conv1.weight" (whole parts between dots only). Where several
    tensors fit one parameter, the longest name wins. A tensor whose shape differs keeps its place, for the report.

    Args:
        model_shapes: the model's names and shapes.
        weights: the file's names and tensors.

    Returns:
        The tensors under the model's names, and those that fit nothing under their own.

    Raises:
        AmbiguousWeightError: one tensor fits several parameters, by name and by shape.
    """
    renamed: dict[str, Tensor] = {}
    used: dict[str, str] = {}
    misfits: dict[str, str] = {}
    for model_name in sorted(model_shapes):
        name = _longest_ending(model_name, weights)
        if name is None:
            continue
        if weights[name].shape != model_shapes[model_name]:
            misfits.setdefault(name, model_name)
            continue
        if name in used:
            raise AmbiguousWeightError(
                f"tensor {name} of the file fits both {used[name]} and {model_name} of the model; "
                f"rename it in the file to the full name of the one that is meant"
            )
        used[name] = model_name
        renamed[model_name] = weights[name]
    for name, tensor in weights.items():
        if name not in used:
            renamed[misfits.get(name, name)] = tensor
    return renamed


def _longest_ending(model_name: str, weights: Mapping[str, Any]) -> str | None:
    parts = model_name.split(".")
    for start in range(len(parts)):
        ending = ".".join(parts[start:])
        if ending in weights:
            return ending
    return None
