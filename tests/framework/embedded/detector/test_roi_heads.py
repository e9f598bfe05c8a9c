"""Pooling over levels, sampling of proposals, output layers, and the ROI heads of both forms."""

import pytest
import torch
from torch import nn

from mammo_d2.framework.embedded.backbone.layers import ShapeSpec
from mammo_d2.framework.embedded.config import get_cfg
from mammo_d2.framework.embedded.detector.box_head import FastRCNNConvFCHead
from mammo_d2.framework.embedded.detector.fast_rcnn import fast_rcnn_inference
from mammo_d2.framework.embedded.detector.matching import Matcher
from mammo_d2.framework.embedded.detector.poolers import ROIPooler
from mammo_d2.framework.embedded.detector.roi_heads import Res5ROIHeads, StandardROIHeads, build_roi_heads
from mammo_d2.framework.embedded.structures.boxes import Boxes
from mammo_d2.framework.embedded.structures.instances import ImageList, Instances
from mammo_d2.framework.embedded.utils.events import EventStorage
from tests.framework import engines
from tests.framework.model_parts import output_layers, small_roi_heads

PARTS = engines.load(engines.EMBEDDED)
IMAGES = ImageList(torch.zeros(2, 1, 32, 32), [(32, 32), (32, 32)])


def proposals(*boxes: list[float]) -> Instances:
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances((32, 32), proposal_boxes=Boxes(tensor), objectness_logits=torch.zeros(len(tensor)))


def truth(boxes: list[list[float]], classes: list[int], **fields) -> Instances:
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances((32, 32), gt_boxes=Boxes(tensor), gt_classes=torch.tensor(classes, dtype=torch.int64), **fields)


