"""Prediction on files: geometry back to the file's pixels, the same steps as in training, bad files, batches."""

import json
import logging
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.core.boxes import xyxy_to_xywh
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.converters.converter import Converter, SourceImage
from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.data.prepare.image import prepare_image
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.data.reading.image_meta import ImageMeta
from mammo_d2.engine.run_files.run_folder import last_weights
from mammo_d2.framework import Boxes, Instances
from mammo_d2.inference.prediction_files import FileProblem, Prediction
from mammo_d2.inference.predictor import Predictor, to_prediction
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import run as train_toy
from tests.inference.tiny_model import (
    CROP_FLIP_SCALE,
    LESION,
    SIZE,
    BrightestPixels,
    brightest_cfg,
    make_cfg,
    write_mammogram,
)

TRANSFORM = ImageTransform((400, 300), (50, 100, 200, 250), True, (0.5, 0.25))


def sample(transform=TRANSFORM):
    height, width = transform.source_size
    meta = ImageMeta("x.png", "png", height, width, 16, 65535.0)
    return {"file_name": "x.png", "meta": meta, "transform": transform, "warnings": (), "picture": None}


def output(boxes, scores, labels, **more):
    instances = Instances((125, 50))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.tensor(labels, dtype=torch.long)
    return {"instances": instances, **more}


# --- one output ---------------------------------------------------------------------------------------------------
def test_box_of_a_cropped_flipped_scaled_image_in_source_pixels():
    # x: 10/0.25 = 40 from the crop's right edge 250 -> 210; 20/0.25 = 80 -> 170. y: 100 + 30/0.5 = 160, 100 + 45/0.5.
    prediction = to_prediction(sample(), output([[10, 30, 20, 45]], [0.5], [0]), ["malignant"])
    np.testing.assert_allclose(prediction.boxes, [[170, 160, 210, 190]], rtol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_come_back_to_float32_accuracy(flip):
    rng = np.random.default_rng(3)
    transform = ImageTransform((4664, 3064), (311, 207, 2345, 4001), flip, (512 / 4001, 384 / 2345))
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1) * [2345, 4001] + [311, 207]
    source = corners.reshape(-1, 4)
    prepared = transform.boxes_to_prepared(source)
    prediction = to_prediction(sample(transform), output(prepared.tolist(), [0.5] * 50, [0] * 50), ["malignant"])
    np.testing.assert_allclose(prediction.boxes, source, rtol=0, atol=1e-3 * 4664 / 512)
    np.testing.assert_allclose(prediction.boxes, source, rtol=1e-3)


def test_boxes_are_ordered_by_score_and_clipped_to_the_file():
    prediction = to_prediction(
        sample(ImageTransform.identity((100, 80))),
        output([[1, 2, 3, 4], [-5, 50, 200, 300]], [0.25, 0.75], [1, 0]),
        ["a", "b"],
    )
    np.testing.assert_array_equal(prediction.boxes, [[0, 50, 80, 100], [1, 2, 3, 4]])
    np.testing.assert_array_equal(prediction.scores, [0.75, 0.25])
    np.testing.assert_array_equal(prediction.labels, [0, 1])


def test_image_score_is_the_best_box_of_each_class_or_zero():
    prediction = to_prediction(sample(), output([[0, 0, 9, 9]] * 3, [0.25, 0.5, 0.125], [1, 1, 0]), ["a", "b", "c"])
    assert prediction.image_scores == {"a": 0.125, "b": 0.5, "c": 0.0}
    empty = to_prediction(sample(), output([], [], []), ["a"])
    assert empty.boxes.shape == (0, 4)
    assert empty.image_scores == {"a": 0.0}


def test_image_scores_of_the_model_are_kept():
    given = {"a": torch.tensor(0.5), "b": torch.tensor(0.25)}
    prediction = to_prediction(sample(), output([], [], [], image_scores=given), ["a", "b"])
    assert prediction.image_scores == {"a": 0.5, "b": 0.25}


@pytest.mark.parametrize(("box", "score"), [([0, 0, 9, 9], float("nan")), ([0, float("inf"), 9, 9], 0.5)])
def test_results_that_are_not_finite_are_refused(box, score):
    with pytest.raises(ValueError, match=r"x\.png: a predicted box or score is not finite"):
        to_prediction(sample(), output([box], [score], [0]), ["a"])


# --- files ----------------------------------------------------------------------------------------------------------
def test_lesion_in_a_file_is_found_at_its_place(tmp_path):
    file = write_mammogram(tmp_path / "a.png")
    predictor = Predictor(brightest_cfg(tmp_path, "INPUT.SIZE", "[60, 100]"))
    (prediction,) = predictor([file])
    # The input is the file at half size, the lesion's edges lie on whole pixels of it: nothing is lost.
    np.testing.assert_allclose(prediction.boxes[0], LESION, rtol=1e-6)
    assert prediction.scores.tolist() == [0.75, 0.25]
    assert prediction.transform.is_identity
    assert (prediction.meta.height, prediction.meta.width) == SIZE


