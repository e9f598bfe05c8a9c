"""Faster inference: normalisation folded into the convolution before it, compiled networks."""

import logging

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, ResNet

from mammo_d2.modeling.backbone.resnet22 import ResNet22Block

logger = logging.getLogger(__name__)


def fold_norms(model: nn.Module) -> int:
    """Fold every normalisation that follows a convolution directly, in place; the outputs change by rounding only.

    Knows the blocks of ResNet-22 (the normalisation between its convolutions; those before a sum cannot be folded) and
    torchvision's ResNet-18 and -34.

    Args:
        model: in evaluation mode; it must not be trained afterwards.

    Returns:
        Number of normalisations folded.

    Raises:
        ValueError: the model is in training mode.
    """
    if model.training:
        raise ValueError("normalisation can be folded in evaluation mode only: call model.eval() first")
    pairs: list[tuple[nn.Module, str, str]] = []
    for module in model.modules():
        if isinstance(module, ResNet22Block):
            pairs.append((module, "conv1", "bn2"))
        elif isinstance(module, BasicBlock):
            pairs += [(module, "conv1", "bn1"), (module, "conv2", "bn2")]
            if module.downsample is not None:
                pairs.append((module.downsample, "0", "1"))
        elif isinstance(module, ResNet):
            pairs.append((module, "conv1", "bn1"))
    folded = 0
    for owner, convolution, norm in pairs:
        if isinstance(getattr(owner, norm), nn.BatchNorm2d):
            setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
            setattr(owner, norm, nn.Identity())
            folded += 1
    return folded


def compile_networks(model: nn.Module, backend: str = "inductor") -> list[str]:
    """Compile backbones and patch networks with torch.compile, in place; the first call of each takes minutes.

    The steps between them (retrieval, crops, boxes) are Python on small arrays and stay as they are. So does a backbone
    that skips background: its layers' sizes differ from image to image, and each size would be compiled again.

    Args:
        model: of one network or, as an ensemble, of several.
        backend: of torch.compile; the default needs a C++ compiler.

    Returns:
        Names of the networks compiled.
    """
    compiled = []
    for name, network in model.named_modules():
        if name.rpartition(".")[2] not in ("backbone", "patch_net"):
            continue
        if getattr(network, "skip_background", False):
            logger.warning("%s is not compiled: MODEL.RESNET22.SKIP_BACKGROUND leaves no fixed sizes", name)
            continue
        network.compile(backend=backend)
        compiled.append(name)
    return compiled
