"""AlexNet as a backbone: shapes, torchvision's names, freezing."""

import pytest
import torch
from torchvision.models import alexnet

from mammo_d2.modeling.backbone.alexnet import AlexNet


def test_shape():
    backbone = AlexNet(in_channels=1).eval()
    features = backbone(torch.zeros(1, 1, 227, 227))["pool5"]
    shape = backbone.output_shape()["pool5"]
    assert features.shape == (1, shape.channels, 6, 6)
    assert shape.stride == 32


def test_names_are_those_of_torchvision():
    theirs = {name: p.shape for name, p in alexnet(weights=None).state_dict().items() if "features" in name}
    assert {name: p.shape for name, p in AlexNet().state_dict().items()} == theirs


def test_freezing():
    trained = [name for name, p in AlexNet(freeze_at=2).named_parameters() if p.requires_grad]
    assert trained == [f"features.{i}.{kind}" for i in (6, 8, 10) for kind in ("weight", "bias")]


def test_too_many_frozen_layers():
    with pytest.raises(ValueError, match="FREEZE_AT is 6"):
        AlexNet(freeze_at=6)
