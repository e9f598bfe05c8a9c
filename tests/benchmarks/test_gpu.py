"""The benchmark for a GPU, on a CPU: every case and setting builds and steps, the figures are what they say."""

import argparse
import json

import pytest
import torch

from benchmarks import gpu
from benchmarks.train import Contender
from benchmarks.train_worker import StepWorker, calm_down, synthetic_batch
from mammo_d2.config.loading import load_config


def arguments(*words):
    parser = argparse.ArgumentParser()
    gpu.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("case", gpu.CASES)
def test_a_case_runs_with_every_setting_of_a_cpu(case, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    found = gpu.run(arguments("--tiny", "--cases", case, "--steps", "1", "--warmup", "0", "--output", str(path)))
    assert json.loads(path.read_text()) == found
    contenders = found["cases"][case]
    assert [*contenders] == [s.name for s in gpu.settings(False, "cpu")]
    assert not any("error" in values for values in contenders.values())
    plain, fast = contenders["embedded, float32"], contenders["embedded, channels_last + fused"]
    assert fast["first_loss_difference"] < 1e-5
    assert contenders["embedded, float32, process group"]["first_loss_difference"] < 1e-6
    assert 0 < contenders["embedded, + bfloat16"]["first_loss_difference"] < 0.2
    assert len(plain["losses"]) == 1
    assert plain["busy"] is None
    assert "images/s" in capsys.readouterr().out
    assert not torch.distributed.is_initialized()


def test_no_case_begins_after_the_time(tmp_path):
    found = gpu.run(arguments("--tiny", "--minutes", "0", "--cases", "GMIC", "--output", str(tmp_path / "gpu.json")))
    assert found["left_out"] == ["GMIC"]
    assert found["cases"] == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_can_be_done():
    with pytest.raises(ValueError, match="--tiny tests the script on a CPU"):
        gpu.run(arguments("--cases", "GMIC"))


def test_settings():
    alone, both = gpu.settings(False, "cuda"), gpu.settings(True, "cuda")
    assert both[0] == gpu.Setting("detectron2's trainer, float32", (), "plain", "detectron2")
    assert both[3:] == alone
    assert sum(setting.group for setting in both) == 1
    assert {value for setting in both for value in setting.overrides if "float" in value} == {"float16", "bfloat16"}
    assert not any("float16" in setting.overrides for setting in gpu.settings(True, "cpu"))


def test_figures_by_hand():
    base = Contender("a", "embedded", [], seconds=[1.0, 2.0, 4.0], losses=[2.0, 4.0], peak_mb=100.0)
    fast = Contender("b", "embedded", [], seconds=[0.5, 1.0, 4.0], losses=[2.5, 4.0], peak_mb=50.0)
    lost = Contender("c", "embedded", [])
    found = gpu.figures([base, fast, lost], 4, {"a": 1.5, "b": None}, {"c": "out of memory"})
    assert found["c"] == {"error": "out of memory"}
    assert found["b"] == {
        "images_per_s": 4.0, "median_s": 1.0, "time_ratio": 0.5, "peak_mb": 50.0, "busy": None,
        "first_loss_difference": 0.25, "mean_loss_difference": 0.125, "losses": [2.5, 4.0],
    }  # fmt: skip
    assert found["a"]["busy"] == 0.75
    assert found["a"]["time_ratio"] == 1.0


def test_a_contender_that_fails_costs_only_itself(tmp_path, monkeypatch, capsys):
    step = StepWorker.step

    def fail_in_bfloat16(self):
        if self.cfg.SOLVER.AMP.ENABLED:
            raise RuntimeError("CUDA out of memory")
        return step(self)

    monkeypatch.setattr(StepWorker, "step", fail_in_bfloat16)
    path = str(tmp_path / "gpu.json")
    found = gpu.run(arguments("--tiny", "--cases", "GMIC", "--steps", "2", "--warmup", "0", "--output", path))
    assert found["cases"]["GMIC"]["embedded, + bfloat16"] == {"error": "CUDA out of memory"}
    assert len(found["cases"]["GMIC"]["embedded, float32"]["losses"]) == 2
    assert "CUDA out of memory" in capsys.readouterr().out


def test_labels_of_the_synthetic_batch():
    cfg = load_config("configs/gmic/GMIC.yaml", ["INPUT.SIZE", "[32, 24]", "SOLVER.IMS_PER_BATCH", "2"])
    first, second = synthetic_batch(cfg)
    assert (first["labels"], second["labels"]) == ({"benign": 1, "malignant": 1}, {"benign": 0, "malignant": 0})
    assert (len(first["instances"]), len(second["instances"])) == (3, 0)
    assert first["image"].shape == (1, 32, 24)
    assert float(first["image"].std()) == pytest.approx(1, abs=0.05)  # standardised


def test_calm_weights():
    model = torch.nn.ModuleDict({"conv3": torch.nn.Module(), "conv2": torch.nn.Module()})
    for name in model:
        model[name].norm = torch.nn.BatchNorm2d(2)
    calm_down(model)
    assert model["conv3"].norm.weight.tolist() == pytest.approx([0.1, 0.1])
    assert model["conv2"].norm.weight.tolist() == [1, 1]
