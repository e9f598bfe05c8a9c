"""The detector as a whole: training on any batch, detections in any image size, memory formats and precision."""

import copy
import pickle

import pytest
import torch

from mammo_d2.framework.embedded.detector.rcnn import GeneralizedRCNN, build_model, detector_postprocess
from mammo_d2.framework.embedded.structures.boxes import Boxes
from mammo_d2.framework.embedded.structures.instances import Instances
from mammo_d2.framework.embedded.utils.events import EventStorage
from tests.framework import engines, model_cases

ENGINE = engines.load(engines.EMBEDDED)


@pytest.fixture(scope="module")
def detector() -> GeneralizedRCNN:
    return model_cases.build(ENGINE, "fpn_18")


def train_losses(model: GeneralizedRCNN, batch: str) -> dict[str, torch.Tensor]:
    model.train()
    with EventStorage(0):
        torch.manual_seed(7)
        return model(model_cases.inputs(ENGINE, batch, 3))


@pytest.mark.parametrize("batch", model_cases.BATCHES)
def test_every_trainable_parameter_gets_a_gradient(detector: GeneralizedRCNN, batch: str) -> None:
    detector.zero_grad()
    sum(train_losses(detector, batch).values()).backward()
    without = [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("case", ["fpn_18", "c4_18"])
def test_channels_last_gives_the_same_losses_and_detections(case: str) -> None:
    model = model_cases.build(ENGINE, case)
    turned = copy.deepcopy(model).to(memory_format=torch.channels_last)
    expected, actual = (train_losses(m, "positive_and_negative") for m in (model, turned))
    for name, loss in expected.items():
        assert actual[name].item() == pytest.approx(loss.item(), abs=1e-5)
    with torch.no_grad():
        features = turned.backbone(turned.preprocess_image(model_cases.inputs(ENGINE, "one_image", 3)).tensor)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in features.values())
        found, same = (m.eval()(model_cases.inputs(ENGINE, "one_image", 3))[0]["instances"] for m in (model, turned))
    assert torch.allclose(found.pred_boxes.tensor, same.pred_boxes.tensor, atol=1e-3)
    assert torch.allclose(found.scores, same.scores, atol=1e-5)


def test_bfloat16_autocast_trains(detector: GeneralizedRCNN) -> None:
    expected = train_losses(detector, "positive_and_negative")
    detector.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        losses = train_losses(detector, "positive_and_negative")
    sum(losses.values()).backward()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.1, abs=0.02)
    assert all(p.grad.dtype == torch.float32 for p in detector.parameters() if p.grad is not None)


def test_detections_come_in_the_size_asked_for(detector: GeneralizedRCNN) -> None:
    inputs = model_cases.inputs(ENGINE, "one_image", 3)
    detector.eval()
    with torch.no_grad():
        (raw,) = detector.inference(inputs, do_postprocess=False)
        raw = Instances(raw.image_size, pred_boxes=raw.pred_boxes.clone(), scores=raw.scores)
        (output,) = detector(inputs)
    found = output["instances"]
    assert (raw.image_size, found.image_size) == ((65, 111), (130, 111))
    doubled = raw.pred_boxes.tensor * torch.tensor([1.0, 2, 1, 2])
    assert torch.allclose(found.pred_boxes.tensor, doubled)
    del inputs[0]["height"], inputs[0]["width"]
    with torch.no_grad():
        assert detector(inputs)[0]["instances"].image_size == (65, 111)


def test_known_boxes_pass_through(detector: GeneralizedRCNN) -> None:
    detector.eval()
    known = Instances((65, 111), pred_boxes=Boxes([[1.0, 2, 3, 4]]), pred_classes=torch.tensor([0]))
    with torch.no_grad():
        (output,) = detector.inference(model_cases.inputs(ENGINE, "one_image", 3), [known])
    assert output["instances"].pred_boxes.tensor.tolist() == [[1, 4, 3, 8]]


def test_training_without_ground_truth_is_an_error(detector: GeneralizedRCNN) -> None:
    detector.train()
    with EventStorage(0), pytest.raises(ValueError, match="'instances'"):
        detector([{"image": torch.zeros(3, 64, 64)}])


def test_proposals_can_come_with_the_data() -> None:
    cfg = model_cases.config(ENGINE, "fpn_18")
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    model = build_model(cfg).eval()
    image = {"image": torch.zeros(3, 64, 64)}
    given = Instances((64, 64), proposal_boxes=Boxes([[0.0, 0, 30, 30]]), objectness_logits=torch.zeros(1))
    with torch.no_grad():
        (output,) = model([{**image, "proposals": given}])
        assert output["instances"].image_size == (64, 64)
        with pytest.raises(ValueError, match="no proposals"):
            model([image])


def test_postprocessing_drops_boxes_that_vanish() -> None:
    boxes = Boxes([[0.0, 0, 4, 4], [9, 9, 9.5, 9.5], [12, 3, 14, 8]])
    raw = Instances((10, 10), proposal_boxes=boxes, scores=torch.tensor([3.0, 2, 1]))
    resized = detector_postprocess(raw, 5, 20)
    # The last lies outside the image altogether.
    assert resized.proposal_boxes.tensor.tolist() == [[0, 0, 8, 2], [18, 4.5, 19, 4.75]]
    assert resized.scores.tolist() == [3, 2]
    with pytest.raises(ValueError, match="pred_boxes or proposal_boxes"):
        detector_postprocess(Instances((10, 10), scores=torch.ones(1)), 5, 5)


@pytest.mark.parametrize("channels", [1, 3])
def test_training_pictures(channels: int) -> None:
    cfg = model_cases.config(ENGINE, "c4_18")
    cfg.VIS_PERIOD = 2
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [100.0] * channels, [50.0] * channels
    model = build_model(cfg).train()
    pictures = []
    with EventStorage(0) as storage:
        for _ in range(3):
            model(model_cases.inputs(ENGINE, "only_negatives", channels))
            pictures.append(storage.take_images())
            storage.step()
    assert [len(taken) for taken in pictures] == [1, 0, 1]
    ((_, picture, _),) = pictures[0]
    assert picture.shape == (3, 64, 128)  # ground truth left, proposals right


def test_mean_and_std_must_have_the_same_length() -> None:
    cfg = model_cases.config(ENGINE, "c4_18")
    cfg.MODEL.PIXEL_STD = [1.0]
    with pytest.raises(ValueError, match=r"PIXEL_MEAN has 3 channels, MODEL\.PIXEL_STD 1"):
        build_model(cfg)


def test_a_model_can_be_copied_and_pickled(detector: GeneralizedRCNN) -> None:
    for again in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        losses = train_losses(again, "one_image")
        assert {name: loss.item() for name, loss in losses.items()} == {
            name: loss.item() for name, loss in train_losses(detector, "one_image").items()
        }
