"""Anchors, box regression, matching and the region proposal network."""

import math

import pytest
import torch
from torch import nn

from mammo_d2.framework.embedded.backbone.layers import ShapeSpec
from mammo_d2.framework.embedded.detector.anchors import DefaultAnchorGenerator
from mammo_d2.framework.embedded.detector.box_regression import Box2BoxTransform, box_regression_loss
from mammo_d2.framework.embedded.detector.matching import Matcher, subsample_labels
from mammo_d2.framework.embedded.detector.proposals import add_ground_truth_to_proposals, suppress_proposals
from mammo_d2.framework.embedded.detector.rpn import RPN, StandardRPNHead
from mammo_d2.framework.embedded.structures.boxes import Boxes
from mammo_d2.framework.embedded.structures.instances import ImageList, Instances
from mammo_d2.framework.embedded.utils.events import EventStorage
from tests.framework import engines
from tests.framework.model_parts import small_rpn

PARTS = engines.load(engines.EMBEDDED)


class TestAnchors:
    def test_sizes_and_ratios_spread_over_the_maps(self) -> None:
        generator = DefaultAnchorGenerator(sizes=[[8], [16]], aspect_ratios=[1, 4], strides=[4, 8])
        assert generator.num_anchors == [2, 2]
        first, second = generator([torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 1, 1)])
        assert (len(first), len(second)) == (12, 2)
        # Centred at half a stride; the second has a height of 4 widths.
        assert second.tensor.tolist() == [[-4, -4, 12, 12], [0, -12, 8, 20]]

    def test_another_image_size_gives_other_anchors(self) -> None:
        generator = DefaultAnchorGenerator(sizes=[8], aspect_ratios=[1], strides=[4])
        counts = [len(generator([torch.zeros(1, 1, *size)])[0]) for size in ((2, 3), (5, 1), (2, 3))]
        assert counts == [6, 5, 6]

    def test_anchors_are_no_parameters_and_not_saved(self) -> None:
        generator = DefaultAnchorGenerator(sizes=[8], aspect_ratios=[1], strides=[4])
        assert generator.state_dict() == {}
        assert generator.to("meta").cell_anchors._buffers["0"].device.type == "meta"

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"sizes": [[8], [16], [32]]}, "SIZES has 3 lists for 2 feature maps"),
            ({"aspect_ratios": []}, "ASPECT_RATIOS is empty"),
            ({"offset": 1.0}, "OFFSET is 1.0"),
        ],
    )
    def test_bad_settings(self, keys: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            DefaultAnchorGenerator(**{"sizes": [8], "aspect_ratios": [1], "strides": [4, 8], **keys})


class TestBoxRegression:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 25, 15]])
    targets = torch.tensor([[1.0, 0, 11, 10], [5, 0, 25, 20]])

    def test_deltas_by_hand_and_back(self) -> None:
        transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
        deltas = transform.get_deltas(self.boxes, self.targets)
        assert torch.allclose(deltas, torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 5 * math.log(2)]]))
        assert torch.allclose(transform.apply_deltas(deltas, self.boxes), self.targets, atol=1e-5)

    def test_several_sets_of_deltas_per_box(self) -> None:
        transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        decoded = transform.apply_deltas(torch.tensor([[0.0, 0, 0, 0, 0.5, 0, 0, 0]]), self.boxes[:1])
        assert decoded.tolist() == [[0, 0, 10, 10, 5, 0, 15, 10]]
        assert transform.apply_deltas(torch.zeros(0, 8), torch.zeros(0, 4)).shape == (0, 8)

    def test_boxes_without_width_are_refused(self) -> None:
        with pytest.raises(ValueError, match="zero or negative width"):
            Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(torch.tensor([[3.0, 0, 3, 5]]), self.targets[:1])

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("smooth_l1", 0.1),
            # IoU 9 / 11; the smallest enclosing box is the union's size.
            ("giou", 1 - 90 / 110),
            # Centres 1 apart, diagonal of the enclosing box 11 x 10.
            ("diou", 1 - 90 / 110 + 1 / 221),
            # Equal aspect ratios: as diou.
            ("ciou", 1 - 90 / 110 + 1 / 221),
        ],
    )
    def test_losses_by_hand(self, kind: str, expected: float) -> None:
        transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        loss = box_regression_loss(transform, torch.zeros(1, 4), self.boxes[:1], self.targets[:1], kind)
        assert loss.item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
    def test_no_boxes_give_zero_with_a_graph(self, kind: str) -> None:
        deltas = torch.zeros(0, 4, requires_grad=True)
        loss = box_regression_loss(Box2BoxTransform((1.0,) * 4), deltas, torch.zeros(0, 4), torch.zeros(0, 4), kind)
        loss.backward()
        assert loss.item() == 0

    def test_unknown_loss(self) -> None:
        with pytest.raises(ValueError, match="'l2'"):
            box_regression_loss(Box2BoxTransform((1.0,) * 4), self.boxes, self.boxes, self.boxes, "l2")


