"""Command line, set-up of a job, logging and seeds."""

import argparse
import logging
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mammo_d2.framework.embedded import config
from mammo_d2.framework.embedded.engine.job_setup import default_argument_parser, default_setup, default_writers
from mammo_d2.framework.embedded.utils import log
from mammo_d2.framework.embedded.utils.files import MODEL_ZOO_URL, PathManager


def test_command_line() -> None:
    args = default_argument_parser().parse_args([])
    assert (args.config_file, args.resume, args.eval_only, args.num_gpus, args.num_machines) == ("", False, False, 1, 1)
    assert (args.machine_rank, args.opts) == (0, [])
    assert args.dist_url.startswith("tcp://127.0.0.1:")
    args = default_argument_parser().parse_args(
        ["--config-file", "c.yaml", "--num-gpus", "2", "--resume", "MODEL.DEVICE", "cpu", "SEED", "-1"]
    )
    assert (args.config_file, args.num_gpus, args.resume) == ("c.yaml", 2, True)
    assert args.opts == ["MODEL.DEVICE", "cpu", "SEED", "-1"]


def test_set_up_puts_config_and_log_on_record(tmp_path: Path) -> None:
    cfg = config.get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    cfg.SEED = 7
    cfg.CUDNN_BENCHMARK = False
    (tmp_path / "c.yaml").write_text("SEED: 7  # mine\n")
    default_setup(cfg, argparse.Namespace(config_file=str(tmp_path / "c.yaml"), eval_only=True))
    first = torch.rand(1).item()
    saved = config.get_cfg()
    saved.merge_from_file(str(tmp_path / "out" / "config.yaml"))
    assert yaml.safe_load(saved.dump()) == yaml.safe_load(cfg.dump())
    text = (tmp_path / "out" / "log.txt").read_text()
    for part in ("Process 0 of 1", "torch", "SEED: 7  # mine", "The whole config is in"):
        assert part in text
    default_setup(cfg, argparse.Namespace())
    assert torch.rand(1).item() == first


def test_seed_covers_all_generators() -> None:
    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002

    log.seed_all_rng(3)
    first = draw()
    log.seed_all_rng(3)
    assert draw() == first
    assert os.environ["PYTHONHASHSEED"] == "3"


def test_seeds_from_the_system_differ_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    drawn = set()
    for _ in range(3):
        log.seed_all_rng()
        drawn.add(torch.rand(1).item())
    assert len(drawn) == 3
    assert caplog.text.count("random seed: ") == 3


def test_messages_go_to_console_and_file_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for _ in range(2):
        logger = log.setup_logger(str(tmp_path), name="mammo_d2", abbrev_name="m", color=False)
    log.setup_logger(name="mammo_d2", color=False)
    logging.getLogger("mammo_d2.part").warning("hello")
    assert logger.name == "mammo_d2"
    assert capsys.readouterr().out.count("WARNING: hello") == 1
    for stream in (handler.stream for handler in logger.handlers):
        stream.flush()
    assert (tmp_path / "log.txt").read_text().count("mammo_d2.part WARNING: hello") == 1


def test_coloured_console_shortens_names(capsys: pytest.CaptureFixture) -> None:
    log.setup_logger(name="mammo_d2", abbrev_name="m")
    logging.getLogger("mammo_d2.part").error("bad %d", 3)
    out = capsys.readouterr().out
    assert " m.part]: " in out
    assert out.rstrip().endswith("bad 3")
    assert "ERROR" in out


def test_other_ranks_are_quiet_and_have_their_own_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    logger = log.setup_logger(str(tmp_path / "run.log"), distributed_rank=2, name="mammo_d2")
    logger.info("hello")
    assert capsys.readouterr().out == ""
    logger.handlers[-1].stream.flush()
    assert "hello" in (tmp_path / "run.log.rank2").read_text()


def test_environment_report() -> None:
    report = log.collect_env_info()
    assert torch.__version__ in report
    for row in ("engine", "numpy", "pycocotools", "GPU"):
        assert row in report


def test_standard_writers(tmp_path: Path) -> None:
    writers = default_writers(str(tmp_path / "out"), max_iter=10)
    assert [type(writer).__name__ for writer in writers] == ["CommonMetricPrinter", "JSONWriter", "TensorboardXWriter"]
    for writer in writers:
        writer.close()
    assert (tmp_path / "out" / "metrics.json").exists()


def test_names_of_the_model_zoo_are_downloaded_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(self: object, path: str, force: bool = False, **kwargs: object) -> str:
        asked.append(path)
        return str(tmp_path / "R-50.pkl")

    monkeypatch.setattr("iopath.common.file_io.HTTPURLHandler._get_local_path", download)
    local = PathManager.get_local_path("detectron2://ImageNetPretrained/MSRA/R-50.pkl")
    assert local == str(tmp_path / "R-50.pkl")
    assert asked == [MODEL_ZOO_URL + "ImageNetPretrained/MSRA/R-50.pkl"]
