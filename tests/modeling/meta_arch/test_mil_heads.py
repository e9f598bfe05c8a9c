"""Heads of DeepMIL: gradients, and which cells show padding."""

import math

import pytest
import torch

from mammo_d2.modeling.layers.receptive_field import MapShape
from mammo_d2.modeling.meta_arch.mil_heads import build_mil_head, cell_mask


@pytest.mark.parametrize("head", ["max", "label_assignment", "sparse", "classifier"])
def test_gradients_of_the_heads(make_cfg, head):
    """Features and weights in double precision; the second image ends before the last column."""
    cfg = make_cfg()
    cfg.MODEL.DEEP_MIL.HEAD, cfg.MODEL.DEEP_MIL.CLASSIFIER_FC = head, []
    torch.manual_seed(0)
    module = build_mil_head(cfg, 3, 2).double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight)
    features = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 2, 3, dtype=torch.bool)
    mask[1, :, 2] = False
    targets = torch.tensor([[1.0, 0.0], [0.0, math.nan]])
    inputs = (features, *module.parameters())
    assert torch.autograd.gradcheck(lambda x, *weights: module.loss(module(x), mask, targets), inputs)


def test_cells_of_padding_are_masked():
    # 2×3 cells of 32 pixels centred at 16, 48, 80
    mask = cell_mask([(49, 64), (48, 96)], MapShape(stride=32, first_centre=16.0), (2, 3))
    assert mask.tolist() == [[[True, True, False]] * 2, [[True] * 3, [False] * 3]]
    # centred on every 32nd pixel
    mask = cell_mask([(32, 65), (33, 64)], MapShape(stride=32), (2, 3))
    assert mask.tolist() == [[[True] * 3, [False] * 3], [[True, True, False]] * 2]
    # AlexNet's first cell is centred at 31.5: an image of fewer rows still has a region
    mask = cell_mask([(10, 64)], MapShape(stride=32, first_centre=31.5), (2, 3))
    assert mask.tolist() == [[[True, True, False], [False] * 3]]