class TestMatching:
    @pytest.mark.parametrize(
        ("thresholds", "labels", "message"),
        [
            ([], [1], "ascending"),
            ([0.7, 0.3], [0, -1, 1], "ascending"),
            ([0.0], [0, 1], "positive"),
            ([0.5], [0, 2], "out of"),
            ([0.5], [0], "must be 2"),
        ],
    )
    def test_bad_settings(self, thresholds: list, labels: list, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Matcher(thresholds, labels)

    @pytest.mark.parametrize(
        ("count", "fraction", "drawn"),
        [(4, 0.5, (2, 2)), (4, 0.25, (1, 3)), (10, 0.5, (3, 5)), (2, 1.0, (2, 0)), (0, 0.5, (0, 0))],
    )
    def test_sample_sizes(self, count: int, fraction: float, drawn: tuple) -> None:
        labels = torch.tensor([1] * 3 + [0] * 5 + [-1] * 4)
        positive, negative = subsample_labels(labels, count, fraction, 0)
        assert (len(positive), len(negative)) == drawn
        assert set(positive.tolist()) <= {0, 1, 2}
        assert set(negative.tolist()) <= {3, 4, 5, 6, 7}
        assert len(set(negative.tolist())) == len(negative)

    def test_every_candidate_can_be_drawn(self) -> None:
        labels = torch.tensor([1, 1, 1, 0, 0, 0])
        torch.manual_seed(0)
        draws = [torch.cat(subsample_labels(labels, 2, 0.5, 0)).tolist() for _ in range(60)]
        assert {i for draw in draws for i in draw} == set(range(6))


class TestHead:
    def test_shapes_and_names(self) -> None:
        head = StandardRPNHead(in_channels=8, num_anchors=3)
        logits, deltas = head([torch.zeros(2, 8, 4, 5), torch.zeros(2, 8, 2, 2)])
        assert [x.shape for x in logits] == [(2, 3, 4, 5), (2, 3, 2, 2)]
        assert [x.shape for x in deltas] == [(2, 12, 4, 5), (2, 12, 2, 2)]
        layers = ("conv", "objectness_logits", "anchor_deltas")
        assert list(head.state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]

    def test_several_convolutions(self) -> None:
        head = StandardRPNHead(in_channels=8, num_anchors=1, conv_dims=[4, -1])
        assert (head.conv.conv0.out_channels, head.conv.conv1.out_channels) == (4, 4)
        assert head([torch.zeros(1, 8, 2, 2)])[0][0].shape == (1, 1, 2, 2)
        with pytest.raises(ValueError, match="CONV_DIMS"):
            StandardRPNHead(in_channels=8, num_anchors=1, conv_dims=[0, 4])

    def test_maps_must_agree(self) -> None:
        cfg = PARTS.get_cfg()
        cfg.MODEL.RPN.IN_FEATURES = ["a", "b"]
        shapes = {"a": ShapeSpec(channels=4, stride=4), "b": ShapeSpec(channels=8, stride=8)}
        with pytest.raises(ValueError, match=r"\[4, 8\] channels"):
            RPN(cfg, shapes)


def truth(*boxes: list[float], size: tuple[int, int] = (32, 32)) -> Instances:
    return Instances(size, gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)))


