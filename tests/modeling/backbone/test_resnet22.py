"""ResNet-22: its block, its published shape, checkpointing."""

import torch
import torch.nn.functional as F

from mammo_d2.modeling.backbone.resnet22 import ResNet22Block
from tests.modeling.gmic_models import gmic_input, gmic_model


def test_block_is_the_formula():
    torch.manual_seed(0)
    block = ResNet22Block(3, 5, 2, project=True).eval()
    block.bn1.running_mean.uniform_(-1, 1)
    x = torch.randn(2, 3, 7, 6)
    active = F.relu((x - block.bn1.running_mean[:, None, None]) / (1 + 1e-5) ** 0.5)
    middle = F.relu(F.conv2d(active, block.conv1.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5)
    expected = F.conv2d(middle, block.conv2.weight, padding=1) + F.conv2d(active, block.shortcut.weight, stride=2)
    before = x.clone()
    torch.testing.assert_close(block(x), expected)
    assert torch.equal(x, before)


def test_published_shape():
    backbone = gmic_model("MODEL.RESNET22.STEM_CHANNELS", 16, "MODEL.RESNET22.STRIDES", [1, 2, 2, 2, 2]).backbone
    shape = backbone.output_shape()["res22"]
    assert (shape.channels, shape.stride) == (256, 64)
    assert sum(p.numel() for p in backbone.parameters()) == 2_799_536
    # 2944×1920 gives 46×30; a tenth of the work shows the same arithmetic
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(1, 1, 320, 192))["res22"].shape == (1, 256, 5, 3)


def test_checkpointing_changes_neither_losses_nor_gradients_nor_statistics():
    plain, saving = gmic_model(), gmic_model("MODEL.RESNET22.CHECKPOINTING", True)
    batch = [gmic_input(0, 1, seed=1), gmic_input(1, 0, seed=2)]
    losses = [model(batch) for model in (plain, saving)]
    for name, value in losses[0].items():
        assert torch.equal(value, losses[1][name])
        assert value > 0
    for one in losses:
        sum(one.values()).backward()
    for (name, p), (_, q) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for (name, p), (_, q) in zip(plain.named_buffers(), saving.named_buffers(), strict=True):
        assert torch.equal(p, q), name
    assert saving.backbone.norm.num_batches_tracked == 1
    assert saving.backbone.stages[1][0].bn2.momentum == 0.1