class TestPooler:
    def test_each_box_is_pooled_from_its_level_in_its_place(self) -> None:
        # A map of stride 4 full of 1, one of stride 8 full of 2; boxes of 16, 112 and 20 pixels, in two images.
        maps = [torch.full((2, 3, 32, 32), 1.0), torch.full((2, 3, 16, 16), 2.0)]
        boxes = [Boxes([[0.0, 0, 16, 16], [0, 0, 112, 112]]), Boxes([[5.0, 5, 25, 25]])]
        pooled = ROIPooler((2, 3), [0.25, 0.125], 0, "ROIAlignV2")(maps, boxes)
        assert pooled.shape == (3, 3, 2, 3)
        assert pooled.mean(dim=(1, 2, 3)).tolist() == [1, 2, 1]

    def test_every_level_has_a_gradient_also_without_boxes(self) -> None:
        maps = [torch.ones(1, 1, 8, 8, requires_grad=True), torch.ones(1, 1, 4, 4, requires_grad=True)]
        for boxes in (Boxes([[0.0, 0, 16, 16]]), Boxes([])):
            pooled = ROIPooler(2, [0.25, 0.125], 0, "ROIAlignV2")(maps, [boxes])
            gradients = torch.autograd.grad(pooled.sum(), maps)
            assert [g.shape for g in gradients] == [m.shape for m in maps]
            assert gradients[1].abs().sum() == 0

    def test_roi_pool_takes_maxima(self) -> None:
        x = torch.arange(16.0).view(1, 1, 4, 4)
        assert ROIPooler(1, [1.0], 0, "ROIPool")([x], [Boxes([[0.0, 0, 2, 2]])]).item() == 10

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((2, [0.25, 0.0625], 0, "ROIAlignV2"), r"strides \[4\.0, 16\.0\]"),
            ((2, [1 / 3], 0, "ROIAlignV2"), "strides"),
            ((2, [0.25], 0, "ROIAlignRotated"), "'ROIAlignRotated'"),
        ],
    )
    def test_bad_settings(self, arguments: tuple, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ROIPooler(*arguments)

    def test_bad_inputs(self) -> None:
        pooler = ROIPooler(2, [0.25], 0, "ROIAlignV2")
        with pytest.raises(ValueError, match="2 feature maps for 1 scales"):
            pooler([torch.zeros(1, 1, 4, 4)] * 2, [Boxes([])])
        with pytest.raises(ValueError, match="boxes of 2 images and features of 1"):
            pooler([torch.zeros(1, 1, 4, 4)], [Boxes([])] * 2)


class TestBoxHead:
    def test_shape_and_names(self) -> None:
        head = FastRCNNConvFCHead(ShapeSpec(channels=2, height=3, width=4), conv_dims=[5], fc_dims=[6, 7])
        assert head(torch.zeros(8, 2, 3, 4)).shape == (8, 7)
        assert head.output_shape == ShapeSpec(channels=7)
        assert {name.split(".")[0] for name in head.state_dict()} == {"conv1", "fc1", "fc2"}
        assert head.fc1.in_features == 5 * 3 * 4
        only_conv = FastRCNNConvFCHead(ShapeSpec(channels=2, height=3, width=4), conv_dims=[5], fc_dims=[])
        assert only_conv.output_shape == ShapeSpec(channels=5, height=3, width=4)

    def test_no_layer_at_all(self) -> None:
        with pytest.raises(ValueError, match="NUM_CONV and NUM_FC"):
            FastRCNNConvFCHead(ShapeSpec(channels=2, height=3, width=3), conv_dims=[], fc_dims=[])


class TestOutputLayers:
    def test_decoding_each_class_and_the_proposals_own(self) -> None:
        layers = output_layers(PARTS, num_classes=2)
        found = proposals([0, 0, 10, 10], [0, 0, 20, 20])
        found.gt_classes = torch.tensor([1, 2])
        # Class 0 stays, class 1 moves by a tenth of the width.
        deltas = torch.tensor([[0.0, 0, 0, 0, 1, 0, 0, 0]] * 2)
        predictions = (torch.zeros(2, 3), deltas)
        (boxes,) = layers.predict_boxes(predictions, [found])
        assert boxes.tolist() == [[0, 0, 10, 10, 1, 0, 11, 10], [0, 0, 20, 20, 2, 0, 22, 20]]
        (own,) = layers.predict_boxes_for_gt_classes(predictions, [found])
        # Background takes the last class.
        assert own.tolist() == [[1, 0, 11, 10], [2, 0, 22, 20]]
        assert found.gt_classes.tolist() == [1, 2]

    def test_probabilities(self) -> None:
        logits = torch.tensor([[0.0, 0.0, 0.0]])
        found = [proposals([0, 0, 1, 1])]
        assert output_layers(PARTS, 2).predict_probs((logits, None), found)[0].tolist() == [[pytest.approx(1 / 3)] * 3]
        sigmoid = output_layers(PARTS, 2, use_sigmoid_ce=True)
        assert sigmoid.predict_probs((logits, None), found)[0].tolist() == [[0.5] * 3]

    def test_sigmoid_loss(self) -> None:
        layers = output_layers(PARTS, 2, use_sigmoid_ce=True)
        # Two classes of two regions, each log 2; divided by the regions.
        loss = layers.sigmoid_cross_entropy_loss(torch.zeros(2, 3), torch.tensor([1, 2]))
        assert loss.item() == pytest.approx(4 * 0.6931472 / 2)
        assert layers.sigmoid_cross_entropy_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).item() == 0

    def test_accuracy_is_logged(self) -> None:
        layers = output_layers(PARTS, 1)
        found = proposals(*[[0, 0, 10, 10]] * 4)
        found.gt_classes, found.gt_boxes = torch.tensor([0, 0, 1, 1]), found.proposal_boxes
        logits = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])
        with EventStorage(0) as storage:
            layers.losses((logits, torch.zeros(4, 4)), [found])
            scalars = {name: value for name, (value, _) in storage.latest().items()}
        prefix = "fast_rcnn/"
        expected = {"cls_accuracy": 0.75, "fg_cls_accuracy": 0.5, "false_negative": 0.5}
        assert scalars == {prefix + name: value for name, value in expected.items()}

    def test_losses_of_no_images(self) -> None:
        layers = output_layers(PARTS, 1)
        with EventStorage(0):
            losses = layers.losses(layers(torch.zeros(0, 4)), [])
        assert [loss.item() for loss in losses.values()] == [0, 0]

    def test_values_that_are_not_finite_are_left_out(self) -> None:
        boxes = torch.tensor([[0.0, 0, 5, 5], [0, 0, float("nan"), 5], [0, 0, 9, 9]])
        scores = torch.tensor([[0.9, 0.1], [0.9, 0.1], [float("inf"), 0.1]])
        (found,), _ = fast_rcnn_inference([boxes], [scores], [(9, 9)], 0.1, 0.5, 10)
        assert found.pred_boxes.tensor.tolist() == [[0, 0, 5, 5]]

    def test_detections_are_clipped_and_can_be_unlimited(self) -> None:
        boxes = torch.tensor([[-5.0, 0, 5, 50], [20, 20, 30, 30]])
        scores = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
        (found,), _ = fast_rcnn_inference([boxes], [scores], [(32, 25)], 0.1, 0.5, -1)
        assert found.pred_boxes.tensor.tolist() == [[0, 0, 5, 32], [20, 20, 25, 30]]

    def test_federated_loss_is_refused(self) -> None:
        cfg = get_cfg()
        cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS = True
        with pytest.raises(ValueError, match="USE_FED_LOSS"):
            PARTS.FastRCNNOutputLayers(cfg, ShapeSpec(channels=4))


