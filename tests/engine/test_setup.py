import argparse
import json
import os

import pytest
import torch

from mammo_d2.config.loading import ConfigError, load_config
from mammo_d2.engine.setup import check_device, setup
from mammo_d2.framework import DatasetCatalog, comm
from mammo_d2.framework.machine import machine_facts


def arguments(folder, *opts, resume=False, eval_only=False):
    opts = ["OUTPUT_DIR", str(folder), "DATASETS.ROOT", str(folder / "none"), "MODEL.DEVICE", "cpu", *opts]
    return argparse.Namespace(config_file="", opts=opts, resume=resume, eval_only=eval_only, strict_weights=False)


def test_random_seed_is_recorded_and_resumed(tmp_path):
    first = setup(arguments(tmp_path)).SEED
    assert first >= 0
    assert setup(arguments(tmp_path, resume=True)).SEED == first
    assert setup(arguments(tmp_path)).SEED != first


def test_an_evaluation_leaves_the_seed_for_a_later_resume(tmp_path):
    first = setup(arguments(tmp_path)).SEED
    setup(arguments(tmp_path, eval_only=True))
    assert setup(arguments(tmp_path, resume=True)).SEED == first


def test_given_seed_is_kept(tmp_path):
    assert setup(arguments(tmp_path, "SEED", "11", resume=True)).SEED == 11


def test_deterministic_runs_have_what_torch_asks_for_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        setup(arguments(tmp_path, "SOLVER.DETERMINISTIC", "True"))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        # Back to what it was, also after a setting that monkeypatch has not seen.
        given = os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    assert given == ":4096:8"


@pytest.mark.parametrize(("device", "is_own"), [("cuda", True), ("cuda:1", True), ("cuda:0", False), ("cpu", False)])
def test_each_of_several_processes_has_its_gpu(monkeypatch, device, is_own):
    """The second process of two; without a GPU every device is right, as it is the CPU."""
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_local_rank", lambda: 1)
    cfg = load_config("", ["MODEL.DEVICE", device])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device(cfg)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if is_own:
        check_device(cfg)
    else:
        with pytest.raises(
            ConfigError, match=f"MODEL.DEVICE is {device}, .* 2 processes with a GPU each: set it to cuda"
        ):
            check_device(cfg)


def test_an_evaluation_leaves_the_trainings_config_alone(tmp_path):
    setup(arguments(tmp_path))
    config = (tmp_path / "config.yaml").read_bytes()
    (tmp_path / "x.pth").touch()
    setup(arguments(tmp_path, "MODEL.WEIGHTS", str(tmp_path / "x.pth"), eval_only=True))
    assert (tmp_path / "config.yaml").read_bytes() == config
    assert f"WEIGHTS: {tmp_path / 'x.pth'}" in (tmp_path / "config_eval.yaml").read_text()
    setup(arguments(tmp_path / "new", eval_only=True))
    assert (tmp_path / "new" / "config.yaml").is_file()


def test_wrong_data_sets_are_found_before_the_output_folder_is_touched(tmp_path):
    setup(arguments(tmp_path / "out"))
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        with pytest.raises(ValueError, match="unknown data set 'toys'"):
            setup(arguments(tmp_path / "out", key, "['toys']"))
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    # An evaluation elsewhere does not need the training data.
    setup(arguments(tmp_path / "out", "DATASETS.TRAIN", "['toys']", eval_only=True))


def test_data_sets_of_other_code_need_no_annotation_file(tmp_path):
    for name in ("own_a", "own_b"):
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, list)
    setup(arguments(tmp_path, "DATASETS.TRAIN", "['own_a']", "DATASETS.TEST", "['own_b']"))


def test_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"OUTPUT_DIR .*file/run cannot be made \(Not a directory\); name another"):
        setup(arguments(tmp_path / "file" / "run"))


def test_a_config_by_name_is_logged_like_a_file(tmp_path):
    args = arguments(tmp_path, "DATASETS.TRAIN", "[]", "DATASETS.TEST", "[]")
    args.config_file = "mammo_d2://quickstart/phantom_top_likelihood.yaml"
    cfg = setup(args)
    assert cfg.DATALOADER.SAMPLER_TRAIN == "PairSampler"
    assert "phantom_top_likelihood.yaml:\n" in (tmp_path / "log.txt").read_text()


def test_a_training_records_its_machine_and_an_evaluation_leaves_that_alone(tmp_path):
    setup(arguments(tmp_path))
    facts = json.loads((tmp_path / "machine.json").read_text())
    assert facts == machine_facts()
    (tmp_path / "machine.json").write_text("{}")
    setup(arguments(tmp_path, eval_only=True))
    assert (tmp_path / "machine.json").read_text() == "{}"


def test_missing_weights_are_told_before_anything_is_written_with_what_makes_them(tmp_path):
    def error_of(weights: str) -> str:
        opts = ["OUTPUT_DIR", str(tmp_path / "out"), "MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu"]
        with pytest.raises(FileNotFoundError) as error:
            setup(argparse.Namespace(config_file="", opts=opts, resume=False, eval_only=False))
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert error_of("output/phantom_pretrain/model_final.pth") == (
        "MODEL.WEIGHTS output/phantom_pretrain/model_final.pth does not exist; mammo-d2 train --config-file "
        "mammo_d2://quickstart/phantom_pretrain.yaml makes it (the head of that file says from what); or start from "
        "random weights with MODEL.WEIGHTS ''"
    )
    assert error_of("mine.pth") == (
        "MODEL.WEIGHTS mine.pth does not exist; check the path, or start from random weights with MODEL.WEIGHTS ''"
    )


def test_a_killed_evaluation_leaves_the_config_of_the_training(tmp_path, monkeypatch):
    setup(arguments(tmp_path))
    training = (tmp_path / "config.yaml").read_bytes()
    weights = tmp_path / "x.pth"
    weights.touch()

    def killed(*_, **__):
        (tmp_path / "config.yaml").write_text("that of the evaluation")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mammo_d2.engine.setup.default_setup", killed)
        with pytest.raises(KeyboardInterrupt):
            setup(arguments(tmp_path, "MODEL.WEIGHTS", str(weights), eval_only=True))
    setup(arguments(tmp_path, "MODEL.WEIGHTS", str(weights), eval_only=True))
    assert (tmp_path / "config.yaml").read_bytes() == training
    assert f"WEIGHTS: {weights}" in (tmp_path / "config_eval.yaml").read_text()
    assert not list(tmp_path.glob(".config*"))


def test_an_evaluation_made_again_in_a_folder_of_its_own_has_one_config(tmp_path):
    for _ in range(2):
        setup(arguments(tmp_path, eval_only=True))
        assert sorted(path.name for path in tmp_path.glob("*.yaml")) == ["config.yaml"]
