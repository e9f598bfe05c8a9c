"""DetectorGraph gives what the model gives, in either engine; what it cannot do is refused."""

import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.framework.weights.shipped_models import CONFIG, DEFAULT_MODEL, WEIGHTS, find_model
from mammo_d2.inference.export.detector_graph import DetectorGraph, best, has_area
from tests.inference.export.small_models import c4_detector, detector, detector_cfg, image, with_contrast

INF, NAN = float("inf"), float("nan")


def assert_same(model, picture, least: int = 1) -> int:
    graph = DetectorGraph(model)
    with torch.no_grad():
        found, expected = graph(picture), graph.expected(picture)
    for name, value in zip(graph.output_names, found, strict=True):
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5, msg=lambda text: f"{name}: {text}")  # noqa: B023
    assert len(found[0]) >= least
    return len(found[0])


@pytest.mark.parametrize("size", [(160, 136), (101, 77)], ids=["multiple of the stride", "padded"])
@pytest.mark.parametrize("make", [detector, c4_detector])
def test_same_detections_as_the_model(make, size):
    model = make()
    for seed in range(3):
        assert_same(model, image(*size, seed))


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"),
        ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True"),
        ("MODEL.PIXEL_MEAN", "[100.0, 110.0, 120.0]", "MODEL.PIXEL_STD", "[60.0, 50.0, 40.0]"),
        ("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "9"),
        ("MODEL.ANCHOR_GENERATOR.OFFSET", "0.5"),
        ("MODEL.RPN.PRE_NMS_TOPK_TEST", "100000", "TEST.DETECTIONS_PER_IMAGE", "3"),
        ("MODEL.META_ARCHITECTURE", "MixedSupervisionRCNN"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_settings_of_the_model_hold(overrides):
    assert_same(detector(*overrides), image(120, 96))


def test_the_detector_of_the_package():
    folder = find_model(DEFAULT_MODEL)
    cfg = load_config(str(folder / CONFIG), ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.001"])
    model = build_model(cfg).eval()
    SafeCheckpointer(model, strict_weights=True).load(str(folder / WEIGHTS))
    assert_same(model, image(512, 320), least=5)


def test_an_image_without_detections():
    assert assert_same(detector("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.9999"), image(64, 64), least=0) == 0


def test_boxes_that_are_not_finite_are_left_out():
    model = detector()
    with torch.no_grad():
        model.roi_heads.box_predictor.bbox_pred.bias[0] = INF  # of the first class
    assert assert_same(model, image(120, 96), least=0) == 0
    model = detector()
    with torch.no_grad():
        model.proposal_generator.rpn_head.anchor_deltas.bias[0] = -INF  # of the first anchor's centre
    assert_same(model, image(120, 96))
    model = detector()
    assert assert_same(model, torch.full((1, 1, 64, 64), NAN), least=0) == 0


def test_best_takes_the_highest_that_are_finite():
    assert best(torch.tensor([1.0, 5.0, -INF, 3.0]), 2).tolist() == [1, 3]
    assert best(torch.tensor([1.0, 5.0, -INF, NAN]), 4).tolist() == [1, 0]
    assert best(torch.zeros(0), 3).tolist() == []


def test_area_of_boxes():
    boxes = torch.tensor([[0, 0, 3, 3], [0, 0, 3, 2], [1, 1, 1, 5], [0, NAN, 9, 9]])
    assert has_area(boxes).tolist() == [True, True, False, False]
    assert has_area(boxes, 2.0).tolist() == [True, False, False, False]


class TestRefusals:
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"), "the proposal generator NoneType"),
            (("TEST.DETECTIONS_PER_IMAGE", "-1"), "TEST.DETECTIONS_PER_IMAGE must be at least 1"),
        ],
    )
    def test_parts_without_an_exportable_form(self, overrides, message):
        model = build_model(detector_cfg(*overrides))
        with pytest.raises(ValueError, match=message):
            DetectorGraph(model)

    def test_a_model_that_detects_in_its_own_way(self):
        model = detector()
        model.__class__ = type("Other", (type(model),), {"inference": lambda self, inputs: []})
        with pytest.raises(ValueError, match="Other cannot be exported"):
            DetectorGraph(model)

    def test_masks(self):
        model = with_contrast(detector())
        model.roi_heads.mask_on = True
        with pytest.raises(ValueError, match=r"MODEL\.MASK_ON"):
            DetectorGraph(model)
