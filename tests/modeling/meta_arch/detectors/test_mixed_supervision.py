"""Label-only images teach the detector by their label, and nothing else; other images as in GeneralizedRCNN."""

import pytest
import torch

from mammo_d2.framework import Boxes, EventStorage, Instances
from mammo_d2.modeling.meta_arch.detectors.mixed_supervision import check_mixed_options
from tests.modeling.conftest import make_image

BOX = [10.0, 12.0, 40.0, 44.0]
# Class 0 is malignant, class 1 benign.
CATEGORIES = ("DATASETS.CATEGORIES", ["malignant", "benign"])
MIXED = ("MODEL.META_ARCHITECTURE", "MixedSupervisionRCNN", *CATEGORIES)


def label_only(malignant=1, benign=0, seed=9):
    return {**make_image([], seed=seed), "image_labels": {"malignant": malignant, "benign": benign}}


def losses_of(model, batch, iteration=0, seed=5):
    with EventStorage(iteration):
        torch.manual_seed(seed)
        return model(batch)


@pytest.fixture
def make_mixed(make_model):
    """A tiny detector with MODEL.MIXED keys, e.g. ``make_mixed("FPN", LOSS="self")``."""

    def make(form="FPN", **keys):
        return make_model(form, *MIXED, *(item for k, v in keys.items() for item in (f"MODEL.MIXED.{k}", v)))

    return make


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_without_label_only_images_it_is_generalized_rcnn(make_model, make_mixed, form):
    """To the last bit, losses and gradients; and detections at the test."""
    plain, mixed = make_model(form, *CATEGORIES), make_mixed(form, LOSS="both", SELF_BOXES=True, SELF_RPN=True)
    mixed.load_state_dict(plain.state_dict())
    batch = [make_image([BOX], seed=1), make_image([], seed=2)]
    expected, losses = losses_of(plain, batch), losses_of(mixed, batch)
    names = ["loss_mil", "loss_self", "loss_self_box_reg", "loss_self_rpn"]
    assert [losses.pop(name).item() for name in names] == [0.0] * 4
    assert list(losses) == list(expected)
    assert all(torch.equal(losses[name], expected[name]) for name in expected)
    for model, values in ((plain, expected), (mixed, losses)):
        sum(values.values()).backward()
        model.eval()
    gradients = [[p.grad for p in model.parameters() if p.grad is not None] for model in (plain, mixed)]
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    found, same = (model(batch[:1])[0]["instances"].pred_boxes.tensor for model in (mixed, plain))
    assert torch.equal(found, same)


@pytest.mark.parametrize("form", ["FPN", "C4"])
@pytest.mark.parametrize("labels", [(1, 0), (1, None), (None, None), (None, 0)])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_label_only_image_is_neither_positive_nor_negative(make_model, make_mixed, form, labels, where):
    """Wherever it stands in the batch and whatever is unknown of it: RPN and ROI heads lose as without it."""
    plain, mixed = make_model(form, *CATEGORIES), make_mixed(form, LOSS="both")
    mixed.load_state_dict(plain.state_dict())
    batch = [make_image([BOX], seed=1), make_image([], seed=2)]
    expected = losses_of(plain, batch)
    batch.insert(where, label_only(*labels))
    seen = {}
    hook = mixed.roi_heads.register_forward_hook(lambda module, inputs, output: seen.update(images=len(inputs[3])))
    losses = losses_of(mixed, batch)
    hook.remove()
    assert seen["images"] == 2
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-7), name
    known = [label for label in labels if label is not None]
    assert (losses["loss_mil"].item() > 0) == bool(known)
    assert (losses["loss_self"].item() > 0) == (1 in known)


def test_mil_loss_of_known_scores(make_mixed, monkeypatch):
    """Proposals with .6 .1 and .2 .3 of malignant and benign, of one image; .5 and .1 of the other: by hand."""
    model = make_mixed(MIL_WEIGHT=2.0)
    model.roi_heads.similarity_weight = 0.0  # the other image does without classify_regions
    scores = torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.3, 0.5], [0.5, 0.1, 0.4]])
    boxes = [Boxes(torch.tensor([BOX, [50.0, 5, 70, 25]])), Boxes(torch.tensor([BOX]))]
    monkeypatch.setattr(model, "_best_proposals", lambda *args: boxes)
    monkeypatch.setattr(model.roi_heads, "classify_regions", lambda features, own: (scores.log(), torch.zeros(3, 8)))
    losses = losses_of(model, [label_only(1, 0), make_image([], seed=2), label_only(1, None)])
    # max: .6 for malignant; .3 for benign, of another proposal; the second image .5, benign unknown
    expected = 2.0 * -torch.tensor([0.6, 1 - 0.3, 0.5]).log().sum() / 2
    assert losses["loss_mil"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_self_losses_of_known_scores(make_mixed, monkeypatch):
    """The first of three proposals is the seed, the second overlaps it (IoU 2/3), the third does not: by hand."""
    model = make_mixed(LOSS="self", SELF_WEIGHT=0.5, SELF_BOXES=True)
    model.roi_heads.similarity_weight = 0.0  # the other image does without classify_regions
    boxes = torch.tensor([[10.0, 10, 20, 20], [10, 12, 20, 22], [40, 40, 50, 50]])
    scores = torch.tensor([[0.6, 0.1, 0.3], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]])
    deltas = torch.zeros(3, 8, requires_grad=True)
    monkeypatch.setattr(model, "_best_proposals", lambda *args: [Boxes(boxes)])
    monkeypatch.setattr(model.roi_heads, "classify_regions", lambda features, own: (scores.log(), deltas))
    losses = losses_of(model, [label_only(1, 0), make_image([], seed=2)])
    expected = 0.5 * 0.6 * -torch.tensor([0.6, 0.3, 0.6]).log().sum() / 3
    assert losses["loss_self"].item() == pytest.approx(expected.item(), rel=1e-5)
    # The second is .2 of its height too low: dy = -2 / 10, times the weight 10 of detectron2's deltas; L1, three boxes.
    assert losses["loss_self_box_reg"].item() == pytest.approx(0.5 * 0.6 * 2.0 / 3, rel=1e-5)
    losses["loss_self_box_reg"].backward()
    assert deltas.grad[2].abs().sum() == 0
    assert deltas.grad[1, 4:].abs().sum() == 0  # class 1


