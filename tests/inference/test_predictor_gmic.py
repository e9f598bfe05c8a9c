"""GMIC on files: released-style preprocessing, results in the file's pixels, pictures of what it looked at."""

from functools import partial
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.data.breast.breast_window import BreastWindow
from mammo_d2.data.reading.reader import read_image
from mammo_d2.framework import build_model
from mammo_d2.inference.prediction_files import write_picture
from mammo_d2.inference.predictor import Predictor
from mammo_d2.modeling.fold_norm import compile_networks
from tests.data.dicom_files import write_dicom
from tests.inference.tiny_model import CROP_FLIP_SCALE, SIZE, write_mammogram
from tests.modeling.gmic_models import gmic_cfg

WINDOW = ("INPUT.PREPROCESSING", "breast_window", "INPUT.SIZE", [160, 128], "INPUT.WINDOW.EROSION", 3)


@pytest.fixture
def predictor(tmp_path):
    def make(preparation=None, *overrides, autocast=False):
        cfg = gmic_cfg(*WINDOW, "INPUT.PREPARATION", "none", *overrides)
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0], [1.0]
        cfg.DATALOADER.NUM_WORKERS = 0
        torch.manual_seed(0)
        torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "gmic.pth")
        cfg.MODEL.WEIGHTS = str(tmp_path / "gmic.pth")
        return Predictor(cfg, preparation, autocast=autocast)

    return make


def test_a_file_without_exam_or_view(predictor, tmp_path):
    path = write_mammogram(tmp_path / "image.png")
    one = predictor()
    found = next(one([path], pictures=True))
    window, transform = BreastWindow((160, 128), 3)(read_image(path)[0], {})
    with torch.inference_mode():
        said = one.model.predict(torch.from_numpy(window)[None, None])
    expected = one.model.final_scores(said)[0].tolist()
    assert list(found.image_scores.values()) == pytest.approx(expected, rel=1e-5)
    y, x = said.positions[0, 0].tolist()
    box = transform.boxes_to_source([x, y, x + 32, y + 32])[0]
    assert transform.flip  # the chest wall is at the right
    assert found.evidence.patches[0].tolist() == pytest.approx(box.tolist())  # the picture is not smaller than the file
    assert found.evidence.saliency.shape == (2, *SIZE)
    assert (found.saliency.ndim, len(found.saliency), found.saliency.dtype) == (3, 2, np.float16)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [SIZE[1], SIZE[0]] * 2).all()
    picture = cv2.imread(str(write_picture(tmp_path, 1, found, one.classes)))
    assert picture.shape[1] == 4 * SIZE[1]  # boxes, patches, two maps


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_dicom_file_is_like_the_png(predictor, tmp_path, photometric):
    path = write_mammogram(tmp_path / "R-MLO.png")
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    stored = pixels if photometric == "MONOCHROME2" else 65535 - pixels
    tags = {"ImageLaterality": "R", "ViewPosition": "MLO", "PhotometricInterpretation": photometric}
    dicom = write_dicom(tmp_path / "image.dcm", stored, BitsStored=16, **tags)
    png, other = predictor()([path, dicom])
    assert (other.meta.laterality, other.meta.view) == ("R", "MLO")
    assert other.image_scores == pytest.approx(png.image_scores, abs=1e-6)
    np.testing.assert_allclose(other.boxes, png.boxes)


def test_what_the_patch_network_started_from_is_not_needed(predictor, tmp_path):
    path = write_mammogram(tmp_path / "image.png")
    one = predictor()
    cfg = one.cfg.clone()
    cfg.defrost()
    cfg.MODEL.GMIC.PATCH_WEIGHTS = str(tmp_path / "of_another_machine.pth")
    assert next(Predictor(cfg)([path])).image_scores == next(one([path])).image_scores


def test_laterality_and_view_of_the_files_name(predictor, tmp_path):
    found = next(predictor()([write_mammogram(tmp_path / "0_R-MLO.png")]))
    assert (found.meta.laterality, found.meta.view) == ("R", "MLO")
    assert found.warnings == ()
    found = next(predictor()([write_mammogram(tmp_path / "image.png")]))
    assert (found.meta.laterality, found.meta.view) == (None, None)
    assert ["view is not known" in text for text in found.warnings] == [True]


def test_scores_that_are_no_numbers_are_refused(predictor, tmp_path):
    one = predictor()
    with torch.no_grad():
        one.model.local_classifier.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"image\.png: a predicted box or score is not finite"):
        next(one([write_mammogram(tmp_path / "image.png")]))


def test_after_a_preparation_results_are_in_the_files_pixels(predictor, tmp_path):
    path = write_mammogram(tmp_path / "image.png")
    found = next(predictor(CROP_FLIP_SCALE)([path], pictures=True))
    x0, y0, width, height = found.transform.crop
    outside = np.ones(SIZE, bool)
    outside[y0 : y0 + height, x0 : x0 + width] = False
    assert (found.evidence.saliency[:, outside] == 0).all()
    assert (found.evidence.saliency[:, ~outside] > 0).any()


def test_folded_norms_change_rounding_only(predictor, tmp_path):
    path = write_mammogram(tmp_path / "image.png")
    models = [predictor(None, "TEST.FOLD_NORM", fold) for fold in (False, True)]
    assert [isinstance(one.model.patch_net.bn1, torch.nn.Identity) for one in models] == [False, True]
    plain, folded = (next(one([path])) for one in models)
    assert folded.image_scores == pytest.approx(plain.image_scores, abs=1e-5)


def test_memory_order_changes_rounding_only(predictor, tmp_path):
    path = write_mammogram(tmp_path / "image.png")
    plain, other = predictor(), predictor(None, "SOLVER.CHANNELS_LAST", True)
    weights = other.model.backbone.stages[1][0].conv1.weight
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert not weights.is_contiguous()
    expected, found = (next(one([path])) for one in (plain, other))
    assert found.image_scores == pytest.approx(expected.image_scores, abs=1e-5)


def test_compiled_networks_change_rounding_only(predictor, tmp_path):
    path = write_mammogram(tmp_path / "image.png")
    torch.compiler.reset()
    quick = partial(compile_networks, backend="eager")  # the graphs without code generation: needs no compiler
    with mock.patch("mammo_d2.inference.predictor.compile_networks", side_effect=quick) as compiling:
        plain, compiled = predictor(), predictor(None, "TEST.COMPILE", True, "TEST.FOLD_NORM", True)
    assert [call.args for call in compiling.call_args_list] == [(compiled.model,)]
    expected, found = (next(one([path])) for one in (plain, compiled))
    assert found.image_scores == pytest.approx(expected.image_scores, abs=1e-5)


def test_bfloat16_is_close(predictor, tmp_path):
    path = write_mammogram(tmp_path / "image.png")
    expected, found = (next(predictor(autocast=on)([path], pictures=True)) for on in (False, True))
    assert found.image_scores == pytest.approx(expected.image_scores, abs=0.01)
    assert found.image_scores != expected.image_scores
    assert np.abs(found.evidence.saliency - expected.evidence.saliency).max() < 0.01