class TestSampling:
    def test_sampled_proposals_carry_their_ground_truth(self) -> None:
        heads = small_roi_heads(PARTS, [0.5], [0, 1], batch_size_per_image=8)
        targets = truth([[0, 0, 8, 8], [16, 16, 32, 32]], [1, 0], gt_size=torch.tensor([8, 16]), other=[1, 2])
        with EventStorage(0) as storage:
            (sample,) = heads.label_and_sample_proposals([proposals([16, 16, 31, 32], [0, 16, 8, 30])], [targets])
            scalars = {name: value for name, (value, _) in storage.latest().items()}
        # One proposal matches, one is background; both ground truths were appended. At most half are foreground.
        by_box = {tuple(box.tolist()): i for i, box in enumerate(sample.proposal_boxes)}
        assert set(by_box) == {(16, 16, 31, 32), (0, 16, 8, 30), (0, 0, 8, 8), (16, 16, 32, 32)}
        assert sample.gt_classes[by_box[(16, 16, 31, 32)]] == 0
        assert sample.gt_size[by_box[(16, 16, 31, 32)]] == 16
        assert sample.gt_boxes.tensor[by_box[(16, 16, 31, 32)]].tolist() == [16, 16, 32, 32]
        assert sample.gt_classes[by_box[(0, 16, 8, 30)]] == 2
        assert sample.gt_classes[:3].max() < 2  # foreground first
        assert not sample.has("other")
        assert scalars == {"roi_head/num_fg_samples": 3, "roi_head/num_bg_samples": 1}

    def test_an_image_without_ground_truth_is_all_background(self) -> None:
        heads = small_roi_heads(PARTS, [0.5], [0, 1], batch_size_per_image=8)
        with EventStorage(0):
            (sample,) = heads.label_and_sample_proposals([proposals([0, 0, 8, 8])], [truth([], [])])
        assert sample.gt_classes.tolist() == [2]
        assert not sample.has("gt_boxes")

    def test_ground_truth_need_not_join(self) -> None:
        heads = small_roi_heads(PARTS, [0.5], [0, 1], batch_size_per_image=8)
        heads.proposal_append_gt = False
        with EventStorage(0):
            (sample,) = heads.label_and_sample_proposals([proposals([0, 16, 8, 30])], [truth([[0, 0, 8, 8]], [0])])
        assert sample.gt_classes.tolist() == [2]


