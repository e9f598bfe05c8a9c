"""Checkpoints in object storage: copied, fetched where a folder has none, and a training that goes on from them."""

import logging
import shutil

import fsspec
import pytest
import torch

from mammo_d2.engine.run_files.checkpoint_copies import CheckpointCopies
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import final_weights, run

ADDRESS = "memory://copies"


@pytest.fixture(autouse=True)
def storage():
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


def test_the_last_checkpoint_comes_back(tmp_path, storage):
    copies = CheckpointCopies(f"{ADDRESS}/", tmp_path / "run")
    assert copies.address == "memory://copies/run"
    assert copies.fetch() is None
    for name in ("model_1.pth", "model_2.pth"):
        (tmp_path / name).write_bytes(name.encode())
        copies.put(str(tmp_path / name))
    assert sorted(storage.ls("/copies/run", detail=False)) == [
        "/copies/run/last_checkpoint", "/copies/run/model_1.pth", "/copies/run/model_2.pth",
    ]  # fmt: skip
    assert copies.fetch() == tmp_path / "run" / "model_2.pth"
    assert (tmp_path / "run" / "model_2.pth").read_bytes() == b"model_2.pth"
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_2.pth"
    # A folder with a checkpoint keeps it.
    (tmp_path / "run" / "last_checkpoint").write_text("model_9.pth")
    assert copies.fetch() is None


@pytest.mark.parametrize("name", ["../model.pth", "/etc/model.pth", "a\\model.pth", "model.sh", ""])
def test_a_name_that_is_no_checkpoint_is_refused(tmp_path, storage, name):
    storage.pipe_file("/copies/run/last_checkpoint", name.encode())
    with pytest.raises(ValueError, match="which is no checkpoint"):
        CheckpointCopies(ADDRESS, tmp_path / "run").fetch()


def test_a_copy_that_fails_is_only_logged(tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        CheckpointCopies(ADDRESS, tmp_path / "run").put(str(tmp_path / "none.pth"))
    assert "none.pth could not be copied to memory://copies/run (FileNotFoundError" in caplog.text


def test_an_unknown_protocol(tmp_path):
    with pytest.raises(ValueError, match=r"SOLVER\.CHECKPOINT_COPY is 'nowhere://x': Protocol not known"):
        CheckpointCopies("nowhere://x", tmp_path)


def test_a_training_goes_on_where_its_folder_is_lost(tmp_path, storage):
    write_dataset(tmp_path, positives=3, negatives=4)
    run(tmp_path, "OUTPUT_DIR", str(tmp_path / "whole"))
    run(tmp_path, "SOLVER.CHECKPOINT_COPY", ADDRESS)
    shutil.rmtree(tmp_path / "out")
    storage.pipe_file("/copies/out/last_checkpoint", b"model_0000003.pth")  # as after a loss in the middle
    run(tmp_path, "SOLVER.CHECKPOINT_COPY", ADDRESS, resume=True)
    assert not (tmp_path / "out" / "model_0000001.pth").exists()
    found, expected = final_weights(tmp_path / "out"), final_weights(tmp_path / "whole")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
