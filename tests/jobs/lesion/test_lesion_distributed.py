"""The lesion classifier's job in two processes (gloo): the stores and scores of one process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mammo_d2.framework import ENGINE
from tests.conftest import ROOT
from tests.jobs.lesion.lesion_jobs import places, run, write_job

# More patches than one part of the embedding store holds, so that both processes have one to make.
SETTINGS = ["MODEL.LESION.NETWORK", "resnet18", "MODEL.LESION.EPOCH", "[2, 2, 146, 146]", "SOLVER.MAX_ITER", "2"]


@pytest.mark.slow
@pytest.mark.skipif(ENGINE == "detectron2", reason="detectron2's trainer asks for one GPU per process")
@pytest.mark.usefixtures("hidden_gpus")
def test_two_processes_make_the_stores_and_scores_of_one(tmp_path):
    folder = write_job(tmp_path)
    run(folder, *SETTINGS, out="one", shared_only=True)
    weights = ["MODEL.LESION.PATCH_WEIGHTS", str(next((folder / "one" / "patch").glob("model_best.pth")))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "mammo_d2.cli.training.train", "--config-file", str(folder / "job.yaml"), *places(folder)]
    command += [*SETTINGS, *weights, "OUTPUT_DIR", str(folder / "two")]
    job = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert job.returncode == 0, job.stderr[-3000:]

    caches = [folder / name / "cache" for name in ("one", "two")]
    names = [sorted(str(path.relative_to(cache)) for path in cache.rglob("*.np?")) for cache in caches]
    assert names[0] == names[1]
    assert sum(name.endswith(".npz") for name in names[0]) == 2
    assert sum(name.endswith(".npy") for name in names[0]) == 4
    for name in names[0]:
        one, two = (np.load(cache / name) for cache in caches)
        arrays = [(one, two)] if name.endswith(".npy") else [(one[key], two[key]) for key in one.files]
        for first, second in arrays:
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)

    # The evaluation that both have shared, against one process with the same weights.
    result = folder / "two" / "context_embedding_saliency" / "best" / "inference" / "lesions_train" / "lesion.json"
    shared = json.loads(result.read_text())
    run(folder, *SETTINGS, *weights, out="two", eval_only=True)
    alone = json.loads(result.read_text())
    assert alone["metrics"] == shared["metrics"]
    assert alone["cases"]["truth"] == shared["cases"]["truth"]
    assert alone["cases"]["scores"] == pytest.approx(shared["cases"]["scores"], abs=1e-6)