@pytest.mark.parametrize("keep_aspect", ["False", "True"])
def test_lesion_is_found_through_crop_flip_and_scale(tmp_path, keep_aspect):
    file = write_mammogram(tmp_path / "a.png")
    cfg = brightest_cfg(tmp_path, "INPUT.KEEP_ASPECT", keep_aspect, "INPUT.SIZE", "[160, 160]")
    (prediction,) = Predictor(cfg, CROP_FLIP_SCALE)([file])
    assert prediction.transform.flip
    assert prediction.transform.crop[0] > 60
    assert max(prediction.transform.prepared_size) == 75
    # One pixel of the prepared image is about 1.5 of the file.
    np.testing.assert_allclose(prediction.boxes[0], LESION, atol=1.6)


class _OneFile(Converter):
    name = "one"

    def images(self):
        yield SourceImage(self.source / "a.png", "a", "a.png")


def test_prediction_sees_what_the_model_was_trained_on(tmp_path):
    """The same tensors, boxes and scores as through a prepared data set."""
    write_mammogram(tmp_path / "a.png")
    converter = _OneFile(tmp_path)
    outcome = prepare_image(converter, next(iter(converter.images())), CROP_FLIP_SCALE.image, tmp_path / "out", True)
    file_name = str(tmp_path / "out" / "images" / "a.png")
    record = {**outcome.image, "image_id": 1, "file_name": file_name, "annotations": []}
    cfg = make_cfg(tmp_path)
    predictor = Predictor(cfg, CROP_FLIP_SCALE)
    trained_on = MammoMapper(cfg, is_train=False)(record)
    with torch.inference_mode():
        expected = predictor.model([trained_on])[0]["instances"]
    (prediction,) = predictor([tmp_path / "a.png"])

    assert len(prediction.scores) == len(expected) > 0
    assert prediction.transform.to_dict() == outcome.image["transform"]
    np.testing.assert_array_equal(prediction.scores, expected.scores.double().numpy())
    in_source = ImageTransform.from_dict(outcome.image["transform"]).boxes_to_source(expected.pred_boxes.tensor.numpy())
    np.testing.assert_allclose(prediction.boxes, in_source, rtol=1e-6, atol=1e-4)


