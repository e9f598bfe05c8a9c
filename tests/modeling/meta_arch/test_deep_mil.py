"""DeepMIL: losses of the schemes, results in pixels of the prepared image, padding, settings."""

import math

import pytest
import torch
import torchvision

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import SafeCheckpointer, build_model, get_cfg

HEADS = ("max", "label_assignment", "sparse", "classifier")


@pytest.fixture
def make_model():
    """A seeded DeepMIL on AlexNet with one input channel: ``make_model("sparse", KEY, VALUE, ...)``."""

    def make(head: str = "max", *overrides):
        cfg = get_cfg()
        add_mammo_config(cfg)
        cfg.MODEL.META_ARCHITECTURE = "DeepMIL"
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.BACKBONE.NAME = "build_alexnet_backbone"
        cfg.MODEL.BACKBONE.FREEZE_AT = 0
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [60.0], [50.0]
        cfg.MODEL.DEEP_MIL.HEAD = head
        cfg.MODEL.DEEP_MIL.CLASSIFIER_FC = [16]
        cfg.merge_from_list(list(overrides))
        torch.manual_seed(0)
        return build_model(cfg)

    return make


def make_input(malignant, size=(227, 227), seed=0) -> dict:
    pixels = torch.rand((1, *size), generator=torch.Generator().manual_seed(seed)) * 255
    labels = {"benign": 0, "malignant": malignant}
    return {"image": pixels, "labels": labels, "image_id": seed, "height": 2 * size[0], "width": 3 * size[1]}


def set_responses(model, monkeypatch, logits: torch.Tensor) -> None:
    """Let the head give these logits (N, C, h, w) whatever the image is."""
    monkeypatch.setattr(model.backbone, "forward", lambda images: {"pool5": logits})
    monkeypatch.setattr(model.head, "forward", lambda features: features)


@pytest.mark.parametrize("head", HEADS)
def test_loss_is_finite_and_trains_backbone_and_head(make_model, head):
    model = make_model(head).train()
    losses = model([make_input(1, seed=1), make_input(0, seed=2)])
    assert list(losses) == ["loss_mil"]
    losses["loss_mil"].backward()
    assert model.backbone.features[0].weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in model.head.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_of_unknown_labels_has_zero_loss_and_backward_works(make_model, head):
    loss = make_model(head).train()([make_input(None)])["loss_mil"]
    assert loss.item() == 0.0
    loss.backward()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("max", -math.log(0.8)),
        ("label_assignment", -(math.log(0.8) + math.log(0.5) + 2 * math.log(0.9)) / 4),
        ("sparse", -math.log(0.8) + 0.1 * 1.5 * 36 / 4),
    ],
)
def test_each_scheme_is_its_own_loss(make_model, monkeypatch, head, expected):
    model = make_model(head, "MODEL.DEEP_MIL.TOP_K", 2, "MODEL.DEEP_MIL.SPARSITY", 0.1).train()
    set_responses(model, monkeypatch, torch.tensor([[0.8, 0.5], [0.1, 0.1]]).logit().view(1, 1, 2, 2))
    assert model([make_input(1)])["loss_mil"].item() == pytest.approx(expected, rel=1e-5)


def test_inference_gives_scores_map_and_boxes_in_prepared_pixels(make_model, monkeypatch):
    model = make_model().eval()
    set_responses(model, monkeypatch, torch.tensor([0.9, 0.02, 0.02]).logit().view(1, 1, 1, 3))
    (output,) = model([make_input(None, size=(64, 128))])
    assert output["image_scores"] == {"malignant": pytest.approx(0.9)}
    assert output["saliency"].shape == (1, 8, 16)
    assert output["network_saliency"][0, 0].tolist() == pytest.approx([0.9, 0.02, 0.02])
    # AlexNet's first cell is nearest to the pixels left of 47.5, that is 6 of 16 cells of 8 pixels and the whole
    # height; the prepared image is 3 times as wide and twice as high.
    instances = output["instances"]
    assert instances.pred_boxes.tensor.tolist() == [[0.0, 0.0, 144.0, 128.0]]
    assert instances.scores.tolist() == pytest.approx([0.9])
    assert instances.pred_classes.tolist() == [0]


def test_padding_has_no_part_in_the_result(make_model, monkeypatch):
    """The small image covers the left half of the batch; the high response beyond 79.5 pixels is padding."""
    model = make_model().eval()
    logits = torch.tensor([0.2, 0.1, 0.9]).logit().view(1, 1, 1, 3).expand(2, -1, -1, -1)
    set_responses(model, monkeypatch, logits)
    large, small = model([make_input(0, size=(64, 128)), make_input(0, size=(64, 64))])
    assert large["image_scores"]["malignant"] == pytest.approx(0.9)
    assert small["image_scores"]["malignant"] == pytest.approx(0.2)
    assert small["saliency"][0, 0].tolist() == pytest.approx([0.2] * 6 + [0.1] * 2)


