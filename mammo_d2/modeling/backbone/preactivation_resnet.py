"""ResNet of the second version: normalisation and ReLU come before each convolution, and the sum is left as it is.

torchvision has the first version only (with the stride in the 3×3 convolution, "v1.5"); the two are different networks
whose weights do not fit each other.

Source:
    He et al., "Identity mappings in deep residual networks", ECCV 2016.
"""

from collections.abc import Sequence

from torch import Tensor, nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4


class PreactivationBlock(nn.Module):
    """Bottleneck: 1×1, 3×3 (with the stride), 1×1 convolution, each after normalisation and ReLU."""

    def __init__(self, channels: int, width: int, stride: int):
        """
        Args:
            channels: of the input.
            width: of the bottleneck; the output has four times as many channels.
            stride: of the block.
        """
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, width, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm3, self.conv3 = nn.BatchNorm2d(width), nn.Conv2d(width, width * EXPANSION, 1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or channels != width * EXPANSION:
            self.shortcut = nn.Conv2d(channels, width * EXPANSION, 1, stride, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu(self.norm1(x))
        # A projected shortcut shares the first activation; an identity stays untouched.
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        inner = self.conv2(self.relu(self.norm2(self.conv1(activated))))
        return self.conv3(self.relu(self.norm3(inner))) + shortcut


class PreactivationResNet(nn.Module):
    """Feature maps of stride 32: (N, 3, H, W) to (N, out_channels, H/32, W/32), not negative.

    Attributes:
        out_channels: 2048 for the usual width.
    """

    def __init__(self, blocks: Sequence[int], width: int = 64):
        """
        Args:
            blocks: number of blocks of each of the four stages.
            width: channels of the stem and of the first stage's bottleneck.
        """
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1))
        channels, layers = width, []
        for stage, count in enumerate(blocks):
            for number in range(count):
                stride = 2 if stage and not number else 1
                layers.append(PreactivationBlock(channels, width << stage, stride))
                channels = (width << stage) * EXPANSION
        self.stages = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.out_channels = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.stages(self.stem(images)))
