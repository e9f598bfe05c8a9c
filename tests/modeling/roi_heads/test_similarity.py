import pytest
import torch

from mammo_d2.framework import Boxes, EventStorage, Instances
from mammo_d2.modeling.roi_heads.similarity import pair_regions
from tests.modeling.conftest import make_image

BOX = [10.0, 12.0, 40.0, 44.0]


def sampled_image(logits, classes=None, *, positive=False) -> Instances:
    """Proposals whose box i is [i, 0, i+1, 1], as after sampling (with classes) or before (without)."""
    image = Instances((64, 64))
    n = len(logits)
    image.proposal_boxes = Boxes(torch.tensor([[i, 0.0, i + 1, 1.0] for i in range(n)]).reshape(-1, 4))
    image.objectness_logits = torch.tensor(logits, dtype=torch.float32)
    if classes is not None:
        image.gt_classes = torch.tensor(classes)
        if positive:
            image.gt_boxes = Boxes(torch.zeros(n, 4))
    return image


class TestPairRegions:
    def test_foreground_and_suspects_are_ordered_by_objectness(self):
        # class 1 is background; foreground rows 0, 2 with logits 1 and 3
        sampled = [sampled_image([1.0, 9.0, 3.0], [0, 1, 0], positive=True), sampled_image([0.0, 0.0], [1, 1])]
        proposals = [sampled_image([1.0, 9.0, 3.0]), sampled_image([0.2, 0.9, 0.5])]
        pairs = pair_regions(sampled, proposals, num_classes=1)
        assert [rows.tolist() for rows in pairs.foreground] == [[2, 0]]
        assert len(pairs.suspects[0]) == 0
        assert pairs.suspects[1].tensor[:, 0].tolist() == [1.0, 2.0]

    def test_k_shrinks_to_the_negative_images_proposals(self):
        sampled = [sampled_image([1.0, 2.0, 3.0], [0, 0, 0], positive=True), sampled_image([0.0], [1])]
        pairs = pair_regions(sampled, [sampled_image([1.0, 2.0, 3.0]), sampled_image([0.5])], num_classes=1)
        assert [rows.tolist() for rows in pairs.foreground] == [[2]]
        assert len(pairs.suspects[1]) == 1

    def test_second_pair_gets_its_own_offset_and_negative(self):
        positive, negative = sampled_image([1.0, 2.0], [0, 1], positive=True), sampled_image([0.0, 1.0], [1, 1])
        sampled = [positive, negative, positive, negative]
        raw = [sampled_image([1.0, 2.0]), sampled_image([5.0, 6.0])] * 2
        pairs = pair_regions(sampled, raw, num_classes=1)
        assert [rows.tolist() for rows in pairs.foreground] == [[0], [4]]
        assert [len(boxes) for boxes in pairs.suspects] == [0, 1, 0, 1]
        assert pairs.suspects[3].tensor[0, 0].item() == 1.0

    @pytest.mark.parametrize("which", ["positives", "negatives"])
    def test_no_partner_no_pairs(self, which):
        sampled = [sampled_image([1.0], [0], positive=True)] if which == "positives" else [sampled_image([1.0], [1])]
        pairs = pair_regions(sampled * 2, [sampled_image([1.0])] * 2, num_classes=1)
        assert pairs.foreground == []
        assert all(len(boxes) == 0 for boxes in pairs.suspects)

    def test_ignored_proposals_are_no_foreground(self):
        sampled = [sampled_image([1.0, 2.0], [-1, 0], positive=True), sampled_image([0.0], [1])]
        pairs = pair_regions(sampled, [sampled_image([1.0, 2.0])] * 2, num_classes=1)
        assert [rows.tolist() for rows in pairs.foreground] == [[1]]