def test_the_rpn_learns_the_seed_as_ground_truth(make_mixed):
    """The RPN's own losses for the seed's box, times its score."""
    model = make_mixed(LOSS="self", SELF_RPN=True)
    batch = [label_only(1, 0), make_image([], seed=2)]
    seen = {}
    rpn_losses = model._rpn_losses

    def spy(images, features, proposals, labels):
        seen["box"], seen["score"] = proposals[0].tensor[labels[0].seeds], labels[0].seed_scores.item()
        torch.manual_seed(1)
        return rpn_losses(images, features, proposals, labels)

    model._rpn_losses = spy
    loss = losses_of(model, batch)["loss_self_rpn"]
    truth = Instances((64, 96))
    truth.gt_boxes = Boxes(seen["box"])
    images = model.preprocess_image(batch[:1])
    with EventStorage():
        features = model.backbone(images.tensor)
        torch.manual_seed(1)
        _, terms = model.proposal_generator(images, features, [truth])
    assert loss.item() == pytest.approx(seen["score"] * sum(terms.values()).item(), rel=1e-4)
    loss.backward()
    assert model.proposal_generator.rpn_head.objectness_logits.weight.grad.abs().sum() > 0


def test_proposals_are_made_as_at_the_test_and_no_loss_reaches_the_rpn(make_mixed):
    model = make_mixed(LOSS="both", NUM_PROPOSALS=7)
    batch = [label_only(), make_image([], seed=2)]
    losses = losses_of(model, batch)
    (losses["loss_mil"] + losses["loss_self"]).backward()
    head = model.proposal_generator.rpn_head
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in head.parameters())
    assert model.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0
    assert model.proposal_generator.training
    images = model.preprocess_image(batch)
    features = model.backbone(images.tensor)
    boxes = model._best_proposals(batch, images, features)
    assert [len(own) for own in boxes] == [7, 7]
    model.eval()
    expected, _ = model.proposal_generator(images, features, None)
    assert torch.equal(boxes[0].tensor, expected[0].proposal_boxes.tensor[:7])


def test_before_the_start_label_only_images_do_not_count(make_mixed):
    model = make_mixed(LOSS="both", START_ITER=100)
    batch = [make_image([BOX], seed=1), make_image([], seed=2), label_only()]
    before, after = losses_of(model, batch, 99), losses_of(model, batch, 100)
    assert list(before) == list(after)
    assert (before["loss_mil"].item(), before["loss_self"].item()) == (0.0, 0.0)
    assert min(after["loss_mil"].item(), after["loss_self"].item()) > 0


def test_none(make_mixed):
    losses = losses_of(make_mixed(LOSS="none"), [make_image([BOX]), make_image([], seed=2), label_only()])
    assert not [name for name in losses if name.startswith(("loss_mil", "loss_self"))]


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_batch_of_label_only_images(make_mixed, form):
    """The losses have the same names as in any batch, those of boxes are 0, and the backward pass works."""
    model = make_mixed(form, LOSS="both")
    others = losses_of(model, [make_image([BOX]), make_image([], seed=2)])
    losses = losses_of(model, [label_only(), label_only(seed=4)])
    assert list(losses) == list(others)
    assert {name for name, loss in losses.items() if loss.item()} == {"loss_mil", "loss_self"}
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("loss", ["mil", "self"])
def test_the_loss_of_a_label_only_image_falls_and_its_score_rises(make_mixed, loss):
    model = make_mixed(LOSS=loss, SELF_OTHERS="ignore")
    model.pixel_std.fill_(50.0)  # small features: all classes have a score of about a third
    model.backbone.requires_grad_(False)
    batch = [label_only(1, 0), make_image([], seed=2)]
    parameters = [p for p in model.roi_heads.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.003)
    name, values = f"loss_{loss}", []
    with torch.no_grad():
        images = model.preprocess_image(batch)
        features = model.backbone(images.tensor)
        boxes = model._best_proposals(batch, images, features)

    def score():
        with torch.no_grad():
            logits, _ = model.roi_heads.classify_regions(features, boxes)
        return logits[: len(boxes[0])].softmax(dim=1)[:, 0].max().item()

    assert score() == pytest.approx(1 / 3, abs=0.1)
    for _ in range(25):
        value = losses_of(model, batch)[name]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]
    assert score() > 0.8


def test_heads_that_do_not_classify_given_boxes(make_model):
    with pytest.raises(ValueError, match=r"ROI_HEADS\.NAME StandardROIHeads does not classify given boxes"):
        make_model("FPN", *MIXED, "MODEL.ROI_HEADS.NAME", "StandardROIHeads")


def test_independent_scores_are_refused(make_model):
    with pytest.raises(ValueError, match="USE_SIGMOID_CE False"):
        make_model("FPN", *MIXED, "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True)


def test_bad_options():
    with pytest.raises(ValueError, match=r"MODEL\.MIXED\.SELF_IOU is 1\.5; it must be more than 0 and at most 1"):
        check_mixed_options(self_iou=1.5)
