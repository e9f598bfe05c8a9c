"""Places where detectron2's behaviour is subtle: those of the model half, with the number, on both engines.

1 to 20, 28 and 30 of the project's list; the others are in test_engine_semantics_job.py. Point 20, the numerics of
resizing, is that of its augmentations: the embedded engine has none (data.loading.augmentation resizes), so the
test there holds only what both engines must not do, resize or round an image they are given.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.framework import engines, model_parts
from tests.framework.engines import Engine


@pytest.fixture(params=engines.BOTH)
def parts(request: pytest.FixtureRequest) -> Engine:
    return engines.load(request.param)


def close(actual: torch.Tensor, expected: list, tolerance: float = 1e-5) -> bool:
    return torch.allclose(actual, torch.tensor(expected, dtype=actual.dtype), rtol=0, atol=tolerance)


def test_01_anchors_are_ordered_by_size_then_ratio_and_not_rounded(parts: Engine) -> None:
    generator = parts.DefaultAnchorGenerator(sizes=[[32, 64]], aspect_ratios=[[0.25, 1, 4]], strides=[4], offset=0.0)
    (anchors,) = generator([torch.zeros(1, 1, 1, 2)])
    expected = [[-32, -8, 32, 8], [-16, -16, 16, 16], [-8, -32, 8, 32], [-64, -16, 64, 16], [-32, -32, 32, 32]]
    assert anchors.tensor[:5].tolist() == expected
    # The second cell is one stride further; with the config's offset of 0 the first one is on the image corner.
    assert anchors.tensor[6].tolist() == [-28, -8, 36, 8]
    (unrounded,) = parts.DefaultAnchorGenerator(sizes=[[32]], aspect_ratios=[[0.5]], strides=[4])(
        [torch.zeros(1, 1, 1, 1)]
    )
    # width sqrt(1024 / 0.5) = 45.254834, height half of it; centred at half a stride
    assert close(unrounded.tensor, [[2 - 22.627417, 2 - 11.3137085, 2 + 22.627417, 2 + 11.3137085]])
    assert parts.get_cfg().MODEL.ANCHOR_GENERATOR.OFFSET == 0.0


def test_02_maps_are_flattened_by_cell_and_deltas_lie_together(parts: Engine) -> None:
    rpn = model_parts.small_rpn(parts)
    anchors = rpn.anchor_generator([torch.zeros(1, 1, 2, 3)])

    class Head(nn.Module):
        """Writes into every output which (row, column, anchor) it belongs to, and which delta it is."""

        def forward(self, features):
            y, x = torch.meshgrid(torch.arange(2.0), torch.arange(3.0), indexing="ij")
            logits = torch.stack([100 * y + 10 * x + a for a in range(2)])[None]
            deltas = torch.stack([100 * y + 10 * x + a + d / 10 for a in range(2) for d in range(4)])[None]
            return [logits], [deltas]

    seen = {}

    class Recorder(parts.RPN):
        def predict_proposals(self, anchors, logits, deltas, image_sizes):
            seen.update(logits=logits[0], deltas=deltas[0])
            return []

    rpn.__class__, rpn.rpn_head = Recorder, Head()
    rpn.eval()(parts.ImageList(torch.zeros(1, 1, 8, 12), [(8, 12)]), {"f": torch.zeros(1, 1, 2, 3)}, None)
    assert seen["logits"].tolist() == [[0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121]]
    assert close(seen["deltas"][0, 3], [11, 11.1, 11.2, 11.3])
    # Anchors come in the same order: number 3 is the second of the second cell.
    assert anchors[0].tensor[3].tolist() == [4 - 8, -8, 4 + 8, 8]


def test_03_matcher(parts: Engine) -> None:
    matcher = parts.Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    # Half-open: a quality of 0.7 is positive already, 0.3 is ignored already.
    quality = torch.tensor([[0.7, 0.3, 0.29, 0.69]])
    assert matcher(quality)[1].tolist() == [1, -1, 0, -1]
    # Ties of a ground truth's best, 0.2, are all positive, and keep the ground truth they match best themselves.
    quality = torch.tensor([[0.8, 0.25, 0.1, 0.25], [0.1, 0.2, 0.2, 0.0]])
    matches, labels = matcher(quality)
    assert matches.tolist() == [0, 0, 1, 0]
    assert labels.tolist() == [1, 1, 1, 0]
    # A ground truth that meets no anchor has the best quality 0, which all anchors share: all become positive.
    assert matcher(torch.tensor([[0.0, 0.0, 0.0]]))[1].tolist() == [1, 1, 1]
    # No ground truth: the lowest interval's label.
    matches, labels = matcher(torch.zeros(0, 3))
    assert (matches.tolist(), labels.tolist(), labels.dtype) == ([0, 0, 0], [0, 0, 0], torch.int8)
    assert parts.Matcher([0.5], [-1, 1])(torch.zeros(0, 2))[1].tolist() == [-1, -1]


def test_04_sampling_permutes_positives_then_negatives(parts: Engine) -> None:
    labels = torch.tensor([0, 1, 0, -1, 1, 0, 1, 0, 0])
    torch.manual_seed(3)
    positive, negative = parts.subsample_labels(labels, 5, 0.5, 0)
    torch.manual_seed(3)
    first, second = torch.randperm(3), torch.randperm(5)
    assert positive.tolist() == torch.tensor([1, 4, 6])[first[:2]].tolist()
    assert negative.tolist() == torch.tensor([0, 2, 5, 7, 8])[second[:3]].tolist()
    # Neither the permutation of no positives nor that of negatives that are not needed is left out.
    torch.manual_seed(3)
    parts.subsample_labels(torch.tensor([0, 0, 0]), 0, 0.5, 0)
    after = torch.rand(1)
    torch.manual_seed(3)
    torch.randperm(0), torch.randperm(3)
    assert torch.equal(after, torch.rand(1))


def test_05_rpn_losses_are_divided_by_the_nominal_number_of_anchors(parts: Engine) -> None:
    rpn = model_parts.small_rpn(parts, batch_size_per_image=10)
    anchors = [parts.Boxes(torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 9, 9]]))]
    logits = [torch.tensor([[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]])]
    labels = [torch.tensor([1, 0, -1]), torch.tensor([-1, -1, 0])]
    deltas = [torch.zeros(2, 3, 4)]
    targets = [torch.tensor([[1.0, 0, 11, 10]] * 3), torch.zeros(3, 4)]
    with parts.EventStorage(0) as storage:
        losses = rpn.losses(anchors, logits, labels, deltas, targets)
        scalars = {name: value for name, (value, _) in storage.latest().items()}
    # Three anchors were sampled, but both sums are divided by 10 anchors x 2 images.
    softplus = [math.log(1 + math.exp(x)) for x in (0.0, 1.0, 0.0)]
    assert losses["loss_rpn_cls"].item() == pytest.approx(sum(softplus) / 20)
    # The one positive anchor should move by 1 of its 10 pixels.
    assert losses["loss_rpn_loc"].item() == pytest.approx(0.1 / 20)
    assert scalars == {"rpn/num_pos_anchors": 0.5, "rpn/num_neg_anchors": 1.0}


def test_06_smooth_l1_with_beta_0_is_l1(parts: Engine) -> None:
    assert parts.get_cfg().MODEL.RPN.SMOOTH_L1_BETA == 0.0
    for beta, expected in ((0.0, 0.1), (0.2, 0.5 * 0.1**2 / 0.2)):
        loss = model_parts.rpn_box_loss(parts, "smooth_l1", beta, deltas=[0, 0, 0, 0], gt=[1, 0, 11, 10])
        assert loss == pytest.approx(expected, abs=1e-7)


def test_07_decoding(parts: Engine) -> None:
    transform = parts.Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
    box = torch.tensor([[0.0, 0, 16, 32]])
    # Scaling stops at 1000 / 16: 16 becomes 1000 wide, 32 becomes 2000 high.
    decoded = transform.apply_deltas(torch.tensor([[0.0, 0, 9, 9]]), box)
    assert close(decoded, [[8 - 500, 16 - 1000, 8 + 500, 16 + 1000]], 1e-3)
    half = transform.apply_deltas(torch.tensor([[0.1, 0, 0, 0]], dtype=torch.float16), box.half())
    assert half.dtype == torch.float32
    cfg = parts.get_cfg()
    assert cfg.MODEL.RPN.BBOX_REG_WEIGHTS == (1.0, 1.0, 1.0, 1.0)
    assert cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS == (10.0, 10.0, 5.0, 5.0)
    roi = parts.Box2BoxTransform(weights=cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
    # Deltas 1, 0, ln 2 x 5, 0: a tenth of the width to the right, twice as wide.
    decoded = roi.apply_deltas(torch.tensor([[1.0, 0, 5 * math.log(2), 0]]), box)
    assert close(decoded, [[9.6 - 16, 0, 9.6 + 16, 32]])
    assert close(roi.get_deltas(box, decoded), [[1, 0, 5 * math.log(2), 0]])


def test_08_proposals(parts: Engine) -> None:
    fine = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [50, 50, 53, 90]])
    coarse = torch.tensor([[0.0, 0, 10, 10], [-5, -5, 45, 200]])
    logits = [torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[2.5, 0.5]])]

    def find(pre: int = 10, post: int = 10, size: float = 0.0, training: bool = True, scores=logits):
        (found,) = model_parts.top_proposals(parts, [fine, coarse], scores, [(60, 40)], pre, post, size, training)
        return found.proposal_boxes.tensor.tolist(), found.objectness_logits.tolist()

    boxes, scores = find()
    # The second box of the fine map overlaps the first by 0.9 and goes; the same box on the coarse map stays. The
    # fourth lies outside the image, is clipped to nothing, and goes.
    assert scores == [4.0, 2.5, 2.0, 0.5]
    assert boxes == [[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 40, 60]]
    # The limit before NMS is per map, the one after it over all maps.
    assert find(pre=1)[1] == [4.0, 2.5]
    assert find(post=2)[1] == [4.0, 2.5]
    # A side of exactly the smallest size is too small.
    assert find(size=10)[1] == [0.5]
    bad = [torch.tensor([[4.0, 3.0, float("nan"), 1.0]]), logits[1]]
    with pytest.raises(FloatingPointError):
        find(scores=bad)
    assert find(scores=bad, training=False)[1] == [4.0, 2.5, 0.5]


def test_09_boxes_are_clipped_to_width_and_height(parts: Engine) -> None:
    boxes = parts.Boxes(torch.tensor([[-3.0, 5, 120, 70]]))
    boxes.clip((60, 100))
    assert boxes.tensor.tolist() == [[0, 5, 100, 60]]


def test_10_appended_ground_truth_comes_last_and_is_certain(parts: Engine) -> None:
    proposals = [parts.Instances((9, 9), proposal_boxes=parts.Boxes([[0.0, 0, 1, 1]]), objectness_logits=torch.ones(1))]
    truth = [parts.Instances((9, 9), gt_boxes=parts.Boxes([[2.0, 2, 5, 5]]), gt_classes=torch.tensor([1]))]
    (joined,) = parts.add_ground_truth_to_proposals(truth, proposals)
    assert joined.proposal_boxes.tensor.tolist() == [[0, 0, 1, 1], [2, 2, 5, 5]]
    assert joined.objectness_logits.tolist() == pytest.approx([1.0, 23.0258509], abs=1e-5)
    assert sorted(joined.get_fields()) == ["objectness_logits", "proposal_boxes"]


def test_11_background_is_the_last_class_and_ignored_is_minus_1(parts: Engine) -> None:
    heads = model_parts.small_roi_heads(parts, thresholds=[0.3, 0.5], labels=[0, -1, 1], batch_size_per_image=8)
    matches, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, -1, 1], dtype=torch.int8)
    sampled, classes = heads._sample_proposals(matches, labels, torch.tensor([1, 0]))
    # Classes of the two ground truths are 1 and 0, of K = 2; proposal 2 is ignored and cannot be sampled.
    assert dict(zip(sampled.tolist(), classes.tolist(), strict=True)) == {0: 1, 3: 0, 1: 2}
    layers = model_parts.output_layers(parts, num_classes=2)
    assert layers.cls_score.out_features == 3
    # A certain background (last column) gives no detection.
    boxes, scores = torch.tensor([[0.0, 0, 5, 5] * 2]), torch.tensor([[0.05, 0.05, 0.9]])
    (found,), _ = parts.fast_rcnn_inference([boxes], [scores], [(9, 9)], 0.1, 0.5, 10)
    assert len(found) == 0


def test_12_roi_losses(parts: Engine) -> None:
    layers = model_parts.output_layers(parts, num_classes=1)
    boxes = parts.Boxes([[0.0, 0, 10, 10], [0, 0, 4, 4]])
    positive = parts.Instances(
        (20, 20), proposal_boxes=boxes, gt_classes=torch.tensor([0, 1]), gt_boxes=parts.Boxes([[1.0, 0, 11, 10]] * 2)
    )
    # An image without ground truth: its proposals have no gt_boxes.
    negative = parts.Instances((20, 20), proposal_boxes=boxes, gt_classes=torch.tensor([1, 1]))
    logits = torch.tensor([[0.0, 1.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    with parts.EventStorage(0):
        losses = layers.losses((logits, torch.zeros(4, 4)), [positive, negative])
    entropy = [math.log(1 + math.e), math.log(2), math.log(1 + math.exp(2)), math.log(2)]
    assert losses["loss_cls"].item() == pytest.approx(sum(entropy) / 4)
    # One foreground ROI, off by a tenth of its width times the weight 10; divided by all four ROIs.
    assert losses["loss_box_reg"].item() == pytest.approx(1.0 / 4)


def test_12_no_roi_at_all_gives_zero_losses_with_a_graph(parts: Engine) -> None:
    layers = model_parts.output_layers(parts, num_classes=2)
    empty = parts.Instances(
        (8, 8), proposal_boxes=parts.Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.int64)
    )
    with parts.EventStorage(0):
        losses = layers.losses(layers(torch.zeros(0, 4)), [empty])
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0, 0]
    assert layers.cls_score.weight.grad.abs().sum() == 0


def test_13_level_of_a_box(parts: Engine) -> None:
    # floor(4 + log2(side / 224 + 1e-8)): side 112 is the first of level 3; 111.9999 is level 2, where torchvision's
    # epsilon outside the logarithm would make it 3.
    sides = [(111.9999, 112.0), (112.0, 112.0), (223.9, 224), (224, 224), (1.0, 1.0), (0.0, 0.0), (5000, 5000)]
    boxes = [parts.Boxes(torch.tensor([[0.0, 0, w, h] for w, h in sides]))]
    levels = parts.assign_boxes_to_levels(boxes, 2, 5, 224, 4)
    assert (levels + 2).tolist() == [2, 3, 3, 4, 2, 2, 5]


def test_14_roi_align_is_aligned_and_samples_every_cell(parts: Engine) -> None:
    cfg = parts.get_cfg()
    assert (cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE, cfg.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO) == ("ROIAlignV2", 0)
    # On a map whose cells hold their column, a bin's mean is the column at its centre: x in cells, minus a half.
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    boxes = [parts.Boxes([[8.0, 8, 40, 40]])]
    pooled = parts.ROIPooler(2, [0.25], 0, "ROIAlignV2")([ramp], boxes)
    assert close(pooled[0, 0], [[3.5, 7.5], [3.5, 7.5]])
    assert close(parts.ROIPooler(2, [0.25], 0, "ROIAlign")([ramp], boxes)[0, 0], [[4.0, 8.0], [4.0, 8.0]])
    # The same numbers where gradients are computed, which takes another way in the embedded engine.
    trained = parts.ROIPooler(2, [0.25], 0, "ROIAlignV2")([ramp.clone().requires_grad_()], boxes)
    assert close(trained[0, 0], [[3.5, 7.5], [3.5, 7.5]])


def test_15_inference_takes_scores_above_the_threshold_and_suppresses_within_a_class(parts: Engine) -> None:
    box, shifted = [0.0, 0, 10, 10], [1.0, 0, 11, 10]
    boxes = torch.tensor([[*box, *box], [*shifted, *shifted], [*box, *box]])
    scores = torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [0.05, 0.05, 0.9]])
    (found,), (regions,) = parts.fast_rcnn_inference([boxes], [scores], [(20, 20)], 0.3, 0.5, 10)
    # 0.3 is not above the threshold; 0.4 of class 0 overlaps 0.6 by 9 / 11; class 1 is by itself.
    assert found.scores.tolist() == pytest.approx([0.6, 0.5])
    assert found.pred_classes.tolist() == [0, 1]
    assert found.pred_boxes.tensor.tolist() == [box, shifted]
    assert regions.tolist() == [0, 1]
    (best,), _ = parts.fast_rcnn_inference([boxes], [scores], [(20, 20)], 0.3, 0.5, 1)
    assert best.scores.tolist() == pytest.approx([0.6])


def test_16_postprocessing_scales_the_callers_boxes(parts: Engine) -> None:
    raw = parts.Instances((10, 20), pred_boxes=parts.Boxes([[1.0, 1, 4, 3]]), scores=torch.ones(1))
    tensor = raw.pred_boxes.tensor
    resized = parts.detector_postprocess(raw, 20, 60)
    assert resized.image_size == (20, 60)
    assert resized.pred_boxes.tensor.tolist() == [[3, 2, 12, 6]]
    assert raw.pred_boxes.tensor.tolist() == [[3, 2, 12, 6]]
    assert tensor.tolist() == [[3, 2, 12, 6]]


def test_17_frozen_batch_norm(parts: Engine) -> None:
    norm = parts.FrozenBatchNorm2d(3)
    assert list(norm.parameters()) == []
    assert sorted(norm.state_dict()) == ["bias", "running_mean", "running_var", "weight"]
    assert norm.running_var.tolist() == [np.float32(1) - np.float32(1e-5)] * 3
    # Two ways of computing, about 1e-5 apart for inputs around 100: each must be the one detectron2 takes.
    generator = torch.Generator().manual_seed(0)
    for buffer in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        buffer.copy_(torch.rand(3, generator=generator) + 0.5)
    x = 100 * torch.randn(1, 3, 64, 64, generator=generator)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    by_hand = x * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)
    with_gradient = norm(x.clone().requires_grad_())
    without = norm(x)
    assert torch.equal(with_gradient, by_hand)
    expected = torch.batch_norm(
        x, norm.weight, norm.bias, norm.running_mean, norm.running_var, False, 0.0, norm.eps, False
    )
    assert torch.equal(without, expected)
    assert (with_gradient - without).abs().max() < 1e-4


def test_18_resnet(parts: Engine) -> None:
    cfg = parts.get_cfg()
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is True
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3"]
    net = parts.build_resnet_backbone(cfg, parts.ShapeSpec(channels=3))
    assert (net.res3[0].conv1.stride, net.res3[0].conv2.stride) == ((2, 2), (1, 1))
    keys = list(net.state_dict())
    assert {f"res2.0.shortcut.norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")} <= set(keys)
    assert not any("num_batches_tracked" in key for key in keys)
    assert not any(key.startswith(("res4", "res5")) for key in keys)  # nothing behind the last feature asked for
    assert [name for name, p in net.named_parameters() if p.requires_grad and not name.startswith("res3")] == []
    assert all(p.requires_grad for p in net.res3.parameters())
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    net = parts.build_resnet_backbone(cfg, parts.ShapeSpec(channels=3))
    assert (net.res3[0].conv1.stride, net.res3[0].conv2.stride) == ((1, 1), (2, 2))


def test_18_fpn_is_initialised_with_kaiming_uniform_of_slope_1(parts: Engine) -> None:
    fpn = model_parts.small_fpn(parts)
    for name, fan_in in (("fpn_lateral2", 64), ("fpn_output2", 256 * 9)):
        layer = getattr(fpn, name)
        bound = math.sqrt(3 / fan_in)  # gain 1
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert layer.bias.abs().max() == 0


def test_19_images_are_normalised_and_then_padded_with_zeros(parts: Engine) -> None:
    cfg = parts.get_cfg()
    assert cfg.MODEL.PIXEL_MEAN == [103.53, 116.28, 123.675]
    assert cfg.MODEL.PIXEL_STD == [1.0, 1.0, 1.0]
    model = model_parts.preprocessing_model(parts)
    images = model.preprocess_image([{"image": torch.full((3, 4, 5), 110.0)}, {"image": torch.zeros(3, 7, 3)}])
    assert images.image_sizes == [(4, 5), (7, 3)]
    assert images.tensor.shape == (2, 3, 8, 8)  # divisible by 4
    assert images.tensor[0, :, 0, 0].tolist() == pytest.approx([6.47, -6.28, -13.675], abs=1e-4)
    assert images.tensor[0, :, 4:].abs().sum() == 0
    assert images.tensor[0, :, :, 5:].abs().sum() == 0
    assert images[1].shape == (3, 7, 3)
    assert [key for key in model.state_dict() if "pixel" in key] == []


def test_20_the_model_takes_float_images_as_they_are(parts: Engine) -> None:
    model = model_parts.preprocessing_model(parts)
    # Neither resized nor rounded to 8 bits: a value between grey levels and one beyond 255 arrive.
    image = torch.tensor([0.25, 4000.5]).expand(3, 4, 2)
    tensor = model.preprocess_image([{"image": image}]).tensor
    assert close(tensor[0, 0, 0, :2], [0.25 - 103.53, 4000.5 - 103.53], 1e-3)


def test_28_unknown_keys_and_int_for_float_are_refused(parts: Engine) -> None:
    cfg = parts.get_cfg()
    with pytest.raises(AssertionError, match=r"SOLVER\.BASE_LRR"):
        cfg.merge_from_list(["SOLVER.BASE_LRR", "0.1"])
    with pytest.raises(KeyError, match=r"SOLVER\.BASE_LRR"):  # from a file
        cfg.merge_from_other_cfg(parts.CfgNode({"SOLVER": {"BASE_LRR": 0.1}}))
    with pytest.raises(ValueError, match="BASE_LR"):
        cfg.merge_from_list(["SOLVER.BASE_LR", "1"])
    cfg.merge_from_list(["SOLVER.BASE_LR", "1.0", "SOLVER.STEPS", "[5, 6]"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS) == (1.0, (5, 6))  # a list becomes the default's tuple


def test_30_empty_instances_are_falsy(parts: Engine) -> None:
    empty = parts.Instances((5, 5), gt_boxes=parts.Boxes(torch.zeros(0, 4)))
    assert not bool(empty)
    assert empty is not None
    assert bool(parts.Instances((5, 5), scores=torch.ones(1)))
