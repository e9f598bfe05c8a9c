"""timm's ResNet-v2 weights: the converted network computes what timm's formula does, written out here."""

import pytest
import torch
import torch.nn.functional as F

from mammo_d2.framework.weights.safetensors_files import write_safetensors
from mammo_d2.inference.convert_resnetv2 import convert_resnetv2
from mammo_d2.modeling.backbone.preactivation_resnet import BLOCKS, PreactivationResNet
from mammo_d2.modeling.pretrained import load_pretrained, read_pretrained

WIDTH = 2


def timm_weights(blocks=BLOCKS[50], width=WIDTH):
    """Random weights under timm's names."""
    rng = torch.Generator().manual_seed(3)
    weights = {"stem.conv.weight": torch.randn(width, 3, 7, 7, generator=rng) / 12}

    def norm(name, channels):
        for key in ("weight", "running_var"):
            weights[f"{name}.{key}"] = torch.rand(channels, generator=rng) + 0.5
        for key in ("bias", "running_mean"):
            weights[f"{name}.{key}"] = torch.randn(channels, generator=rng) / 4
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def conv(name, out, inputs, side):
        weights[f"{name}.weight"] = torch.randn(out, inputs, side, side, generator=rng) / (inputs * side * side) ** 0.5

    channels = width
    for stage, count in enumerate(blocks):
        inner = width << stage
        for number in range(count):
            block = f"stages.{stage}.blocks.{number}"
            if not number:
                conv(f"{block}.downsample.conv", inner * 4, channels, 1)
            for row, (out, inputs, side) in enumerate(
                ((inner, channels, 1), (inner, inner, 3), (inner * 4, inner, 1)), 1
            ):
                norm(f"{block}.norm{row}", inputs)
                conv(f"{block}.conv{row}", out, inputs, side)
            channels = inner * 4
    norm("norm", channels)
    weights["head.fc.weight"], weights["head.fc.bias"] = torch.zeros(10, channels, 1, 1), torch.zeros(10)
    return weights


def timm_forward(weights, x, blocks=BLOCKS[50]):
    def norm(name, x):
        mean, var, scale, shift = (weights[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, scale, shift).relu()

    def conv(name, x, stride=1):
        kernel = weights[f"{name}.weight"]
        return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    x = F.max_pool2d(conv("stem.conv", x, 2), 3, 2, 1)
    for stage, count in enumerate(blocks):
        for number in range(count):
            block, stride = f"stages.{stage}.blocks.{number}", 2 if stage and not number else 1
            activated = norm(f"{block}.norm1", x)
            shortcut = x if number else conv(f"{block}.downsample.conv", activated, stride)
            inner = conv(f"{block}.conv2", norm(f"{block}.norm2", conv(f"{block}.conv1", activated)), stride)
            x = shortcut + conv(f"{block}.conv3", norm(f"{block}.norm3", inner))
    return norm("norm", x)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_the_converted_network_gives_timms_features(tmp_path, suffix):
    weights, source, target = timm_weights(), tmp_path / f"model{suffix}", tmp_path / "converted.pth"
    if suffix == ".bin":
        torch.save(weights, source)
    else:
        write_safetensors(source, weights)
    count = convert_resnetv2(source, target, WIDTH)
    network = PreactivationResNet(BLOCKS[50], WIDTH).eval()
    assert count == len(network.state_dict())
    load_pretrained(network, read_pretrained(str(target), "key"), str(target), "key", "resnetv2_50")
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = timm_forward(weights, images)
        assert expected.shape == (2, 64, 2, 3)
        torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


def test_other_networks_are_refused(tmp_path):
    source = tmp_path / "model.bin"

    def refused(weights, message):
        torch.save(weights, source)
        with pytest.raises(ValueError, match=message):
            convert_resnetv2(source, tmp_path / "out.pth", WIDTH)
        assert not (tmp_path / "out.pth").exists()

    weights = timm_weights()
    refused({k: v for k, v in weights.items() if k != "norm.bias"}, r"ResNet-v2-50 of timm: last.0.bias is nothing")
    refused({**weights, "stem.conv1.weight": torch.zeros(2)}, "it also has stem.conv1.weight")
    refused(timm_weights(width=3), r"stem.0.weight is \(3, 3, 7, 7\) and not \(2, 3, 7, 7\)")
    refused(timm_weights(blocks=(2, 2, 2, 2)), r"\[2, 2, 2, 2\] blocks a stage; expected timm's resnetv2_50")
