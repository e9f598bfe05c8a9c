"""The region benchmark measures what it says, on a network small enough for a test."""

import argparse
import json

import pytest
import torch

from benchmarks import regions
from mammo_d2.config.loading import load_config
from mammo_d2.framework import build_model
from tests.conftest import ROOT

CONFIG = str(ROOT / "configs" / "dual_branch" / "VGGM128_cls_det_rs_cached.yaml")
TINY = ["MODEL.VGG_M.CHANNELS", "[4, 4, 6, 6, 8]", "MODEL.VGG_M.FC_DIMS", "[16, 12]", "INPUT.SIZE", "[448, 336]"]


@pytest.fixture
def figures(tmp_path, monkeypatch):
    # A new process imports torch again, which takes longer than everything else here.
    monkeypatch.setattr(regions, "in_new_process", lambda function, args: function(*args))
    parser = argparse.ArgumentParser()
    regions.add_arguments(parser)
    words = ["--config-file", CONFIG, "--rounds", "1", "--images", "2", "--accumulate", "0", "--batch", "4"]
    words += ["--output", str(tmp_path / "figures.json"), *TINY, "SOLVER.IMS_PER_BATCH", "2", "SOLVER.ACCUMULATE", "3"]
    threads = torch.get_num_threads()
    result = regions.run(parser.parse_args(words))
    torch.set_num_threads(threads)
    assert json.loads((tmp_path / "figures.json").read_text()) == result
    return result


def test_all_parts(figures):
    assert figures["windows"] == 6
    features = figures["features"]
    assert features["shared maps"]["ratio"] == 1.0
    assert features["each window in its surroundings"]["relative_difference"] < 1e-5
    assert features["each window padded inside (not equal)"]["relative_difference"] > 1e-3
    assert all(ratio > 0 for ratio in figures["epoch_ratio"].values())
    (cached,) = figures["memory"].values()
    assert cached["images"] == 6
    assert 1 <= cached["regions"] <= 6
    assert len(cached["peak_mib"]) == 4
    assert sorted(cached["peak_mib"]) == cached["peak_mib"]


def test_a_step_without_cache(tmp_path):
    record = regions.write_image(tmp_path, 0, CONFIG, TINY)
    threads = torch.get_num_threads()
    more = ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2"]
    found = regions.training_step_memory(CONFIG, [*TINY, *more], str(tmp_path), [record], False, 3)
    torch.set_num_threads(threads)
    assert found["images"] == 6
    assert len(found["peak_mib"]) == 4
    assert not list(tmp_path.rglob("*.pt"))


def test_padding_inside_is_that_of_the_original_network():
    """13 cells of a window without anything around it, and the same numbers in the window's middle."""
    torch.manual_seed(0)
    model = build_model(load_config(CONFIG, [*TINY, "MODEL.DEVICE", "cpu"])).eval()
    image = torch.randn(1, 3, 448, 336, generator=torch.Generator().manual_seed(0)) * 50
    boxes = torch.tensor([[112.0, 112.0, 336.0, 336.0]])
    seen = []
    model.roi_heads.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        regions.window_codes(model, image, boxes, 1)
        regions.padded_window_codes(model, image, boxes, 1)
    whole, padded = seen
    assert whole.shape == padded.shape == (1, 8, 13, 13)
    torch.testing.assert_close(whole[..., 5:8, 5:8], padded[..., 5:8, 5:8])
    assert not torch.allclose(whole[..., 0, :], padded[..., 0, :], atol=1e-3)


def test_images_are_breasts(tmp_path):
    from mammo_d2.data.reading.reader import read_image

    record = regions.write_image(tmp_path, 3, CONFIG, TINY)
    pixels, meta = read_image(record["file_name"])
    assert pixels.shape == (448, 336)
    assert 0.4 < (pixels > 0).mean() < 0.8
    assert meta.max_value == 65535
