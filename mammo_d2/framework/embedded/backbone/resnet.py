"""Residual networks (He et al. 2016) as backbones, with the parameter names of detectron2's."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.backbone import BACKBONE_REGISTRY, Backbone
from mammo_d2.framework.embedded.backbone.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from mammo_d2.framework.embedded.config import CfgNode

# Blocks in res2 ... res5, by depth.
BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def _conv(in_channels: int, out_channels: int, kernel_size: int, norm: Any, **kwargs: Any) -> Conv2d:
    """A convolution without bias, normalised; "same" padding unless given."""
    kwargs.setdefault("padding", kernel_size // 2)
    norm_layer = get_norm(norm, out_channels)
    return Conv2d(in_channels, out_channels, kernel_size, bias=False, norm=norm_layer, **kwargs)


class _ResidualBlock(CNNBlockBase):
    """Some convolutions and a shortcut around them; the shortcut is a projection where the channels change.

    ``convs`` become the children conv1, conv2, ...
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Any) -> None:
        super().__init__(in_channels, out_channels, stride)
        # Made before the convolutions, as detectron2 does: one seed then gives the same weights in both.
        projects = in_channels != out_channels
        self.shortcut = _conv(in_channels, out_channels, 1, norm, stride=stride) if projects else None

    def _main_path(self) -> list[Conv2d]:
        return [layer for name, layer in self.named_children() if name.startswith("conv")]  # type: ignore[misc]

    def _initialise(self) -> None:
        for layer in (*self._main_path(), self.shortcut):
            if layer is not None:
                c2_msra_fill(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        *first, last = self._main_path()
        out = x
        for conv in first:
            out = F.relu_(conv(out))
        out = last(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BasicBlock(_ResidualBlock):
    """The block of ResNet-18 and -34: two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Any = "BN") -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = _conv(out_channels, out_channels, 3, norm)
        self._initialise()


class BottleneckBlock(_ResidualBlock):
    """The block of ResNet-50, -101, -152 and of ResNeXt: 1x1, 3x3 and 1x1 convolutions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Any = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        """Make the layers.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            bottleneck_channels: channels between the convolutions.
            stride: stride of the block.
            num_groups: groups of the 3x3 convolution.
            norm: see ``get_norm``.
            stride_in_1x1: the first 1x1 convolution takes the stride, not the 3x3 one.
            dilation: of the 3x3 convolution.
        """
        super().__init__(in_channels, out_channels, stride, norm)
        first_stride, second_stride = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv(in_channels, bottleneck_channels, 1, norm, stride=first_stride)
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm,
            stride=second_stride,
            padding=dilation,
            dilation=dilation,
            groups=num_groups,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, 1, norm)
        self._initialise()


class BasicStem(CNNBlockBase):
    """The first layers of a ResNet: a 7x7 convolution and max pooling, stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Any = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv(in_channels, out_channels, 7, norm, stride=2)
        c2_msra_fill(self.conv1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """A stem and stages res2, res3, ...; the stages behind the last requested feature are not kept."""

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        """Put the parts together.

        Args:
            stem: the first block.
            stages: the blocks of each stage, res2 first.
            out_features: features to return, of "stem", "res2", ...; default: the last.
            freeze_at: see ``freeze``.

        Raises:
            ValueError: a requested feature does not exist.
        """
        super().__init__()
        self.stem = stem
        names = ["stem", *(f"res{i}" for i in range(2, 2 + len(stages)))]
        wanted = list(out_features) if out_features is not None else [names[-1]]
        if not wanted or not set(wanted) <= set(names):
            raise ValueError(f"out_features {wanted} must be one or more of {names}")
        deepest = max(names.index(name) for name in wanted)
        names, stages = names[: deepest + 1], stages[:deepest]

        self._out_feature_strides = {"stem": stem.stride}
        self._out_feature_channels = {"stem": stem.out_channels}
        for (previous, name), blocks in zip(pairwise(names), stages, strict=True):
            self.add_module(name, nn.Sequential(*blocks))
            stride = self._out_feature_strides[previous]
            for block in blocks:
                stride *= block.stride
            self._out_feature_strides[name] = stride
            self._out_feature_channels[name] = blocks[-1].out_channels
        self.stage_names = tuple(names[1:])
        self._out_features = wanted
        self.freeze(freeze_at)

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages, res2 first."""
        return [getattr(self, name) for name in self.stage_names]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images ``(N, C, H, W)`` to the requested features, finest first."""
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            x = outputs[name] = stage(x)
        return {name: value for name, value in outputs.items() if name in self._out_features}

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Freeze the first parts: 1 is the stem, 2 the stem and res2, and so on."""
        frozen = [self.stem, *(block for stage in self.stages[: max(freeze_at - 1, 0)] for block in stage)]
        for block in frozen if freeze_at >= 1 else []:
            block.freeze()  # type: ignore[operator]
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase], num_blocks: int, *, in_channels: int, out_channels: int, **kwargs: Any
    ) -> list[CNNBlockBase]:
        """Make the blocks of one stage.

        Args:
            block_class: type of every block.
            num_blocks: how many.
            in_channels: channels of the stage's input.
            out_channels: channels of every block's output.
            **kwargs: arguments of the blocks. One named ``x_per_block`` is a list that gives each block its own ``x``.

        Raises:
            ValueError: such a list has not one entry per block.
        """
        suffix = "_per_block"
        for name, values in kwargs.items():
            if name.endswith(suffix) and len(values) != num_blocks:
                raise ValueError(f"{name} has {len(values)} entries for {num_blocks} blocks")
        blocks = []
        for i in range(num_blocks):
            block_kwargs = {
                name.removesuffix(suffix): value[i] if name.endswith(suffix) else value
                for name, value in kwargs.items()
            }
            blocks.append(block_class(in_channels=in_channels, out_channels=out_channels, **block_kwargs))
            in_channels = out_channels
        return blocks


