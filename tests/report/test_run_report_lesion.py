"""The report of a lesion classifier's job made by hand: trainings, numbers, lesions, and what is missing."""

import json
import re
import shutil

import numpy as np
import pytest

from mammo_d2.pictures.drawing import encode_png
from mammo_d2.report.html import DASH
from mammo_d2.report.run_blocks import PictureFolder
from mammo_d2.report.run_report import write_run_report
from tests.data.lesion_dataset import LESIONS, lesion_config, write_lesion_dataset
from tests.report.test_run_report import cells

MAPS = "context_embedding_saliency"


def log(folder, aucs):
    """A training log with an evaluation every 20 iterations."""
    lines = [
        {"iteration": 20 * n + 19, "total_loss": 2.0 / (n + 1), "lr": 0.01, "time": 0.5, "lesion/auc": auc}
        for n, auc in enumerate(aucs)
    ]
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def job(tmp_path):
    """A finished job's folder, and its config."""
    cfg = lesion_config(write_lesion_dataset(tmp_path / "data"), tmp_path)
    cfg.JOB, cfg.MODEL.META_ARCHITECTURE = "LesionContextJob", "LesionContextClassifier"
    cfg.MODEL.LESION.PATCH_STAGE = ["SOLVER.BASE_LR", 0.125]
    cfg.MODEL.LESION.CONTEXT_STAGE = ["SOLVER.BASE_LR", 0.25]
    cfg.TEST.BEST_METRIC, cfg.TEST.EVAL_PERIOD = "lesion/auc", 20
    folder = tmp_path / "out"
    log(folder / "patch", [0.5, 0.75, 0.625])
    log(folder / MAPS, [0.875, 0.875])
    (folder / "config.yaml").write_text(cfg.dump())
    inference = folder / MAPS / "best" / "inference" / "lesions_train"
    inference.mkdir(parents=True)
    numbers = {"auc": 0.7531, **{f"tnr@fnr{fnr}": float(fnr) + 0.1 for fnr in ("0", "0.02", "0.05")}}
    (inference / "metrics.json").write_text(json.dumps({"lesion": {**numbers, "num_malignant": 1.0}}))
    (inference / "lesion.json").write_text(json.dumps({"delong_intervals": {"auc": [0.6, 0.9]}}))
    (inference / "tnr_fnr.png").write_bytes(encode_png(np.full((5, 9), 255, np.uint8)))
    window = {"bbox": [8, 8, 20, 20], "malignancy": 0.875}
    entries = [
        {"image_id": 1, "annotation_id": n + 1, "bbox": box, "malignancy": 0.75 - n / 2, "windows": [window],
         "truth": int(kind == "malignant")}
        for n, (kind, box, _) in enumerate(LESIONS)
    ]  # fmt: skip
    (inference / "lesion_scores.json").write_text(json.dumps(entries))
    return folder, cfg


def report(job, **more):
    folder, cfg = job
    return write_run_report(cfg, folder, **more).read_text(encoding="utf-8")


