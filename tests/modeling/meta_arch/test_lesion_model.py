"""Lesion scores from those of windows, the weighted loss, and the patch classifier."""

import pytest
import torch

from mammo_d2.modeling.backbone import patch_networks
from tests.modeling.lesion_models import Mean, lesion_image, lesion_model, lesion_patch


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setitem(patch_networks.PATCH_NETWORKS, "mean", lambda: (Mean(), 2))


def test_bottleneck_and_classes_of_a_known_patch():
    """A patch of 14 is normalised to 2: maps (2, -2), pooled to the same."""
    model = lesion_model("LesionPatchClassifier")
    with torch.no_grad():
        model.network.bottleneck.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        model.network.bottleneck.bias.zero_()
    torch.testing.assert_close(model.embed(torch.full((1, 1, 8, 8), 14.0)), torch.tensor([[2.0, -2.0, 0.0]]))


def test_lesion_scores_are_normalised_and_averaged():
    model = lesion_model("LesionPatchClassifier").eval()
    record = lesion_image()
    with torch.no_grad():
        (output,) = model([record])
    assert [tuple(rows.shape) for rows in output["lesion_scores"]] == [(3, 2), (2, 2)]
    probabilities = output["window_logits"].softmax(1)
    expected = probabilities[:, 0] / probabilities[:, :2].sum(1)
    torch.testing.assert_close(torch.cat(output["lesion_scores"])[:, 0], expected)
    assert output["malignancy"].tolist() == pytest.approx([float(expected[:3].mean()), float(expected[3:].mean())])


def test_parts_of_windows_give_the_same_scores():
    record = lesion_image((5, 3))
    whole = lesion_model("LesionContextClassifier").eval()([record])[0]["malignancy"]
    parts = lesion_model("LesionContextClassifier", "MODEL.LESION.WINDOWS_PER_FORWARD", 3).eval()([record])[0]
    torch.testing.assert_close(parts["malignancy"], whole)


def test_an_image_without_lesion_has_no_score():
    for name in ("LesionPatchClassifier", "LesionContextClassifier"):
        (output,) = lesion_model(name).eval()([lesion_image((), window_lesion=torch.zeros(0, dtype=torch.int64))])
        assert output["lesion_scores"] == []
        assert output["malignancy"].shape == (0,)


def test_rare_classes_weigh_more():
    losses = []
    for epoch in ([1, 1, 1, 1], [1, 3, 3, 3]):
        model = lesion_model("LesionPatchClassifier", "MODEL.LESION.EPOCH", epoch)
        losses.append(float(model([lesion_patch(0)])["loss_patch"].detach()))
    assert losses[1] == pytest.approx(2.5 * losses[0])  # 10 / (4 · 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [("NETWORK", "alexnet"), ("LOSS_AVERAGE", "none"), ("MAPS", []), ("WINDOWS_PER_FORWARD", 0)],
)
def test_wrong_settings_are_named(key, value):
    with pytest.raises(ValueError, match=f"MODEL.LESION.{key}"):
        lesion_model("LesionContextClassifier", f"MODEL.LESION.{key}", value)
