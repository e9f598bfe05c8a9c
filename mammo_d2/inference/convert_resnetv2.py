"""Convert ImageNet weights of a ResNet of the second version to those of the lesion classifier's patch network.

The source is timm, whose ``resnetv2_50.a1h_in1k`` and ``resnetv2_101.a1h_in1k`` are the networks of
``preactivation_resnet.py``: batch normalisation, the stride in the 3×3 convolution of a stage's first block. It has no
such weights of depth 152. Those of Keras and TF-slim are of networks with the stride in a stage's last block.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mammo_d2.core.files import atomic_write
from mammo_d2.framework.weights.safetensors_files import SUFFIX, read_safetensors
from mammo_d2.modeling.backbone.preactivation_resnet import BLOCKS, PreactivationResNet
from mammo_d2.modeling.pretrained import read_pretrained

_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(.+)")


def convert_resnetv2(source: str | Path, target: str | Path, width: int = 64) -> int:
    """Write timm's weights under this package's parameter names.

    Every name and shape is checked; the depth follows from the number of blocks.

    Args:
        source: timm's model.safetensors or pytorch_model.bin.
        target: output file, ``{"model": weights}``, for MODEL.LESION.NETWORK_WEIGHTS with the NETWORK of that depth.
        width: channels of the stem; 64 in all published files.

    Returns:
        Number of tensors written.

    Raises:
        FileNotFoundError: no such file.
        UnsafePickleError: it holds Python objects that could run code.
        ValueError: the weights of another network.
    """
    is_safetensors = Path(source).suffix == SUFFIX
    weights = read_safetensors(source) if is_safetensors else read_pretrained(str(source), "source")
    depth = _depth(weights, source)
    renamed = rename_timm(weights, BLOCKS[depth])
    # Without memory: only names and shapes are compared.
    with torch.device("meta"):
        expected = PreactivationResNet(BLOCKS[depth], width).state_dict()
    for name, value in expected.items():
        if name not in renamed or renamed[name].shape != value.shape:
            found = tuple(renamed[name].shape) if name in renamed else "nothing"
            raise ValueError(f"{source}: no ResNet-v2-{depth} of timm: {name} is {found} and not {tuple(value.shape)}")
    if unknown := sorted(set(renamed) - set(expected)):
        raise ValueError(f"{source}: no ResNet-v2-{depth} of timm: it also has {', '.join(unknown[:3])}")
    with atomic_write(target) as file:
        torch.save({"model": {name: renamed[name].clone() for name in expected}}, file)
    return len(expected)


def rename_timm(weights: Mapping[str, Tensor], blocks: tuple[int, ...]) -> dict[str, Tensor]:
    """timm's names to those of ``PreactivationResNet``; the classifier is left out.

    Args:
        weights: by timm's names.
        blocks: number of blocks of each stage, which are one sequence here.
    """
    renamed = {}
    for name, value in weights.items():
        if name.startswith("head."):
            continue
        if match := _BLOCK.fullmatch(name):
            stage, number, rest = int(match[1]), int(match[2]), match[3]
            rest = rest.replace("downsample.conv.", "shortcut.")
            name = f"stages.{sum(blocks[:stage]) + number}.{rest}"
        elif name.startswith("stem.conv."):
            name = "stem.0." + name.removeprefix("stem.conv.")
        elif name.startswith("norm."):
            name = "last.0." + name.removeprefix("norm.")
        renamed[name] = value
    return renamed


def _depth(weights: Mapping[str, Tensor], source: str | Path) -> int:
    stages: dict[int, set[int]] = {}
    for name in weights:
        if match := _BLOCK.fullmatch(name):
            stages.setdefault(int(match[1]), set()).add(int(match[2]))
    counts = tuple(len(stages[stage]) for stage in sorted(stages))
    for depth, blocks in BLOCKS.items():
        if blocks == counts:
            return depth
    raise ValueError(
        f"{source}: {list(counts)} blocks a stage; expected timm's resnetv2_50.a1h_in1k {list(BLOCKS[50])} or "
        f"resnetv2_101.a1h_in1k {list(BLOCKS[101])}"
    )
