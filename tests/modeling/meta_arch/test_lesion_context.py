"""The aggregation network: combinations of maps, stored and computed embeddings, the frozen patch network."""

import pytest
import torch

from mammo_d2.modeling.backbone import patch_networks
from tests.modeling.lesion_models import Mean, lesion_image, lesion_model, lesion_patch


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setitem(patch_networks.PATCH_NETWORKS, "mean", lambda: (Mean(), 2))


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
    model = lesion_model("LesionContextClassifier", "MODEL.LESION.MAPS", maps).train()
    assert model.aggregation[0].num_features == inputs
    losses = model([lesion_patch(kind) for kind in (0, 1, 2, 3)])
    assert set(losses) == {"loss_patch"}
    losses["loss_patch"].backward()
    assert all(p.grad is not None for p in model.aggregation.parameters())
    assert (model.network is None) == ("embedding" not in maps)
    assert len(model.eval()([lesion_image()])[0]["malignancy"]) == 2


def test_stored_embeddings_and_patches_give_the_same_logits():
    """What is trained on (embeddings from the store) is what is computed at inference (from patches)."""
    model = lesion_model().eval()
    record = lesion_image((1,))
    stored = lesion_patch(
        embedding=model.in_parts(model.network, record["patches"])[0][0].detach(), saliency=record["saliency"]
    )
    torch.testing.assert_close(model.patch_logits([stored]), model.window_logits(record))


def test_windows_that_come_again_are_not_embedded_again(monkeypatch):
    """Every evaluation of f_agg has the same windows, and f_loc is frozen; another patch or weight is embedded anew."""
    model = lesion_model().eval()
    record, embedded = lesion_image(), []
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
    model = lesion_model().train()
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())
    assert "network.bottleneck.weight" in model.state_dict()
    assert model.aggregation.training


def test_wrong_saliency_and_ordinary_inputs_are_named():
    model = lesion_model()
    with pytest.raises(ValueError, match=r"image 4.*SALIENCY_MAPS"):
        model.eval()([lesion_image(saliency=torch.rand(1, 4, 3))])
    with pytest.raises(ValueError, match=r"image 4.*by the job LesionContextJob: set JOB"):
        model.eval()([{"image_id": 4, "image": torch.zeros(1, 8, 8)}])
