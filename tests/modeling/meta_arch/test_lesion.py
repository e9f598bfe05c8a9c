"""Patch classifier and aggregation network of the lesion classifier."""

import pytest
import torch
from torch import nn

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import build_model, get_cfg
from mammo_d2.modeling.backbone import patch_networks
from mammo_d2.modeling.backbone.patch_networks import PATCH_NETWORKS, PatchNetwork, rename_pretrained
from mammo_d2.modeling.backbone.preactivation_resnet import PreactivationBlock, PreactivationResNet


class Mean(nn.Module):
    """Two maps of a patch: itself, and its negative."""

    def forward(self, patches):
        return torch.cat([patches[:, :1], -patches[:, :1]], dim=1)


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setitem(patch_networks.PATCH_NETWORKS, "mean", lambda: (Mean(), 2))


def make_model(name="LesionContextClassifier", *overrides):
    cfg = get_cfg()
    add_mammo_config(cfg)
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.META_ARCHITECTURE": name,
        "MODEL.PIXEL_MEAN": [10.0],
        "MODEL.PIXEL_STD": [2.0],
        "MODEL.LESION.NETWORK": "mean",
        "MODEL.LESION.EMBEDDING": 3,
        "MODEL.LESION.MAP_SIZE": [4, 3],
        "MODEL.LESION.EPOCH": [1, 1, 1, 1],
    }
    settings.update(zip(overrides[::2], overrides[1::2], strict=True))
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    torch.manual_seed(0)
    return build_model(cfg)


def patch(kind=0, **more):
    return {
        "patch_class": kind,
        "image": torch.full((1, 8, 8), 14.0),
        "embedding": torch.tensor([1.0, 2.0, 3.0]),
        "window": torch.tensor([0.0, 0.0, 20.0, 20.0]),
        "image_size": torch.tensor([40, 60]),
        "saliency": torch.rand(2, 4, 3),
        **more,
    }


def lesions(counts=(3, 2), **more):
    number = sum(counts)
    return {
        "image_id": 4,
        "patches": torch.rand(number, 1, 8, 8) * 255,
        "windows": torch.tensor([[0.0, 0.0, 20.0, 20.0]]).repeat(number, 1),
        "window_lesion": torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64)),
        "num_lesions": len(counts),
        "image_size": torch.tensor([40, 60]),
        "saliency": torch.rand(2, 4, 3),
        **more,
    }


def test_bottleneck_and_classes_of_a_known_patch():
    """A patch of 14 is normalised to 2: maps (2, -2), pooled to the same."""
    model = make_model("LesionPatchClassifier")
    with torch.no_grad():
        model.network.bottleneck.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        model.network.bottleneck.bias.zero_()
    torch.testing.assert_close(model.embed(torch.full((1, 1, 8, 8), 14.0)), torch.tensor([[2.0, -2.0, 0.0]]))


def test_lesion_scores_are_normalised_and_averaged():
    model = make_model("LesionPatchClassifier").eval()
    record = lesions()
    with torch.no_grad():
        (output,) = model([record])
    assert [tuple(rows.shape) for rows in output["lesion_scores"]] == [(3, 2), (2, 2)]
    probabilities = output["window_logits"].softmax(1)
    expected = probabilities[:, 0] / probabilities[:, :2].sum(1)
    torch.testing.assert_close(torch.cat(output["lesion_scores"])[:, 0], expected)
    assert output["malignancy"].tolist() == pytest.approx([float(expected[:3].mean()), float(expected[3:].mean())])


def test_parts_of_windows_give_the_same_scores():
    record = lesions((5, 3))
    whole = make_model("LesionContextClassifier").eval()([record])[0]["malignancy"]
    parts = make_model("LesionContextClassifier", "MODEL.LESION.WINDOWS_PER_FORWARD", 3).eval()([record])[0]
    torch.testing.assert_close(parts["malignancy"], whole)


def test_an_image_without_lesion_has_no_score():
    for name in ("LesionPatchClassifier", "LesionContextClassifier"):
        (output,) = make_model(name).eval()([lesions((), window_lesion=torch.zeros(0, dtype=torch.int64))])
        assert output["lesion_scores"] == []
        assert output["malignancy"].shape == (0,)