class TestRPN:
    images = ImageList(torch.zeros(2, 1, 32, 32), [(32, 32), (32, 32)])

    def features(self) -> dict:
        x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        return {"f": x.requires_grad_()}

    def test_training_step(self) -> None:
        rpn, features = small_rpn(PARTS), self.features()
        with EventStorage(0) as storage:
            proposals, losses = rpn(self.images, features, [truth([0, 0, 8, 8]), truth()])
            sum(losses.values()).backward()
            scalars = {name: value for name, (value, _) in storage.latest().items()}
        assert sorted(losses) == ["loss_rpn_cls", "loss_rpn_loc"]
        assert rpn.rpn_head.anchor_deltas.weight.grad.abs().sum() > 0
        assert features["f"].grad.abs().sum() > 0
        # Anchors of 8 at (4, 4), and ties: the one at the box itself is at (4, 4) only.
        assert scalars["rpn/num_pos_anchors"] == 0.5
        assert scalars["rpn/num_pos_anchors"] + scalars["rpn/num_neg_anchors"] == 8
        assert all(len(p) <= 5 and not p.proposal_boxes.tensor.requires_grad for p in proposals)
        assert all((p.objectness_logits.diff() <= 0).all() for p in proposals)

    def test_only_negatives(self) -> None:
        rpn = small_rpn(PARTS)
        with EventStorage(0):
            _, losses = rpn(self.images, self.features(), [truth(), truth()])
            sum(losses.values()).backward()
        assert losses["loss_rpn_loc"].item() == 0
        assert losses["loss_rpn_cls"].item() > 0
        assert rpn.rpn_head.anchor_deltas.weight.grad.abs().sum() == 0

    def test_training_needs_ground_truth(self) -> None:
        with pytest.raises(ValueError, match="'instances'"):
            small_rpn(PARTS)(self.images, self.features(), None)

    def test_anchors_outside_are_not_trained_on(self) -> None:
        rpn = small_rpn(PARTS, anchor_boundary_thresh=0, batch_size_per_image=1000)
        anchors = rpn.anchor_generator([torch.zeros(1, 1, 8, 8)])
        # Anchors of 8 fit around cells 1 to 7 of an image of 33 pixels, those of 16 around cells 2 to 6. In one of 32
        # pixels the last of them touch the border, which is outside already.
        for size, counted in ((33, 7 * 7 + 5 * 5), (32, 6 * 6 + 4 * 4)):
            (labels,), _ = rpn.label_and_sample_anchors(anchors, [truth(size=(size, size))])
            assert int((labels >= 0).sum()) == counted

    def test_loss_weights_by_name(self) -> None:
        for weight, factors in ((2.0, (2, 2)), ({"loss_rpn_loc": 3.0}, (1, 3))):
            losses = []
            for given in (1.0, weight):
                rpn = small_rpn(PARTS, loss_weight=given)
                for p in rpn.parameters():
                    nn.init.constant_(p, 0.01)
                torch.manual_seed(0)
                with EventStorage(0):
                    losses.append(rpn(self.images, self.features(), [truth([1, 0, 9, 8]), truth()])[1])
            plain, weighted = losses
            for name, factor in zip(("loss_rpn_cls", "loss_rpn_loc"), factors, strict=True):
                assert weighted[name].item() == pytest.approx(factor * plain[name].item())

    def test_proposals_are_those_of_decoding_every_anchor(self) -> None:
        rpn = small_rpn(PARTS).eval()
        generator = torch.Generator().manual_seed(1)
        anchors = rpn.anchor_generator([torch.zeros(1, 1, 8, 8)])
        logits = [torch.randn(2, 128, generator=generator)]
        deltas = [0.3 * torch.randn(2, 128, 4, generator=generator)]
        found = rpn.predict_proposals(anchors, logits, deltas, self.images.image_sizes)
        every = torch.stack([rpn.box2box_transform.apply_deltas(d, anchors[0].tensor) for d in deltas[0]])
        best, index = logits[0].topk(10, dim=1)
        boxes = every.gather(1, index[..., None].expand(-1, -1, 4))
        expected = suppress_proposals([boxes], [best], self.images.image_sizes, 0.7, 5, 0.0, training=False)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.proposal_boxes.tensor, b.proposal_boxes.tensor)
            assert torch.equal(a.objectness_logits, b.objectness_logits)

    def test_a_subclass_can_replace_labels_and_losses(self) -> None:
        class AllBackground(RPN):
            def label_and_sample_anchors(self, anchors, gt_instances):
                labels, boxes = super().label_and_sample_anchors(anchors, gt_instances)
                return [torch.zeros_like(label) for label in labels], boxes

            def losses(self, anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes):
                found = super().losses(anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes)
                return {**found, "loss_extra": pred_objectness_logits[0].mean()}

        rpn = small_rpn(PARTS)
        rpn.__class__ = AllBackground
        with EventStorage(0):
            _, losses = rpn(self.images, self.features(), [truth([0, 0, 8, 8]), truth()])
        assert losses["loss_rpn_loc"].item() == 0
        assert "loss_extra" in losses


def test_ground_truth_must_fit_the_proposals() -> None:
    proposals = Instances((9, 9), proposal_boxes=Boxes([]), objectness_logits=torch.zeros(0), level=torch.zeros(0))
    with pytest.raises(ValueError, match=r"\['level'\]"):
        add_ground_truth_to_proposals([truth([0, 0, 1, 1])], [proposals])
    with pytest.raises(ValueError, match="of 2 images and proposals of 1"):
        add_ground_truth_to_proposals([truth(), truth()], [proposals])