def losses_of(model, batch, seed=5):
    with EventStorage():
        torch.manual_seed(seed)
        return model(batch)


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_other_losses_equal_those_of_the_base_heads(make_model, form):
    """The suspects pass through the head but change neither classification nor regression loss."""
    batch = [make_image([BOX], seed=1), make_image([], seed=2)]
    losses = losses_of(make_model(form), batch)
    base = losses_of(make_model(form, "MODEL.ROI_HEADS.SIMILARITY_WEIGHT", 0.0), batch)
    assert set(losses) - set(base) == {"loss_similarity"}
    for name, value in base.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-5), name
    assert 0 < losses["loss_similarity"].item() <= 0.1 + 1e-6


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_similarity_is_the_mean_cosine_of_paired_probabilities(make_model, form, monkeypatch):
    model = make_model(form, "MODEL.ROI_HEADS.SIMILARITY_WEIGHT", 1.0)
    batch = [make_image([BOX], seed=1), make_image([], seed=2)]
    seen = {}
    classify = model.roi_heads.classify_regions

    def spy_classify(features, boxes):
        seen["boxes"], seen["logits"] = boxes, classify(features, boxes)
        return seen["logits"]

    def spy_pairs(*args):
        seen["pairs"] = pair_regions(*args)
        return seen["pairs"]

    monkeypatch.setattr(model.roi_heads, "classify_regions", spy_classify)
    monkeypatch.setattr("mammo_d2.modeling.roi_heads.similarity.pair_regions", spy_pairs)
    losses = losses_of(model, batch)

    probs = seen["logits"][0].softmax(dim=1)
    positive_boxes, pairs = seen["boxes"][0].tensor, seen["pairs"]
    rows = pairs.foreground[0]
    k = len(rows)
    assert k >= 1
    # The appended ground truth has the highest objectness of all, so it is the first foreground region.
    assert positive_boxes[rows[0]].tolist() == BOX
    suspects = probs[-k:]
    assert seen["boxes"][1].tensor[-k:].tolist() == pairs.suspects[1].tensor.tolist()
    foreground = probs[: len(positive_boxes)][rows]
    cosine = (foreground * suspects).sum(1) / (foreground.norm(dim=1) * suspects.norm(dim=1))
    assert losses["loss_similarity"].item() == pytest.approx(cosine.mean().item(), rel=1e-5)


def test_batch_of_two_pairs_is_the_mean_of_its_pairs(make_model):
    """Whatever K each pair has; otherwise one device with two pairs would not equal two devices with one."""
    model = make_model("FPN", "MODEL.ROI_HEADS.SIMILARITY_WEIGHT", 1.0)
    boxes = [[BOX], [[5.0, 5.0, 60.0, 50.0], [40.0, 8.0, 80.0, 44.0]]]
    pairs = [[make_image(boxes[i], seed=1 + i), make_image([], seed=3 + i)] for i in range(2)]
    model.roi_heads.batch_size_per_image = 10_000  # every proposal is used, so nothing depends on random draws
    single = [losses_of(model, pair)["loss_similarity"].item() for pair in pairs]
    assert single[0] != pytest.approx(single[1], rel=1e-4)
    both = losses_of(model, [*pairs[0], *pairs[1]])["loss_similarity"].item()
    assert both == pytest.approx(sum(single) / 2, rel=1e-5)


@pytest.mark.parametrize("form", ["FPN", "C4"])
@pytest.mark.parametrize("kind", ["negatives", "positives"])
def test_batches_without_pairs_have_zero_similarity_and_backward_works(make_model, form, kind):
    model = make_model(form)
    boxes = [] if kind == "negatives" else [BOX]
    losses = losses_of(model, [make_image(boxes, seed=1), make_image(boxes, seed=2)])
    assert losses["loss_similarity"].item() == 0.0
    sum(losses.values()).backward()
    assert model.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0


def test_inference_is_the_base_heads(make_model):
    model = make_model("FPN", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0).eval()
    with torch.no_grad():
        output = model([make_image([])])[0]["instances"]
    assert output.has("scores")
    assert len(output) <= 100


def test_masks_are_refused(make_model):
    with pytest.raises(ValueError, match="MASK_ON"):
        make_model("FPN", "MODEL.MASK_ON", True)


@pytest.mark.parametrize("form", ["FPN", "C4"])
def test_ignored_negative_images_are_left_out(make_model, form):
    """The losses are those of the positive image alone, although the negative one passes through the backbone."""
    keys = ("MODEL.RPN.NEGATIVE_IMAGES", "ignore", "MODEL.ROI_HEADS.SIMILARITY_WEIGHT", 0.0)
    model, positive = make_model(form, *keys), make_image([BOX], seed=1)
    alone = losses_of(model, [positive])
    both = losses_of(model, [positive, make_image([], seed=2)])
    assert set(both) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    for name, value in alone.items():
        assert both[name].item() == pytest.approx(value.item(), rel=1e-4), name
    negatives = losses_of(model, [make_image([], seed=2)])
    assert [value.item() for value in negatives.values()] == [0.0] * 4
    sum(negatives.values()).backward()