def test_report_of_a_job(job, tmp_path):
    said: list[str] = []
    html = report(job, pictures=PictureFolder(tmp_path / "png", said.append))
    folder = tmp_path / "png" / "lesions_train" / "embedding_saliency"
    assert said == [f"{folder}: {len(list(folder.iterdir()))} pictures"]
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == [
        "Summary",
        "Images",
        "Data",
        "Training of the patch network",
        "Training of the aggregation network with embedding + saliency",
        "Results on lesions_train with embedding + saliency",
        "Lesions of lesions_train with embedding + saliency",
        "Configuration",
    ]
    assert f"<b>0.753<small>0.600{DASH}0.900</small></b><span>AUC, lesions</span>" in html
    assert "<b>0.120</b><span>TNR at FNR 2%, lesions</span>" in html
    assert cells(html, "lesions") == [f"0.753<small>0.600{DASH}0.900</small>", "0.100", "0.120", "0.150", "1"]
    assert "60 iterations are logged. A step took 0.5 s" in html
    assert "Best lesion/auc: 0.750 after 40 iterations, kept as model_best.pth." in html
    assert "40 iterations are logged." in html
    assert "Best lesion/auc: 0.875 after 20 iterations" in html  # the first of equal ones
    assert cells(html, "base learning rate") == ["SOLVER.BASE_LR", "0.125", "0.25"]
    assert cells(html, "windows of a lesion") == ["MODEL.LESION.WINDOWS", "6"]
    assert "image 1, patient p0, L CC: malignant, malignancy 0.75, its 1 windows from 0.88 to 0.88" in html
    # Two curves of each training, the TNR-FNR curve, two lesions.
    assert html.count("data:image/png;base64,") == 7
    written = sorted(path.name for path in (tmp_path / "png" / "lesions_train" / "embedding_saliency").iterdir())
    assert written == ["benign_1_2.png", "malignant_1_1.png"]


def test_data_sets_are_named_by_what_they_are_for(job):
    _, cfg = job
    assert cells(report(job), "lesions_train")[0] == "train, test"
    cfg.MODEL.LESION.FINAL_TEST = ["lesions_gone"]
    html = report(job)
    assert cells(html, "lesions_train")[0] == "train, choosing the weights"
    assert "lesions_gone could not be loaded" in html


def test_several_combinations_of_maps(job):
    folder, _ = job
    (folder / "context_indicator").mkdir()
    html = report(job)
    assert "Training of the aggregation network with indicator</h2>" in html
    assert "There is no training log" in html
    assert "Results on lesions_train with indicator" not in html


def test_the_patch_network_has_results_of_its_own(job):
    folder, cfg = job
    shutil.copytree(folder / MAPS / "best", folder / "patch" / "best")
    html = report(job)
    assert "Results on lesions_train with patch network alone" in html
    assert "Results on lesions_train with embedding + saliency" in html
    # Without maps of an aggregation network it is the whole job.
    shutil.rmtree(folder / MAPS)
    cfg.MODEL.LESION.MAPS = []
    html = report(job)
    assert "Results on lesions_train with patch network alone" in html
    assert "No aggregation network" not in html


def test_patch_network_of_another_job(job, tmp_path):
    folder, cfg = job
    (folder / "patch").rename(tmp_path / "other")
    cfg.MODEL.LESION.PATCH_WEIGHTS = str(tmp_path / "other" / "model_best.pth")
    html = report(job)
    assert f"It was trained in another job: {tmp_path}/other/model_best.pth." in html
    assert "Best lesion/auc: 0.750 after 40 iterations" in html
    cfg.MODEL.LESION.PATCH_WEIGHTS = str(tmp_path / "gone" / "model_best.pth")
    assert "Its log is not at hand." in report(job)


def test_what_is_missing_is_said(job, tmp_path):
    folder, cfg = job
    inference = folder / MAPS / "best" / "inference" / "lesions_train"
    scores = inference / "lesion_scores.json"
    scores.write_text(scores.read_text().replace('"image_id": 1', '"image_id": 99'))
    assert "No pictures: lesion scores entry 0: image_id 99 is not in the data set" in report(job)
    scores.unlink()
    said: list[str] = []
    html = report(job, pictures=PictureFolder(tmp_path / "png", said.append))
    reason = f"there is no lesion_scores.json; mammo-d2 train --config-file {folder}/config.yaml --eval-only"
    assert f"No pictures: {reason} DATASETS.TEST" in html
    assert len(said) == 1
    assert said[0].startswith(f"no pictures of lesions_train/embedding_saliency: {reason}")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_text(cfg.dump())
    html = report((bare, cfg))
    assert "No aggregation network has been evaluated; mammo-d2 train --resume goes on with the job." in html
    assert "There is no training log" in html
