"""ResNet-22: a narrow pre-activation ResNet for whole mammograms at full resolution, with one input channel.

Convolution 7×7 (stride 2), max pooling 3×3 (stride 2), then five stages of two pre-activation basic blocks whose width
doubles from stage to stage, then batch normalisation and ReLU.

Source:
    Wu et al., "Deep neural networks improve radiologists' performance in breast cancer screening", IEEE TMI 2020;
    Shen et al., MLMI 2019, section 2.1 (without pooling and fully connected layer).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mammo_d2.framework import BACKBONE_REGISTRY, Backbone, CfgNode, ShapeSpec
from mammo_d2.modeling.layers.receptive_field import MapShape, Reach
from mammo_d2.modeling.layers.skip_background import apply_shortened, equal_runs

#: Name of the one feature map.
FEATURE = "res22"
#: What the first convolution and pooling see.
STEM_REACH = Reach(2, 3, 3).then(Reach(2, 0, 2))


class ResNet22Block(nn.Module):
    """``shortcut(a) + conv2(relu(bn2(conv1(a))))``, ``a = relu(bn1(x))``; without a projection the shortcut is x."""

    def __init__(self, in_channels: int, channels: int, stride: int, project: bool):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.reach = Reach(stride, 1, 1).then(Reach(1, 1, 1))
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if project else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        kept = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True)) + kept


@BACKBONE_REGISTRY.register()
class ResNet22(Backbone):
    """The network as a backbone with one feature map, ``FEATURE``, after the last ReLU.

    Any input size; a stride of 64 with the published strides, where 2944×1920 pixels give 46×30 cells.
    """

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec):
        """
        Args:
            cfg: reads MODEL.RESNET22.
            input_shape: its number of channels is the input's.
        """
        super().__init__()
        keys = cfg.MODEL.RESNET22
        _check_strides(keys.STRIDES)
        self.checkpointing, self.skip_background = keys.CHECKPOINTING, keys.SKIP_BACKGROUND
        width = keys.STEM_CHANNELS
        assert input_shape.channels is not None
        self.conv1 = nn.Conv2d(input_shape.channels, width, 7, stride=2, padding=3, bias=False)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.stages = nn.ModuleList()
        in_channels, reach = width, STEM_REACH
        for number, stride in enumerate(keys.STRIDES):
            channels = width * 2**number
            first = ResNet22Block(in_channels, channels, stride, project=True)
            second = ResNet22Block(channels, channels, 1, project=False)
            self.stages.append(nn.Sequential(first, second))
            in_channels, reach = channels, reach.then(first.reach).then(second.reach)
        self.norm = nn.BatchNorm2d(in_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self._shape = MapShape(channels=in_channels, stride=reach.stride, first_centre=reach.first_centre)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Of the one map; its first cell is centred at 2.5 pixels with all strides."""
        return {FEATURE: self._shape}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, channels, H, W) to {FEATURE: (N, channels of the last stage, h, w)}."""
        x = self._without_background(x) if self.skip_background and not self.training else self._all_of_it(x)
        return {FEATURE: F.relu(self.norm(x), inplace=True)}

    def _all_of_it(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x))
        for stage in self.stages:
            x = self._run_stage(stage, x)
        return x

    def _without_background(self, x: Tensor) -> Tensor:
        """The same, computing equal rows and columns of the images once."""
        runs = (equal_runs(x, 2), equal_runs(x, 3))
        x, runs = apply_shortened(lambda part: self.pool(self.conv1(part)), x, STEM_REACH, runs)
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            for block in stage:
                assert isinstance(block, ResNet22Block)
                x, runs = apply_shortened(block, x, block.reach, runs)
        return x

    def _run_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpointing and self.training):
            return stage(x)
        result = checkpoint(stage, x, use_reentrant=False, context_fn=lambda: (nullcontext(), frozen_statistics(stage)))
        assert isinstance(result, Tensor)
        return result


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Batch normalisation inside uses batch statistics but does not record them: for a pass that repeats another."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    counts = [layer.num_batches_tracked.clone() for layer in layers if layer.num_batches_tracked is not None]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for layer, count in zip(layers, counts, strict=False):
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.copy_(count)


def _check_strides(strides: Sequence[int]) -> None:
    if not strides or any(stride not in (1, 2) for stride in strides):
        raise ValueError(
            f"MODEL.RESNET22.STRIDES is {list(strides)}; one stride of 1 or 2 per stage, e.g. [1, 2, 2, 2, 2]"
        )