@pytest.mark.parametrize(
    ("maps", "inputs"),
    [
        (["indicator"], 1),
        (["embedding"], 3),
        (["saliency"], 2),
        (["indicator", "embedding"], 4),
        (["indicator", "saliency"], 3),
        (["embedding", "saliency"], 5),
        (["indicator", "embedding", "saliency"], 6),
    ],
)
def test_every_combination_trains_and_predicts(maps, inputs):
    model = make_model("LesionContextClassifier", "MODEL.LESION.MAPS", maps).train()
    assert model.aggregation[0].num_features == inputs
    losses = model([patch(kind) for kind in (0, 1, 2, 3)])
    assert set(losses) == {"loss_patch"}
    losses["loss_patch"].backward()
    assert all(p.grad is not None for p in model.aggregation.parameters())
    assert (model.network is None) == ("embedding" not in maps)
    assert len(model.eval()([lesions()])[0]["malignancy"]) == 2


def test_stored_embeddings_and_patches_give_the_same_logits():
    """What is trained on (embeddings from the store) is what is computed at inference (from patches)."""
    model = make_model().eval()
    record = lesions((1,))
    stored = patch(
        embedding=model.in_parts(model.network, record["patches"])[0][0].detach(), saliency=record["saliency"]
    )
    torch.testing.assert_close(model.patch_logits([stored]), model.window_logits(record))


def test_windows_that_come_again_are_not_embedded_again(monkeypatch):
    """Every evaluation of f_agg has the same windows, and f_loc is frozen; another patch or weight is embedded anew."""
    model = make_model().eval()
    record, embedded = lesions(), []
    in_parts = type(model).in_parts

    def count(self, network, patches):
        embedded.append(len(patches))
        return in_parts(self, network, patches)

    monkeypatch.setattr(type(model), "in_parts", count)
    with torch.no_grad():
        first = model.window_logits(record)
        model.aggregation[-1].bias += 1
        torch.testing.assert_close(model.window_logits(record), first + 1)
        assert embedded == [5]
        record["patches"][0, 0, 0, 0] += 50
        assert not torch.equal(model.window_logits(record), first + 1)
        model.network.bottleneck.weight *= 2
        changed = model.window_logits(record)
        assert embedded == [5, 5, 5]
        model.forget_embeddings()
        torch.testing.assert_close(model.window_logits(record), changed)
    assert embedded == [5, 5, 5, 5]


def test_patch_network_is_frozen_and_part_of_the_weights():
    model = make_model().train()
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())
    assert "network.bottleneck.weight" in model.state_dict()
    assert model.aggregation.training


def test_rare_classes_weigh_more():
    losses = []
    for epoch in ([1, 1, 1, 1], [1, 3, 3, 3]):
        model = make_model("LesionPatchClassifier", "MODEL.LESION.EPOCH", epoch)
        losses.append(float(model([patch(0)])["loss_patch"].detach()))
    assert losses[1] == pytest.approx(2.5 * losses[0])  # 10 / (4 · 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [("NETWORK", "alexnet"), ("LOSS_AVERAGE", "none"), ("MAPS", []), ("WINDOWS_PER_FORWARD", 0)],
)
def test_wrong_settings_are_named(key, value):
    with pytest.raises(ValueError, match=f"MODEL.LESION.{key}"):
        make_model("LesionContextClassifier", f"MODEL.LESION.{key}", value)


def test_wrong_saliency_and_ordinary_inputs_are_named():
    model = make_model()
    with pytest.raises(ValueError, match=r"image 4.*SALIENCY_MAPS"):
        model.eval()([lesions(saliency=torch.rand(1, 4, 3))])
    with pytest.raises(ValueError, match=r"image 4.*tools/train_lesion.py"):
        model.eval()([{"image_id": 4, "image": torch.zeros(1, 8, 8)}])


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
    from torchvision.models import resnet18

    torch.manual_seed(3)
    source = resnet18()
    torch.save(source.state_dict(), tmp_path / "r18.pth")
    network = PatchNetwork("resnet18", weights=str(tmp_path / "r18.pth"))
    assert torch.equal(network.features.network.conv1.weight, source.conv1.weight)
    with pytest.raises(ValueError, match=r"NETWORK_WEIGHTS .* no weights of resnetv2_50"):
        PatchNetwork("resnetv2_50", weights=str(tmp_path / "r18.pth"))
    with pytest.raises(FileNotFoundError, match="NETWORK_WEIGHTS"):
        PatchNetwork("resnet18", weights=str(tmp_path / "absent.pth"))