def test_the_classifier_has_scores_but_no_places(make_model):
    (output,) = make_model("classifier").eval()([make_input(0)])
    assert 0 < output["image_scores"]["malignant"] < 1
    assert "saliency" not in output
    assert len(output["instances"]) == 0


def test_other_backbones_by_key(make_model):
    model = make_model(
        "max", "MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.OUT_FEATURES", ["res3", "res4"],
        "MODEL.DEEP_MIL.IN_FEATURE", "res3",
    )  # fmt: skip
    assert model.head.regression.in_channels == 128
    with pytest.raises(ValueError, match="gives pool5"):
        make_model("max", "MODEL.DEEP_MIL.IN_FEATURE", "res9")


def test_the_plain_sum_of_the_responses_by_key(make_model, monkeypatch):
    model = make_model("sparse", "MODEL.DEEP_MIL.SPARSITY", 0.1, "MODEL.DEEP_MIL.SPARSITY_CELLS", 0).train()
    set_responses(model, monkeypatch, torch.tensor([[0.8, 0.5], [0.1, 0.1]]).logit().view(1, 1, 2, 2))
    assert model([make_input(1)])["loss_mil"].item() == pytest.approx(-math.log(0.8) + 0.1 * 1.5, rel=1e-5)


def test_the_paper_has_the_36_cells_that_its_mu_is_for(make_model):
    model = make_model("sparse", "MODEL.DEEP_MIL.SPARSITY", 0.5).train()
    torch.nn.init.zeros_(model.head.regression.weight)  # every response is 0.5
    assert model([make_input(0)])["loss_mil"].item() == pytest.approx(math.log(2) + 0.5 * 36 * 0.5)


def test_the_hidden_layers_of_the_released_code(make_model):
    head = make_model("max", "MODEL.DEEP_MIL.HIDDEN", [128, 128]).head
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "hidden.0.weight": (128, 256, 1, 1),
        "hidden.2.weight": (128, 128, 1, 1),
        "regression.weight": (1, 128, 1, 1),
    }
    features = torch.randn(1, 256, 2, 3)
    first, second = (head.hidden[i].weight.flatten(1) for i in (0, 2))
    biases = [head.hidden[0].bias, head.hidden[2].bias, head.regression.bias]
    cell = (first @ features[0, :, 1, 2] + biases[0]).relu()
    cell = (second @ cell + biases[1]).relu()
    expected = head.regression.weight.flatten() @ cell + biases[2]
    assert head(features)[0, 0, 1, 2].item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_classifier_is_alexnet_and_takes_its_imagenet_weights(make_model, tmp_path):
    """All weights of torchvision's file but the last layer; on 227 pixels the same numbers up to there."""
    torch.manual_seed(1)
    published = torchvision.models.alexnet(weights=None).eval()
    torch.save(published.state_dict(), tmp_path / "alexnet.pth")
    model = make_model(
        "classifier", "MODEL.DEEP_MIL.CLASSIFIER_FC", [4096, 4096], "MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD", [58.395, 57.12, 57.375],
    ).eval()  # fmt: skip
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(str(tmp_path / "alexnet.pth"))
    report = checkpointer.load_report
    assert report.missing == []
    assert [name for name, _, _ in report.mis_shaped] == ["head.classifier.6.weight", "head.classifier.6.bias"]
    image = torch.randn(1, 3, 227, 227)
    with torch.no_grad():
        hidden = model.head.classifier[:-1](model.head.pool(model.backbone(image)["pool5"]).flatten(1))
        expected = published.classifier[:-1](published.avgpool(published.features(image)).flatten(1))
    assert hidden.shape == (1, 4096)
    assert torch.equal(hidden, expected)
    dropouts = [layer.p for layer in model.head.classifier if isinstance(layer, torch.nn.Dropout)]
    assert dropouts == [0.5, 0.5]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("HEAD", "mean", "use one of max"),
        ("TOP_K", 0, "TOP_K"),
        ("SPARSITY", -1.0, "SPARS"),
        ("SPARSITY_CELLS", -36, "SPARSITY_CELLS not negative, got 2, 1e-05 and -36"),
        ("HIDDEN", [128, 0], r"HIDDEN and CLASSIFIER_FC must be .* got \[128, 0\]"),
        ("CLASSIFIER_FC", ["4096"], "CLASSIFIER_FC must be lists of whole numbers"),
        ("CLASSIFIER_DROPOUT", 1.0, r"DROPOUT must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_settings_name_the_key(make_model, key, value, message):
    with pytest.raises(ValueError, match=message):
        make_model("max", f"MODEL.DEEP_MIL.{key}", value)
