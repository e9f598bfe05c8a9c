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


def test_random_mode_averaged_over_all_images_is_the_plain_rpn(make_model):
    model = make_model("FPN", "MODEL.RPN.NEGATIVE_IMAGES", "random", "MODEL.RPN.LOSS_AVERAGE", "all")
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
        ("MODEL.RPN.NEGATIVE_IMAGES", "hard", "'hard'; use one of top_likelihood, random, ignore"),
        ("MODEL.RPN.TOP_LIKELIHOOD_T", -1, "TOP_LIKELIHOOD_T is -1"),
        ("MODEL.RPN.LOSS_AVERAGE", "sum", "LOSS_AVERAGE is 'sum'; use one of kind, all"),
        ("MODEL.RPN.LOSS_AVERAGE", "all", "LOSS_AVERAGE 'all' needs .* 'random', not 'top_likelihood'"),
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


CONTROL = ("MODEL.RPN.NEGATIVE_IMAGES", "random")


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_positive_images_weigh_the_same_in_every_row(make_model, form):
    """Control, top likelihood and positives only, on the same batch: equal losses of the positive image."""
    batch = [make_image([BOX], seed=1), make_image([], seed=2)]
    ours = rpn_losses(make_model(form), batch)
    for overrides in (CONTROL, ("MODEL.RPN.NEGATIVE_IMAGES", "ignore")):
        others = rpn_losses(make_model(form, *overrides), batch)
        for name in ("loss_rpn_cls", "loss_rpn_loc"):
            assert others[name].item() == pytest.approx(ours[name].item(), rel=1e-5), (overrides, name)
    halved = rpn_losses(make_model(form, *CONTROL, "MODEL.RPN.LOSS_AVERAGE", "all"), batch)
    assert halved["loss_rpn_loc"].item() == pytest.approx(ours["loss_rpn_loc"].item() / 2, rel=1e-5)


def test_control_term_is_the_plain_rpns_on_the_negative_image_alone(make_model):
    model = make_model("FPN", *CONTROL, "MODEL.RPN.TOP_LIKELIHOOD_WEIGHT", 0.5)
    plain = make_model("FPN", "MODEL.PROPOSAL_GENERATOR.NAME", "RPN")
    plain.load_state_dict(model.state_dict())
    negative = make_image([], seed=2)
    ours, reference = rpn_losses(model, [negative]), rpn_losses(plain, [negative])
    assert ours["loss_rpn_random"].item() == pytest.approx(0.5 * reference["loss_rpn_cls"].item(), rel=1e-6)
    assert ours["loss_rpn_cls"].item() == ours["loss_rpn_loc"].item() == 0.0
    two = rpn_losses(model, [negative, negative])  # averaged, not summed
    assert two["loss_rpn_random"].item() == pytest.approx(ours["loss_rpn_random"].item(), rel=0.02)


def test_ignored_negative_images_change_no_loss(make_model):
    model = make_model("FPN", "MODEL.RPN.NEGATIVE_IMAGES", "ignore")
    plain = make_model("FPN", "MODEL.PROPOSAL_GENERATOR.NAME", "RPN")
    plain.load_state_dict(model.state_dict())
    positive = make_image([BOX], seed=1)
    ours, reference = rpn_losses(model, [positive, make_image([], seed=2)]), rpn_losses(plain, [positive])
    assert set(ours) == {"loss_rpn_cls", "loss_rpn_loc"}
    for name, value in reference.items():
        assert ours[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_t_is_the_number_of_sampled_anchors_by_default(make_model):
    keys = ("MODEL.RPN.TOP_LIKELIHOOD_T", 0, "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 24)
    model, batch = make_model("FPN", *keys), [make_image([], seed=2)]
    assert model.proposal_generator.top_t == 24
    expected = top_likelihood_loss(all_logits(model, batch), 24)
    assert rpn_losses(model, batch)["loss_rpn_tll"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("mode", "name"), [("top_likelihood", "loss_rpn_tll"), ("random", "loss_rpn_random")])
def test_the_weight_of_the_rpns_losses_holds_for_negative_images(make_model, mode, name):
    batch, keys = [make_image([], seed=2)], ("MODEL.RPN.NEGATIVE_IMAGES", mode)
    one = rpn_losses(make_model("FPN", *keys), batch)[name].item()
    third = rpn_losses(make_model("FPN", *keys, "MODEL.RPN.LOSS_WEIGHT", 0.3), batch)[name].item()
    assert third == pytest.approx(0.3 * one, rel=1e-5)


@pytest.mark.parametrize("t", [16, 10_000])
@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_anchors_beyond_the_boundary_are_not_ranked(make_model, form, t):
    model = make_model(form, "MODEL.RPN.BOUNDARY_THRESH", 0, "MODEL.RPN.TOP_LIKELIHOOD_T", t)
    batch = [make_image([], seed=2)]
    rpn, images = model.proposal_generator, ImageList.from_tensors([batch[0]["image"] / 255], 32)
    features = model.backbone(images.tensor)
    anchors = Boxes.cat(rpn.anchor_generator([features[f] for f in rpn.in_features])).tensor
    height, width = batch[0]["instances"].image_size
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
    assert 16 < int(inside.sum()) < len(anchors) < 10_000
    logits = all_logits(model, batch)
    expected = top_likelihood_loss(logits[:, inside], t).item()
    if t > len(anchors):
        assert expected != pytest.approx(top_likelihood_loss(logits, t).item(), rel=1e-6)
    assert rpn_losses(model, batch)["loss_rpn_tll"].item() == pytest.approx(expected, rel=1e-6)


def test_ignoring_needs_heads_that_leave_negative_images_out(make_model):
    keys = ("MODEL.RPN.NEGATIVE_IMAGES", "ignore", "MODEL.ROI_HEADS.NAME", "StandardROIHeads")
    with pytest.raises(ValueError, match="StandardROIHeads learns from negative images"):
        make_model("FPN", *keys)
