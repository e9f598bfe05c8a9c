"""Models without weights: trained is evaluated."""

from pathlib import Path

import pytest

from mammo_d2.cli.training import train
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import read_json
from mammo_d2.jobs import UntrainedJob, build_job
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset

CONFIG = str(ROOT / "configs" / "baselines" / "brightest_blob.yaml")


def test_training_is_an_evaluation(tmp_path):
    write_dataset(tmp_path / "data", positives=3, negatives=2, split="test")
    out = tmp_path / "out"
    overrides = ["DATASETS.ROOT", str(tmp_path / "data"), "DATASETS.TEST", "('toy_test',)", "MODEL.DEVICE", "cpu"]
    for flags in ((), ("--resume",), ("--eval-only",)):
        assert train.run(["--config-file", CONFIG, *flags, *overrides, "OUTPUT_DIR", str(out)]) == 0
    job = build_job(load_config(CONFIG, overrides))
    assert job.is_finished(out)
    path = job.metrics_file(out)
    assert path == out / "inference" / "toy_test" / "metrics.json"
    assert 0 <= read_json(path)["froc"]["malignant/sens@1"] <= 1
    assert read_json(path.with_name("prediction_cost.json"))["images"] == 5
    assert not list(out.rglob("*.pth"))
    assert job.report_parts(out).trainings == []


def test_there_are_no_weights(tmp_path):
    job = build_job(load_config(CONFIG))
    assert isinstance(job, UntrainedJob)
    assert job.stages() == []
    assert not job.result_evaluation(tmp_path, tmp_path / "test", "x").needs_weights
    with pytest.raises(FileNotFoundError, match="BrightestBlob has no weights to start from"):
        job.weights(Path())


def test_another_job_is_refused():
    with pytest.raises(ValueError, match=r"BrightestBlob .* is trained by UntrainedJob: set JOB UntrainedJob"):
        build_job(load_config(CONFIG, ["JOB", "SingleStageJob"]))