def _check(cfg: CfgNode) -> None:
    """Raise ValueError where MODEL.RESNETS asks for what does not exist."""
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in BLOCKS_PER_STAGE:
        raise ValueError(f"MODEL.RESNETS.DEPTH is {resnets.DEPTH}; it must be one of {sorted(BLOCKS_PER_STAGE)}")
    if any(resnets.DEFORM_ON_PER_STAGE):
        raise ValueError("MODEL.RESNETS.DEFORM_ON_PER_STAGE: deformable convolutions need the detectron2 engine")
    if resnets.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION is {resnets.RES5_DILATION}; it must be 1 or 2")
    if resnets.DEPTH < 50:
        for key, needed in (("RES2_OUT_CHANNELS", 64), ("RES5_DILATION", 1), ("NUM_GROUPS", 1)):
            if resnets[key] != needed:
                raise ValueError(f"MODEL.RESNETS.{key} is {resnets[key]}; ResNet-{resnets.DEPTH} needs {needed}")


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build a ResNet from MODEL.RESNETS and MODEL.BACKBONE.FREEZE_AT.

    Raises:
        ValueError: the keys ask for a network that does not exist.
    """
    _check(cfg)
    resnets = cfg.MODEL.RESNETS
    assert input_shape.channels is not None  # a backbone is always told the channels of its input
    stem = BasicStem(input_shape.channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    stages = []
    in_channels, out_channels = resnets.STEM_OUT_CHANNELS, resnets.RES2_OUT_CHANNELS
    bottleneck_channels = resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP
    for number, num_blocks in enumerate(BLOCKS_PER_STAGE[resnets.DEPTH], start=2):
        dilation = resnets.RES5_DILATION if number == 5 else 1
        # A dilated stage keeps the resolution of the one before.
        stride = 1 if number == 2 or dilation > 1 else 2
        kwargs: dict[str, Any] = {"stride_per_block": [stride] + [1] * (num_blocks - 1), "norm": resnets.NORM}
        if resnets.DEPTH >= 50:
            kwargs |= {
                "bottleneck_channels": bottleneck_channels,
                "stride_in_1x1": resnets.STRIDE_IN_1X1,
                "dilation": dilation,
                "num_groups": resnets.NUM_GROUPS,
            }
        block_class = BottleneckBlock if resnets.DEPTH >= 50 else BasicBlock
        stages.append(
            ResNet.make_stage(block_class, num_blocks, in_channels=in_channels, out_channels=out_channels, **kwargs)
        )
        in_channels, out_channels, bottleneck_channels = out_channels, out_channels * 2, bottleneck_channels * 2
    return ResNet(stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
