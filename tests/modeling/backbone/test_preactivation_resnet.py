"""ResNet of the second version: its blocks, strides and channels."""

import torch
from torch import nn

from mammo_d2.modeling.backbone.preactivation_resnet import PreactivationBlock, PreactivationResNet


def test_preactivation_block_leaves_the_sum_alone():
    """With the last convolution at 0 the block is the identity, negative values included."""
    block = PreactivationBlock(16, 4, 1).eval()
    assert block.shortcut is None
    nn.init.zeros_(block.conv3.weight)
    x = torch.randn(1, 16, 5, 5)
    torch.testing.assert_close(block(x), x)


def test_preactivation_resnet_strides_and_channels():
    network = PreactivationResNet((1, 1, 1, 1), width=4).eval()
    assert network.out_channels == 128
    assert network(torch.rand(1, 3, 64, 96)).shape == (1, 128, 2, 3)
