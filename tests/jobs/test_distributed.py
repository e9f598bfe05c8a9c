"""Two processes under torchrun (gloo) against one process, through the whole training job."""

import json
import os
import subprocess
import sys

import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.framework import ENGINE
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import SETTINGS, final_weights, run

# Nothing may depend on random draws or on statistics of a process's own part of the batch: no augmentation, no batch
# normalisation, every anchor and proposal used, the same number of proposals in each image.
WITHOUT_CHANCE = {
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": "100000",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "1000",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": "1.0",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": "8",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": "8",
    "MODEL.RPN.NMS_THRESH": "1.0",
    "INPUT.AUG.SHIFT": "0.0",
    "INPUT.AUG.ROTATION": "0.0",
    "INPUT.AUG.FLIP_HORIZONTAL": "0.0",
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.IMS_PER_BATCH": "4",
    "SOLVER.EPOCHS": "1",  # of three pairs: two iterations of two
    "SOLVER.MAX_ITER": "0",
    "SOLVER.STEPS": "[]",
}


def two_processes(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a module under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(ENGINE == "detectron2", reason="detectron2's trainer asks for one GPU per process")
@pytest.mark.usefixtures("hidden_gpus")
def test_two_processes_train_and_evaluate_like_one(tmp_path):
    write_dataset(tmp_path, positives=3, negatives=4)  # 7 images: the count does not divide
    run(tmp_path, *[item for pair in WITHOUT_CHANCE.items() for item in pair], "OUTPUT_DIR", str(tmp_path / "one"))
    settings = {**SETTINGS, **WITHOUT_CHANCE, "DATASETS.ROOT": str(tmp_path), "OUTPUT_DIR": str(tmp_path / "two")}
    job = two_processes("mammo_d2.cli.training.train", *[item for pair in settings.items() for item in pair])
    assert job.returncode == 0, job.stderr[-3000:]
    assert (tmp_path / "two" / "log.txt.rank1").is_file()

    assert [load_config(str(tmp_path / name / "config.yaml")).SOLVER.MAX_ITER for name in ("one", "two")] == [2, 2]
    one, two = final_weights(tmp_path / "one"), final_weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6, msg=name)
    inference = [tmp_path / name / "inference" / "toy_train" for name in ("one", "two")]
    results = [json.loads((folder / "coco_instances_results.json").read_text()) for folder in inference]
    assert len(results[0]) == len(results[1]) > 0
    key = lambda entry: (entry["image_id"], -entry["score"])  # noqa: E731
    for a, b in zip(sorted(results[0], key=key), sorted(results[1], key=key), strict=True):
        assert a["image_id"] == b["image_id"]
        assert a["score"] == pytest.approx(b["score"], abs=1e-5)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in inference]
    assert metrics[0]["patient"] == pytest.approx(metrics[1]["patient"], nan_ok=True)


@pytest.mark.slow
@pytest.mark.skipif(ENGINE == "detectron2", reason="detectron2's trainer asks for one GPU per process")
@pytest.mark.usefixtures("hidden_gpus")
@pytest.mark.parametrize("rank", ["", ":1"])
def test_processes_stop_after_the_same_iteration_whichever_of_them_is_told(tmp_path, rank):
    write_dataset(tmp_path, positives=3, negatives=4)
    rare = ["SOLVER.CHECKPOINT_PERIOD", "100", "SOLVER.IMS_PER_BATCH", "4"]
    stopped = two_processes("tests.engine.toy_training", str(tmp_path), f"2:SIGTERM{rank}", *rare)
    assert stopped.returncode != 0
    out = tmp_path / "out"
    assert (out / "last_checkpoint").read_text() == "model_0000002.pth", stopped.stderr[-3000:]
    for name in ("log.txt", "log.txt.rank1"):
        told = "SIGTERM: stopping after this iteration" in (out / name).read_text()
        assert told == (rank == "" or name == "log.txt.rank1")
    assert "Stopped after iteration 2; --resume goes on from there" in (out / "log.txt").read_text()

    settings = {**SETTINGS, "DATASETS.ROOT": str(tmp_path), **dict(zip(rare[::2], rare[1::2], strict=True))}
    for name, flags in (("out", ["--resume"]), ("whole", [])):
        folder = ["OUTPUT_DIR", str(tmp_path / name)]
        job = two_processes("mammo_d2.cli.training.train", *flags, *[i for p in settings.items() for i in p], *folder)
        assert job.returncode == 0, job.stderr[-3000:]
    resumed, whole = final_weights(out), final_weights(tmp_path / "whole")
    for name in whole:
        assert torch.equal(resumed[name], whole[name]), name
