"""Normalisation, convolution, losses and non-maximum suppression, by hand."""

import math

import pytest
import torch
from torch import nn

from mammo_d2.framework.embedded.backbone.layers import (
    CNNBlockBase,
    Conv2d,
    FrozenBatchNorm2d,
    batched_nms,
    cat,
    cross_entropy,
    get_norm,
)


def frozen_norm() -> FrozenBatchNorm2d:
    """Two channels: x -> 2 (x - 1) + 3, and x -> x / 2."""
    norm = FrozenBatchNorm2d(2, eps=0.0)
    norm.load_state_dict(
        {
            "weight": torch.tensor([2.0, 1.0]),
            "bias": torch.tensor([3.0, 0.0]),
            "running_mean": torch.tensor([1.0, 0.0]),
            "running_var": torch.tensor([1.0, 4.0]),
        }
    )
    return norm


class TestFrozenBatchNorm:
    def test_values_with_and_without_gradient(self) -> None:
        x = torch.tensor([5.0, 6.0]).view(1, 2, 1, 1)
        for given in (x, x.clone().requires_grad_()):
            assert frozen_norm()(given).flatten().tolist() == [11.0, 3.0]

    def test_gradient_is_the_scale(self) -> None:
        x = torch.zeros(1, 2, 1, 1, requires_grad=True)
        frozen_norm()(x).sum().backward()
        assert x.grad.flatten().tolist() == [2.0, 0.5]

    def test_writing_into_the_input_gives_the_same_values_and_gradients(self) -> None:
        results = []
        for method in ("forward", "forward_"):
            x = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
            y = getattr(frozen_norm(), method)(x * 1.5).relu()
            y.square().sum().backward()
            results.append((y, x.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])

    def test_a_new_layer_is_the_identity(self) -> None:
        x = torch.randn(1, 4, 2, 2, requires_grad=True)
        assert torch.equal(FrozenBatchNorm2d(4)(x), x)

    def test_weights_without_statistics_load_as_old_checkpoints_have_them(self) -> None:
        norm = frozen_norm()
        norm.load_state_dict({"weight": torch.tensor([4.0, 5]), "bias": torch.zeros(2)})
        assert norm.running_mean.tolist() == [0, 0]
        assert norm.running_var.tolist() == [1, 1]
        state = frozen_norm().state_dict()
        del state["running_mean"]
        with pytest.raises(RuntimeError, match="running_mean"):  # written by this version: something is wrong
            norm.load_state_dict(state)

    def test_converting_a_trained_normalisation(self) -> None:
        block = nn.Sequential(Conv2d(2, 2, 1, norm=nn.BatchNorm2d(2)), nn.BatchNorm2d(2, affine=False))
        block.train()
        block(torch.randn(8, 2, 4, 4))
        block.eval()
        x = torch.randn(1, 2, 3, 3)
        expected = block(x)
        converted = FrozenBatchNorm2d.convert_frozen_batchnorm(block)
        assert converted is block
        assert isinstance(block[0].norm, FrozenBatchNorm2d)
        assert isinstance(block[1], FrozenBatchNorm2d)
        assert torch.allclose(converted.train()(x), expected, atol=1e-6)
        assert [name for name, _ in block.named_parameters()] == ["0.weight", "0.bias"]


def test_frozen_block_has_no_trainable_parameter() -> None:
    block = CNNBlockBase(2, 2, 1)
    block.conv = Conv2d(2, 2, 1, norm=get_norm("BN", 2))
    assert block.freeze() is block
    assert all(not p.requires_grad for p in block.parameters())
    assert isinstance(block.conv.norm, FrozenBatchNorm2d)


def test_convolution_then_norm_then_activation() -> None:
    conv = Conv2d(1, 2, 1, bias=False, norm=frozen_norm(), activation=torch.relu)
    conv.weight.data = torch.tensor([1.0, -4.0]).view(2, 1, 1, 1)
    x = torch.tensor([[[[2.0]]]])
    assert conv(x).flatten().tolist() == [5.0, 0.0]
    assert sorted(conv.state_dict()) == ["norm.bias", "norm.running_mean", "norm.running_var", "norm.weight", "weight"]


def test_convolution_of_an_empty_batch_has_a_gradient() -> None:
    conv = Conv2d(3, 4, 3, padding=1, norm=FrozenBatchNorm2d(4))
    out = conv(torch.zeros(0, 3, 8, 8))
    out.sum().backward()
    assert out.shape == (0, 4, 8, 8)
    assert conv.weight.grad.abs().sum() == 0


def test_norm_by_name() -> None:
    assert get_norm("", 8) is None
    assert get_norm(None, 8) is None
    kinds = {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm, "FrozenBN": FrozenBatchNorm2d, "GN": nn.GroupNorm}
    assert all(type(get_norm(name, 64)) is kind for name, kind in kinds.items())
    assert get_norm("GN", 64).num_groups == 32
    assert isinstance(get_norm(nn.Identity, 8), nn.Identity)
    with pytest.raises(ValueError, match="'Batch'"):
        get_norm("Batch", 8)


def test_cross_entropy_of_nothing_is_zero_with_a_graph() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    some = cross_entropy(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([0]))
    assert some.item() == pytest.approx(math.log(4))


def test_nms_runs_within_each_group() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 50, 60, 60]])
    scores = torch.tensor([0.5, 0.9, 0.4, 0.1])
    assert batched_nms(boxes, scores, torch.tensor([0, 0, 1, 0]), 0.5).tolist() == [1, 2, 3]
    assert batched_nms(boxes.half(), scores, torch.tensor([0, 0, 0, 0]), 0.95).tolist() == [1, 0, 3]
    assert batched_nms(boxes[:0], scores[:0], torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []


def test_cat_of_one_tensor_is_that_tensor() -> None:
    x = torch.zeros(2)
    assert cat([x]) is x
    assert cat([x, x]).shape == (4,)
