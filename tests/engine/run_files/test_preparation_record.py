"""The training data's preparation: recorded beside the weights, found again by prediction."""

import json
import logging
from argparse import Namespace

import pytest

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.engine.run_files.preparation_record import find_preparation, record_preparation
from mammo_d2.engine.setup import setup
from mammo_d2.framework import get_cfg
from tests.data.toy_dataset import write_dataset

CROPPED = Preparation(image=ImageOptions(crop=True))
FLIPPED = Preparation(image=ImageOptions(flip_to="left"))


def write_manifest(path, preparation):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**preparation.to_dict(), "dataset": "toy"}))
    return path


@pytest.fixture
def cfg(tmp_path):
    """Two registered data sets without manifests, and weights in an empty folder."""
    for name in ("prepared_a", "prepared_b"):
        write_dataset(tmp_path / "data", name=name)
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.DATASETS.ROOT = str(tmp_path / "data")
    cfg.DATASETS.TRAIN = ("prepared_a_train", "prepared_b_train")
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    cfg.MODEL.WEIGHTS = str(tmp_path / "run" / "model_final.pth")
    register_datasets(cfg)
    return cfg


def test_recorded_in_training_and_found_without_the_data(cfg, tmp_path):
    manifest = write_manifest(tmp_path / "data" / "prepared_a" / "manifest.json", CROPPED)
    assert record_preparation(cfg) == tmp_path / "run" / "preparation.json"
    manifest.unlink()
    assert find_preparation(cfg) == CROPPED


def test_setting_up_a_job_records_it(cfg, tmp_path):
    write_manifest(tmp_path / "data" / "prepared_a" / "manifest.json", CROPPED)
    opts = ["DATASETS.ROOT", cfg.DATASETS.ROOT, "DATASETS.TRAIN", "('prepared_a_train',)", "OUTPUT_DIR", cfg.OUTPUT_DIR]
    setup(Namespace(config_file="", opts=opts, resume=False, eval_only=False, num_gpus=0))
    assert Preparation.from_file(tmp_path / "run" / "preparation.json") == CROPPED


def test_found_in_the_training_data_when_nothing_lies_beside_the_weights(cfg, tmp_path):
    write_manifest(tmp_path / "data" / "prepared_b" / "manifest.json", FLIPPED)
    assert find_preparation(cfg) == FLIPPED


def test_what_lies_beside_the_weights_wins(cfg, tmp_path):
    write_manifest(tmp_path / "data" / "prepared_a" / "manifest.json", CROPPED)
    write_manifest(tmp_path / "run" / "preparation.json", FLIPPED)
    assert find_preparation(cfg) == FLIPPED


def test_nothing_known_means_files_as_they_are_with_a_warning(cfg, caplog):
    assert record_preparation(cfg) is None
    with caplog.at_level(logging.WARNING):
        assert find_preparation(cfg) == Preparation()
    assert "no record of how the training images were prepared" in caplog.text


def test_none_and_a_file_of_ones_own_choice(cfg, tmp_path, caplog):
    write_manifest(tmp_path / "run" / "preparation.json", FLIPPED)
    cfg.INPUT.PREPARATION = "none"
    with caplog.at_level(logging.WARNING):
        assert find_preparation(cfg) == Preparation()
    assert not caplog.records
    cfg.INPUT.PREPARATION = str(write_manifest(tmp_path / "other.json", CROPPED))
    assert find_preparation(cfg) == CROPPED
    cfg.INPUT.PREPARATION = str(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        find_preparation(cfg)


def test_data_sets_prepared_differently_are_warned_about(cfg, tmp_path, caplog):
    write_manifest(tmp_path / "data" / "prepared_a" / "manifest.json", CROPPED)
    write_manifest(tmp_path / "data" / "prepared_b" / "manifest.json", FLIPPED)
    with caplog.at_level(logging.WARNING):
        assert find_preparation(cfg) == CROPPED
    assert "prepared_a_train and prepared_b_train were prepared differently" in caplog.text


def test_damaged_manifest_does_not_stop_a_training(cfg, tmp_path, caplog):
    (tmp_path / "data" / "prepared_a" / "manifest.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert record_preparation(cfg) is None
    assert "does not say how images were prepared" in caplog.text
    with pytest.raises(ValueError, match="does not say how images were prepared"):
        find_preparation(cfg)