class TestStandardROIHeads:
    features = staticmethod(lambda: {"f": torch.randn(2, 1, 8, 8, requires_grad=True)})

    @pytest.mark.parametrize("boxes", [[[0, 0, 8, 8]], []])
    def test_training_also_without_any_ground_truth(self, boxes: list) -> None:
        heads, features = small_roi_heads(PARTS, [0.5], [0, 1], batch_size_per_image=4), self.features()
        targets = [truth(boxes, [0] * len(boxes)), truth([], [])]
        with EventStorage(0):
            found = [proposals([0, 0, 8, 8], [4, 4, 20, 20]), proposals([4, 4, 8, 20])]
            sampled, losses = heads(IMAGES, features, found, targets)
            sum(losses.values()).backward()
        assert [len(p) for p in sampled] == [3 if boxes else 2, 1]
        assert sorted(losses) == ["loss_box_reg", "loss_cls"]
        assert (losses["loss_box_reg"] > 0) == bool(boxes)
        assert features["f"].grad.abs().sum() > 0

    def test_without_any_proposal(self) -> None:
        heads, features = small_roi_heads(PARTS, [0.5], [0, 1], batch_size_per_image=4), self.features()
        with EventStorage(0):
            _, losses = heads(IMAGES, features, [proposals(), proposals()], [truth([], []), truth([], [])])
            sum(losses.values()).backward()
        assert [loss.item() for loss in losses.values()] == [0, 0]
        assert features["f"].grad.abs().sum() == 0
        (first, second), nothing = heads.eval()(IMAGES, features, [proposals(), proposals()])
        assert (len(first), len(second), nothing) == (0, 0, {})

    def test_training_on_predicted_boxes(self) -> None:
        heads = small_roi_heads(PARTS, [0.5], [0, 1], batch_size_per_image=4)
        heads.train_on_pred_boxes = True
        nn.init.zeros_(heads.box_predictor.bbox_pred.weight)
        heads.box_predictor.bbox_pred.bias.data = torch.tensor([0.0, 0, 0, 0, 10, 0, 0, 0])
        with EventStorage(0):
            sampled, _ = heads(
                IMAGES, self.features(), [proposals(), proposals()], [truth([[0, 0, 8, 8]], [1]), truth([], [])]
            )
        assert sampled[0].proposal_boxes.tensor.tolist() == [[8, 0, 16, 8]]

    def test_training_needs_ground_truth(self) -> None:
        heads = small_roi_heads(PARTS, [0.5], [0, 1], batch_size_per_image=4)
        with pytest.raises(ValueError, match="'instances'"):
            heads(IMAGES, self.features(), [proposals(), proposals()])

    def test_maps_must_have_equal_channels(self) -> None:
        cfg = get_cfg()
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["a", "b"]
        shapes = {"a": ShapeSpec(channels=4, stride=4), "b": ShapeSpec(channels=8, stride=8)}
        with pytest.raises(ValueError, match="same number of channels"):
            StandardROIHeads(cfg, shapes)


class TestRes5ROIHeads:
    def heads(self) -> Res5ROIHeads:
        return Res5ROIHeads(
            in_features=["f"],
            pooler=ROIPooler(4, [0.25], 0, "ROIAlignV2"),
            res5=[nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU()],
            box_predictor=output_layers(PARTS, 2),
            num_classes=2,
            batch_size_per_image=4,
            positive_fraction=0.5,
            proposal_matcher=Matcher([0.5], [0, 1]),
        )

    def test_training_and_inference(self) -> None:
        heads, features = self.heads(), {"f": torch.randn(2, 1, 8, 8, requires_grad=True)}
        found = [proposals([0, 0, 8, 8]), proposals([4, 4, 8, 20])]
        with EventStorage(0):
            nothing, losses = heads(IMAGES, features, found, [truth([[0, 0, 8, 8]], [0]), truth([], [])])
            sum(losses.values()).backward()
        assert nothing == []
        assert heads.res5[0].weight.grad.abs().sum() > 0
        detections, losses = heads.eval()(IMAGES, features, found)
        assert losses == {}
        assert sorted(detections[0].get_fields()) == ["pred_boxes", "pred_classes", "scores"]

    def test_one_feature_only(self) -> None:
        cfg = get_cfg()
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4", "res5"]
        with pytest.raises(ValueError, match="must be one feature for Res5ROIHeads"):
            Res5ROIHeads(cfg, {})


@pytest.mark.parametrize("key", ["MASK_ON", "KEYPOINT_ON"])
def test_masks_and_keypoints_are_refused(key: str) -> None:
    cfg = get_cfg()
    cfg.MODEL[key] = True
    with pytest.raises(ValueError, match=f"MODEL.{key}"):
        build_roi_heads(cfg, {})
