import pytest
import torch

from mammo_d2.framework import RPN, Boxes, EventStorage, ImageList, Instances
from mammo_d2.modeling.functional.losses import top_likelihood_loss
from mammo_d2.modeling.proposal_generator.top_likelihood import UNANNOTATED
from tests.modeling.conftest import make_image

BOX = [10.0, 12.0, 40.0, 44.0]


def rpn_losses(model, batch, seed: int = 3) -> dict[str, torch.Tensor]:
    images = ImageList.from_tensors([record["image"] / 255 for record in batch], 32)
    with EventStorage():
        torch.manual_seed(seed)
        features = model.backbone(images.tensor)
        return model.proposal_generator(images, features, [record["instances"] for record in batch])[1]


def all_logits(model, batch) -> torch.Tensor:
    images = ImageList.from_tensors([record["image"] / 255 for record in batch], 32)
    rpn = model.proposal_generator
    logits, _ = rpn.rpn_head([model.backbone(images.tensor)[f] for f in rpn.in_features])
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in logits], dim=1)


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_negative_image_gives_top_likelihood_loss_over_all_levels(make_model, form):
    model = make_model(form)
    batch = [make_image([BOX], seed=1), make_image([], seed=2)]
    losses = rpn_losses(model, batch)
    expected = top_likelihood_loss(all_logits(model, batch)[1:], 16)
    assert losses["loss_rpn_tll"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_positive_terms_equal_the_plain_rpn_on_the_positive_image_alone(make_model):
    model = make_model("FPN")
    plain = make_model("FPN", "MODEL.PROPOSAL_GENERATOR.NAME", "RPN")
    plain.load_state_dict(model.state_dict())
    positive, negative = make_image([BOX], seed=1), make_image([], seed=2)
    ours = rpn_losses(model, [positive, negative])
    reference = rpn_losses(plain, [positive])
    for name in ("loss_rpn_cls", "loss_rpn_loc"):
        assert ours[name].item() == pytest.approx(reference[name].item(), rel=1e-5)
    assert type(plain.proposal_generator) is RPN


def test_more_negatives_do_not_dilute_the_positive_terms(make_model):
    model = make_model("FPN")
    positive, negatives = make_image([BOX], seed=1), [make_image([], seed=s) for s in (2, 3, 4)]
    one = rpn_losses(model, [positive, negatives[0]])
    three = rpn_losses(model, [positive, *negatives])
    assert three["loss_rpn_cls"].item() == pytest.approx(one["loss_rpn_cls"].item(), rel=1e-5)
    per_image = [rpn_losses(model, [positive, n])["loss_rpn_tll"].item() for n in negatives]
    assert three["loss_rpn_tll"].item() == pytest.approx(sum(per_image) / 3, rel=1e-5)


def test_weight_scales_the_loss(make_model):
    batch = [make_image([BOX]), make_image([], seed=2)]
    one = rpn_losses(make_model("FPN"), batch)["loss_rpn_tll"].item()
    half = rpn_losses(make_model("FPN", "MODEL.RPN.TOP_LIKELIHOOD_WEIGHT", 0.5), batch)["loss_rpn_tll"].item()
    assert half == pytest.approx(0.5 * one, rel=1e-6)


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_batch_of_negatives_only_has_zero_positive_terms_and_a_gradient(make_model, form):
    model = make_model(form)
    losses = rpn_losses(model, [make_image([], seed=2), make_image([], seed=3)])
    assert losses["loss_rpn_cls"].item() == 0.0
    assert losses["loss_rpn_loc"].item() == 0.0
    sum(losses.values()).backward()
    head = model.proposal_generator.rpn_head
    assert head.objectness_logits.weight.grad.abs().sum() > 0
    assert head.anchor_deltas.weight.grad.abs().sum() == 0  # no regression on negative images


def test_batch_of_positives_only_has_zero_top_likelihood_loss(make_model):
    losses = rpn_losses(make_model("FPN"), [make_image([BOX])])
    assert losses["loss_rpn_tll"].item() == 0.0
    assert losses["loss_rpn_cls"].item() > 0


def test_labels_mark_negative_images(make_model):
    rpn = make_model("C4").proposal_generator
    anchors = [Boxes(torch.tensor([[4.0, 4, 34, 36], [10, 12, 40, 44], [50, 50, 60, 60]]))]
    targets = [make_image([])["instances"], make_image([BOX])["instances"]]
    labels, boxes = rpn.label_and_sample_anchors(anchors, targets)
    assert labels[0].tolist() == [UNANNOTATED] * 3
    assert labels[1].tolist() == [-1, 1, 0]  # IoU of the first: 576 / (960 + 960 - 576) = 0.43
    assert boxes[1][1].tolist() == BOX


def test_random_mode_is_the_plain_rpn(make_model):
    model = make_model("FPN", "MODEL.RPN.NEGATIVE_IMAGES", "random")
    plain = make_model("FPN", "MODEL.PROPOSAL_GENERATOR.NAME", "RPN")
    plain.load_state_dict(model.state_dict())
    batch = [make_image([BOX]), make_image([], seed=2)]
    ours, reference = rpn_losses(model, batch), rpn_losses(plain, batch)
    assert set(ours) == {"loss_rpn_cls", "loss_rpn_loc"}
    for name, value in ours.items():
        assert value.item() == reference[name].item()


def test_training_pushes_the_top_scores_of_negative_images_down(make_model):
    model = make_model("FPN")
    batch = [make_image([BOX], seed=1), make_image([], seed=2)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    before = all_logits(model, batch)[1].topk(16).values.mean().item()
    for _ in range(5):
        optimizer.zero_grad()
        rpn_losses(model, batch)["loss_rpn_tll"].backward()
        optimizer.step()
    assert all_logits(model, batch)[1].topk(16).values.mean().item() < before - 0.1  # logits start around 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.RPN.NEGATIVE_IMAGES", "hard", "'hard'; use one of top_likelihood, random"),
        ("MODEL.RPN.TOP_LIKELIHOOD_T", 0, "TOP_LIKELIHOOD_T is 0"),
    ],
)
def test_bad_config_values(make_model, key, value, message):
    with pytest.raises(ValueError, match=message):
        make_model("FPN", key, value)


def test_proposals_at_inference_are_the_plain_rpns(make_model):
    model, plain = make_model("FPN").eval(), make_model("FPN", "MODEL.PROPOSAL_GENERATOR.NAME", "RPN").eval()
    plain.load_state_dict(model.state_dict())
    images = ImageList.from_tensors([make_image([])["image"] / 255], 32)
    with torch.no_grad():
        ours = model.proposal_generator(images, model.backbone(images.tensor))[0][0]
        reference = plain.proposal_generator(images, plain.backbone(images.tensor))[0][0]
    assert isinstance(ours, Instances)
    torch.testing.assert_close(ours.proposal_boxes.tensor, reference.proposal_boxes.tensor)