def test_batches_change_nothing(tmp_path):
    files = [write_mammogram(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    predictor = Predictor(make_cfg(tmp_path))
    single = list(predictor(files))
    for size in (2, 5):
        for one, other in zip(single, predictor(files, batch_size=size), strict=True):
            assert one.file == other.file
            np.testing.assert_allclose(one.boxes, other.boxes, rtol=1e-4, atol=1e-2)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("more", [(), ("SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "0.5")])
def test_prediction_gives_the_numbers_of_the_evaluation(tmp_path, caplog, more):
    """After a mixed-precision training, whose evaluation is in float32."""
    write_dataset(tmp_path, positives=3, negatives=2)
    mixed = "SOLVER.AMP.ENABLED", "True", "SOLVER.MAX_ITER", "2", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"
    train_toy(tmp_path, *mixed, "INPUT.PREPARATION", "none", *more)
    logging.getLogger("mammo_d2").propagate = True  # the training's messages stop there
    out = tmp_path / "out"
    results = json.loads((out / "inference" / "toy_train" / "coco_instances_results.json").read_text())
    cfg = load_config(str(out / "config.yaml"), ["MODEL.WEIGHTS", str(last_weights(out))])
    register_datasets(cfg)
    records = load_records(cfg, "toy_train")
    predictions = list(Predictor(cfg)([record["file_name"] for record in records]))
    assert len(results) == sum(len(prediction.scores) for prediction in predictions) > 0
    for record, prediction in zip(records, predictions, strict=True):
        expected = [entry for entry in results if entry["image_id"] == record["image_id"]]
        assert prediction.scores.tolist() == [entry["score"] for entry in expected]
        boxes = xyxy_to_xywh(prediction.boxes)
        np.testing.assert_allclose(boxes, [entry["bbox"] for entry in expected], rtol=0, atol=1e-6)
    assert "averaged weights" not in caplog.text
    if more:
        cfg.MODEL.WEIGHTS = str(out / "model_final.pth")
        Predictor(cfg)
        assert f"for the same numbers name {out / 'model_ema.pth'}" in caplog.text


def test_autocast_is_asked_for_and_gives_nearly_the_same_scores(tmp_path):
    file = write_mammogram(tmp_path / "a.png")
    (full,) = Predictor(make_cfg(tmp_path))([file])
    cfg = make_cfg(tmp_path, "SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16")
    (after_mixed_training,) = Predictor(cfg)([file])
    assert full.image_scores == after_mixed_training.image_scores
    predictor = Predictor(cfg, autocast=True)
    (half,) = predictor([file])
    assert abs(full.image_scores["malignant"] - half.image_scores["malignant"]) < 0.05
    assert full.image_scores != half.image_scores  # autocast was really on
    assert next(predictor.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("workers", ["0", "1"])
def test_bad_files_are_reported_and_the_rest_goes_on(tmp_path, workers):
    good = write_mammogram(tmp_path / "good.png")
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(good.read_bytes()[:200])
    text = tmp_path / "text.dcm"
    text.write_text("no image")
    missing = tmp_path / "missing.png"
    predictor = Predictor(brightest_cfg(tmp_path, "DATALOADER.NUM_WORKERS", workers))
    outcomes = list(predictor([truncated, good, text, missing, good], batch_size=2, pictures=True))
    assert [type(item) for item in outcomes] == [FileProblem, Prediction, FileProblem, FileProblem, Prediction]
    for outcome, file in zip(outcomes, [truncated, good, text, missing, good], strict=True):
        assert outcome.file == str(file)
        if isinstance(outcome, FileProblem):
            assert outcome.problem.startswith(str(file))
        else:
            assert outcome.picture.shape == SIZE


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the crash reaches forks only")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_decoder_that_crashes_costs_one_file_and_names_it(tmp_path, monkeypatch, workers):
    files = [str(write_mammogram(tmp_path / f"{name}.png")) for name in "abcdef"]
    apply = Preparation.apply

    def crash(self, path):
        if Path(path).stem in "be":
            os.kill(os.getpid(), signal.SIGKILL)
        return apply(self, path)

    whole = list(Predictor(brightest_cfg(tmp_path))(files))
    monkeypatch.setattr(Preparation, "apply", crash)
    outcomes = list(Predictor(brightest_cfg(tmp_path, "DATALOADER.NUM_WORKERS", workers))(files, batch_size=2))
    assert [outcome.file for outcome in outcomes] == files
    assert [outcome.file for outcome in outcomes if isinstance(outcome, FileProblem)] == [files[1], files[4]]
    assert outcomes[1].problem.startswith(f"{files[1]}: the process that read this file ended without a message")
    for alone, outcome in zip(whole, outcomes, strict=True):
        if isinstance(outcome, Prediction):
            np.testing.assert_array_equal(outcome.boxes, alone.boxes)
            np.testing.assert_array_equal(outcome.scores, alone.scores)


def test_strict_fails_at_the_first_bad_file(tmp_path):
    good = write_mammogram(tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    outcomes = Predictor(brightest_cfg(tmp_path))([good, bad, good], strict=True)
    assert isinstance(next(outcomes), Prediction)
    with pytest.raises(ValueError, match=r"bad\.png: empty file"):
        next(outcomes)


def test_empty_list_of_files_gives_nothing(tmp_path):
    assert list(Predictor(brightest_cfg(tmp_path, "DATALOADER.NUM_WORKERS", "2"))([])) == []


def test_image_scores_of_a_model_reach_the_prediction(tmp_path, monkeypatch):
    file = write_mammogram(tmp_path / "a.png")
    monkeypatch.setattr(BrightestPixels, "image_scores", {"malignant": torch.tensor(0.125)})
    (prediction,) = Predictor(brightest_cfg(tmp_path))([file])
    assert prediction.image_scores == {"malignant": 0.125}


# --- set-up -------------------------------------------------------------------------------------------------------
def test_weights_are_needed(tmp_path):
    cfg = brightest_cfg(tmp_path)
    cfg.MODEL.WEIGHTS = ""
    with pytest.raises(ValueError, match=r"MODEL\.WEIGHTS is empty"):
        Predictor(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        Predictor(cfg)


def test_number_of_classes_of_a_config_merged_by_hand(tmp_path):
    cfg = brightest_cfg(tmp_path)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 80, but DATASETS.CATEGORIES gives 1 \(malignant\): set it"):
        Predictor(cfg)


def test_weights_of_another_model_are_refused(tmp_path):
    cfg = make_cfg(tmp_path)
    other = cfg.clone()
    other.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    with pytest.raises(ValueError, match=r"stem\.conv1\.weight"):
        Predictor(other)
    other = cfg.clone()
    other.MODEL.META_ARCHITECTURE = "BrightestPixels"
    with pytest.raises(ValueError, match="another architecture"):
        Predictor(other)


def test_batch_size_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="batch size must be at least 1"):
        next(Predictor(brightest_cfg(tmp_path))([], batch_size=0))


@pytest.mark.shared_data
def test_real_jpeg2000_mammogram_from_file_to_boxes(tmp_path, shared_data):
    file = shared_data / "nema_wg04" / "MG1_J2KI.dcm"
    predictor = Predictor(make_cfg(tmp_path), Preparation(image=ImageOptions(crop=True, max_side=1024)))
    (prediction,) = predictor([file])
    meta = prediction.meta
    assert (meta.height, meta.width, meta.laterality, meta.view) == (4664, 3064, "L", "MLO")
    assert meta.pixel_spacing == (0.05, 0.05)
    assert len(prediction.boxes) > 0
    x0, y0, width, height = prediction.transform.crop
    assert (prediction.boxes >= [x0 - 1, y0 - 1, x0 - 1, y0 - 1]).all()
    assert (prediction.boxes <= np.tile([x0 + width + 1, y0 + height + 1], 2)).all()
    assert prediction.boxes[:, 2:].max() > 1024  # in the file's pixels, not in the reduced ones
