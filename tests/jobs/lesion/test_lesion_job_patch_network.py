"""f_loc's own evaluation: beside f_agg's, and as a job of its own."""

import json
from pathlib import Path

import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import load_records
from mammo_d2.experiments.variant_runs import Variant, run_ablation
from mammo_d2.inference.lesion_malignancy import load_lesion_classifier
from mammo_d2.jobs.job import build_job
from mammo_d2.jobs.lesion.lesion_trainer import LesionMapper
from tests.jobs.lesion.lesion_jobs import places, run, write_job

TWO = ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2", "TEST.BOOTSTRAP.REPLICATES", "10"]
ALONE = ["MODEL.LESION.MAPS", "[]"]


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path)


def lesion_results(folder: Path, stage: str):
    return json.loads((folder / stage / "best" / "inference" / "lesions_train" / "lesion.json").read_text())


def test_f_loc_has_its_own_row(folder):
    """The mean over its windows of malignant / (malignant + benign), once beside f_agg and once alone."""
    whole = run(folder, *TWO)
    beside = lesion_results(folder / "out", "patch")
    alone = run(folder, *TWO, *ALONE, out="alone")
    assert not list((folder / "alone").glob("context_*"))
    assert not (folder / "alone/cache").exists()
    assert lesion_results(folder / "alone", "patch")["cases"] == beside["cases"]
    assert alone["lesion"]["auc"] == beside["metrics"]["auc"]
    assert whole["lesion"] == pytest.approx(lesion_results(folder / "out", "context_embedding_saliency")["metrics"])
    # Only the final evaluations have intervals.
    assert len(beside["intervals"]["tnr@fnr0.02"]) == 2
    on_the_way = folder / "out/patch/inference/lesions_train/lesion.json"
    assert "intervals" not in json.loads(on_the_way.read_text())

    # By hand: f_loc's logits of the lesion's windows.
    opts = [*places(folder), *TWO, *ALONE, "OUTPUT_DIR", str(folder / "alone")]
    cfg = load_config(str(folder / "job.yaml"), opts)
    stage, model = load_lesion_classifier(cfg)
    sample = LesionMapper(stage)(load_records(stage, ["lesions_train"])[0])
    with torch.inference_mode():
        scores = model.window_logits(sample).softmax(dim=1)
    first = scores[sample["window_lesion"] == 0]
    assert beside["cases"]["scores"][0] == pytest.approx(
        float((first[:, 0] / first[:, :2].sum(dim=1)).mean()), abs=1e-5
    )

    # Given weights are evaluated, nothing is trained.
    weights = ["MODEL.LESION.PATCH_WEIGHTS", str(folder / "alone/patch/model_best.pth")]
    job = build_job(load_config(str(folder / "job.yaml"), [*opts, *weights]))
    assert not job.is_finished(folder / "given")
    assert run(folder, *TWO, *ALONE, *weights, out="given")["lesion"] == alone["lesion"]
    assert job.is_finished(folder / "given")
    assert job.weights(folder / "given") == Path(weights[1])
    assert not (folder / "given/patch/last_checkpoint").exists()


@pytest.mark.slow
def test_a_row_of_the_ablation_uses_the_shared_f_loc(folder):
    variants = [Variant("alone", ALONE), Variant("indicator", ["MODEL.LESION.MAPS", "['indicator']"])]
    overrides = [*places(folder), *TWO, "MODEL.LESION.NETWORK", "resnet18"]
    rows = run_ablation(str(folder / "job.yaml"), variants, [1], folder / "ablation", overrides)
    assert [row["variant"] for row in rows] == ["alone", "indicator"]
    assert len(list((folder / "ablation").glob("shared_*"))) == 1
    assert not list((folder / "ablation").glob("*_seed1/patch/last_checkpoint"))
    assert (folder / "ablation/alone_seed1/patch/best/inference/lesions_train/lesion.json").is_file()
