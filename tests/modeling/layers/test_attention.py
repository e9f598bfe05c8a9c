"""Gated attention by hand, and its control."""

import math

import pytest
import torch

from mammo_d2.modeling.layers.attention import EqualAttention, GatedAttention


def test_hand_computed():
    attention = GatedAttention(2, 1)
    with torch.no_grad():
        attention.content.weight.copy_(torch.tensor([[1.0, 0.0]]))
        attention.gate.weight.copy_(torch.tensor([[0.0, 1.0]]))
        attention.score.weight.fill_(2.0)
    weights, pooled = attention(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]))
    # scores 2 tanh(1) sigma(0) = tanh 1, and 2 tanh(0) sigma(3) = 0
    first = math.exp(math.tanh(1)) / (math.exp(math.tanh(1)) + 1)
    assert weights.tolist() == [pytest.approx([first, 1 - first])]
    assert pooled.tolist() == [pytest.approx([first, 3 * (1 - first)])]


def test_order_of_the_instances_does_not_matter():
    torch.manual_seed(0)
    attention, features = GatedAttention(5, 3), torch.randn(2, 4, 5)
    torch.testing.assert_close(attention(features)[1], attention(features[:, [2, 0, 3, 1]])[1])


def test_equal_weights():
    features = torch.tensor([[[1.0], [2.0], [6.0]]])
    weights, pooled = EqualAttention()(features)
    assert weights.tolist() == [pytest.approx([1 / 3] * 3)]
    assert pooled.tolist() == [[3.0]]
