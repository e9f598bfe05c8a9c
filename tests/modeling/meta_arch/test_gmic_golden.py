"""The released GMIC code's numbers for synthetic weights: preprocessing, saliency, patches, scores."""

import hashlib
import json
import runpy

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.data.breast.breast_window import BreastWindow
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.inference.convert_gmic import convert_gmic
from tests.conftest import ROOT, shared_data_root

pytestmark = pytest.mark.shared_data

FOLDER = shared_data_root() / "gmic_sample"
CASES = ("exam0_L-CC", "exam0_L-MLO", "ph_small_L-CC", "ph_mid_R-CC", "ph_flip_L-CC")


@pytest.fixture(scope="module")
def golden():
    return json.loads((FOLDER / "golden.json").read_text())["cases"]


@pytest.fixture(scope="module")
def stand_ins():
    return runpy.run_path(str(FOLDER / "synth.py"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, stand_ins):
    """A file like the released ones: old format of torch.save, released names, the stray tensor."""
    rows = [line.split("\t") for line in (FOLDER / "state_dict_keys.txt").read_text().splitlines() if "\t" in line]
    shapes = [(name, [int(n) for n in shape.strip("()").split(",") if n.strip()]) for name, shape, _ in rows]
    weights = stand_ins["synth_state_dict"](shapes, 0, bn_stats=FOLDER / "bn_stats_seed0.npz")
    weights["shared_rep_filter.weight"] = torch.zeros(256, 256, 4, 4)
    assert len(weights) == 259
    path = tmp_path_factory.mktemp("released") / "sample_model_1.p"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def load_released(checkpoint):
    """A model of configs/gmic/released_1.yaml, the file given as MODEL.WEIGHTS as it is."""

    def load(*overrides):
        cfg = load_config(str(ROOT / "configs/gmic/released_1.yaml"), ["MODEL.DEVICE", "cpu", *overrides])
        model = build_model(cfg).eval()
        SafeCheckpointer(model, strict_weights=True).load(str(checkpoint))
        return model

    return load


@pytest.fixture(scope="module")
def window(golden, stand_ins):
    """The preprocessing of one case: (stored pixels, window, transform)."""

    def prepare(name):
        source = golden[name]["source"]
        if isinstance(source, str):
            pixels = cv2.imread(str(FOLDER / source), cv2.IMREAD_UNCHANGED)
        else:
            pixels = stand_ins["phantom"](**source)
        _, view = golden[name]["view"].split("-")
        return pixels, *BreastWindow((2944, 1920))(pixels.astype(np.float32), {"view": view})

    return prepare


@pytest.mark.parametrize("name", CASES)
def test_preprocessing_is_identical(name, golden, window):
    pixels, prepared, transform = window(name)
    assert hashlib.sha256(prepared.tobytes()).hexdigest() == golden[name]["input_sha256"]
    y0, y1, x0, x1 = golden[name]["window_location"]
    assert transform.crop == (x0, y0, x1 - x0, y1 - y0)
    shown = transform.map_to_source(np.ones((1, 46, 30)), spacing=1)[0] > 0
    back = transform.map_to_source(prepared, spacing=1)
    np.testing.assert_allclose(np.corrcoef(back[shown], pixels[shown])[0, 1], 1, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_model_gives_the_same_numbers(name, golden, window, load_released):
    """To 1e-5, and the same patches; of these five cases none is the known near tie (exam0_R-CC)."""
    arrays, numbers = np.load(FOLDER / "golden.npz"), golden[name]["models"]["1"]
    with torch.inference_mode():
        said = load_released().predict(torch.from_numpy(window(name)[1])[None, None])
    found = {
        "y_global": said.global_scores,
        "y_local": said.local_logits.sigmoid(),
        "y_fusion": said.fusion_logits.sigmoid(),
        "patch_attns": said.attention,
    }
    for key, value in found.items():
        np.testing.assert_allclose(value[0].numpy(), numbers[key], atol=1e-5, rtol=0, err_msg=key)
    np.testing.assert_allclose(said.saliency[0].numpy(), arrays[f"{name}__m1__saliency"], atol=1e-5, rtol=0)
    assert said.positions[0].tolist() == numbers["patch_locations"]


def test_one_file_serves_both_fusions_and_every_variant(load_released):
    concat, average = load_released(), load_released("MODEL.GMIC.FUSION", "average")
    assert sum(p.numel() for p in concat.parameters()) == 14_110_322
    assert average.fusion is None
    assert torch.equal(concat.local_classifier.weight, average.local_classifier.weight)
    alone = load_released("MODEL.GMIC.VARIANT", "loc")
    assert torch.equal(concat.saliency_head.weight, alone.saliency_head.weight)


def test_converted_file_is_the_same_model(checkpoint, load_released, tmp_path):
    assert convert_gmic([checkpoint], tmp_path / "converted.pth") == 258
    converted = torch.load(tmp_path / "converted.pth", weights_only=True)["model"]
    expected = load_released().state_dict()
    assert list(converted) == list(expected)
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_damaged_file_is_refused(checkpoint, tmp_path):
    weights = torch.load(checkpoint, weights_only=True)
    del weights["ds_net.final_bn.bias"]
    torch.save(weights, tmp_path / "damaged.p")
    with pytest.raises(ValueError, match=r"backbone\.norm\.bias|backbone\.norm"):
        convert_gmic([tmp_path / "damaged.p"], tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
