"""Prediction on a local cluster with a killed worker: the result files of one process, byte for byte."""

import os
import signal
from pathlib import Path

import pytest
import torch

from mammo_d2.cli.results.predict import run
from mammo_d2.framework import META_ARCH_REGISTRY
from tests.inference.tiny_model import BrightestPixels, brightest_cfg, write_mammogram


@META_ARCH_REGISTRY.register()
class DyingModel(BrightestPixels):
    """Ends its process at the third image once, where the folder has a file that asks for it."""

    def forward(self, batch):
        flag = Path(batch[0]["file_name"]).with_name("die")
        if "2.png" in batch[0]["file_name"] and flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(batch)


@pytest.mark.slow
def test_the_result_files_are_those_of_one_process(local_cluster, tmp_path, capsys):
    files = [write_mammogram(tmp_path / "in" / f"{number}.png", seed=number) for number in range(5)]
    (tmp_path / "in" / "4.png").write_bytes(files[4].read_bytes()[:90])  # damaged
    name = ["MODEL.META_ARCHITECTURE", "DyingModel", "MODULES", "['tests.inference.cluster.test_cluster_predictor']"]
    cfg = brightest_cfg(tmp_path, *name)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    arguments = ["--config-file", str(tmp_path / "config.yaml"), "--weights", cfg.MODEL.WEIGHTS, "--quiet"]
    arguments += ["--input", str(tmp_path / "in"), "--keep-ids", "--saliency", "--output"]
    (tmp_path / "in" / "die").touch()
    assert run([*arguments, str(tmp_path / "cluster"), "--cluster", local_cluster]) == 3
    assert not (tmp_path / "in" / "die").exists()
    threads = torch.get_num_threads()
    assert run([*arguments, str(tmp_path / "here")]) == 3
    torch.set_num_threads(threads)
    found, expected = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("cluster", "here")
    )
    assert found == expected
    assert "predictions.json" in found
    # What is there is not predicted again.
    capsys.readouterr()
    assert run([*arguments, str(tmp_path / "cluster"), "--cluster", local_cluster, "--resume"]) == 3
    assert "4 files have a prediction" in capsys.readouterr().out
    assert (tmp_path / "cluster" / "predictions.csv").read_bytes() == expected["predictions.csv"]
