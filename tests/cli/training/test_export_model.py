"""``mammo-d2 export-model``: from a run's files to a checked file, and its errors."""

import sys

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.cli.arguments.command_line import EXIT_ERROR, EXIT_OK, run_tool
from mammo_d2.cli.training.export_model import run
from tests.inference.export.small_models import detector, detector_cfg, gmic


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights of the small detector with their config.yaml beside them."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(detector_cfg().dump())
    torch.save({"model": detector().state_dict()}, folder / "model_final.pth")
    return folder / "model_final.pth"


def export(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        run_tool(run, [str(argument) for argument in arguments])
    return end.value.code


def test_file_is_written_and_compared(trained, tmp_path, capsys):
    assert export("--weights", trained, "--output", tmp_path / "new" / "mine.ts", "--any-size") == EXIT_OK
    said = capsys.readouterr().out
    assert "mine.ts: TorchScript, " in said
    assert "same results as the model on 2 images, " in said
    boxes = torch.jit.load(tmp_path / "new" / "mine.ts")(torch.full((1, 1, 200, 150), 100.0))[0]
    assert boxes.shape[1] == 4


def test_images_to_compare_on(trained, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (80, 60)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "L-CC.png"), cv2.resize(pixels, (240, 320)))
    command = ["--weights", trained, "--output", tmp_path / "mine.ts", "--any-size", "--check", tmp_path / "L-CC.png"]
    assert export(*command) == EXIT_OK
    assert "same results as the model on 1 images" in capsys.readouterr().out
    assert export(*command) == EXIT_ERROR
    assert "mine.ts is there already" in capsys.readouterr().err


def test_a_file_that_differs_is_deleted(trained, tmp_path, capsys, monkeypatch):
    from mammo_d2.inference.export import exported_model

    def other(path):
        return lambda pixels: {name: np.zeros((1, 4)) for name in ("boxes", "scores", "classes")}

    monkeypatch.setattr(exported_model, "load_exported", other)
    assert export("--weights", trained, "--output", tmp_path / "mine.ts", "--any-size") == EXIT_ERROR
    assert "the exported file gives boxes of shape (1, 4)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "mine.pt"], "mine.pt: the suffix says the format; use .onnx (ONNX), .ts (TorchScript)"),
        (["--output", "mine.ts", "--size", "0", "5"], "--size must be positive"),
        (["--output", "mine.ts", "--size", "64", "64", "--any-size"], "between 128 and 8192"),
        (["--output", "mine.ts", "--size", "150", "140", "--check", "nowhere.png"], "nowhere.png"),
    ],
)
def test_bad_arguments(trained, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert export("--weights", trained, *arguments) == EXIT_ERROR
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export("--weights", trained, "--output", tmp_path / "mine.onnx") == EXIT_ERROR
    assert "pip install 'mammo_d2[export]'" in capsys.readouterr().err


def test_a_fixed_size_is_said_of_models_that_need_one(tmp_path, capsys):
    model, cfg = gmic()
    cfg.INPUT.PREPARATION = "none"
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, tmp_path / "model_final.pth")
    assert export("--weights", tmp_path / "model_final.pth", "--output", tmp_path / "a.ts", "--any-size") == EXIT_ERROR
    assert "only detectors can be exported for inputs of any size" in capsys.readouterr().err
