"""Patch networks: their sizes, and weights from files."""

import pytest
import torch
from torchvision.models import resnet18

from mammo_d2.modeling.backbone.patch_networks import PATCH_NETWORKS, PatchNetwork, rename_pretrained


def test_paper_networks_have_their_sizes():
    """Parameters in millions, without classifier: those of the papers' ImageNet models less the last layer."""
    expected = {"densenet121": 6.95, "resnetv2_50": 23.5}
    for name, millions in expected.items():
        features, channels = PATCH_NETWORKS[name]()
        assert sum(p.numel() for p in features.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
        assert features.eval()(torch.rand(1, 3, 32, 32)).shape[1] == channels


def test_pretrained_names_of_old_and_new_files(tmp_path):
    old = {"features.denseblock1.denselayer1.norm.1.weight": 1, "features.norm0.bias": 2, "classifier.weight": 3}
    assert rename_pretrained(old, "densenet121") == {
        "0.denseblock1.denselayer1.norm1.weight": 1,
        "0.norm0.bias": 2,
    }
    torch.manual_seed(3)
    source = resnet18()
    torch.save(source.state_dict(), tmp_path / "r18.pth")
    network = PatchNetwork("resnet18", weights=str(tmp_path / "r18.pth"))
    assert torch.equal(network.features.network.conv1.weight, source.conv1.weight)
    with pytest.raises(ValueError, match=r"NETWORK_WEIGHTS .* no weights of resnetv2_50"):
        PatchNetwork("resnetv2_50", weights=str(tmp_path / "r18.pth"))
    with pytest.raises(FileNotFoundError, match="NETWORK_WEIGHTS"):
        PatchNetwork("resnet18", weights=str(tmp_path / "absent.pth"))
