"""The lesion classifier's job: all stages, interrupted and continued; lesions from all sources."""

import json
import runpy
import shutil

import numpy as np
import pytest
import torch

from mammo_d2.data.catalog import load_records
from mammo_d2.engine import lesion_stages
from mammo_d2.engine.lesion_inference import record_of_boxes, records_with_results
from mammo_d2.engine.run_record import RunConflictError
from mammo_d2.engine.setup import load_config
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.evaluation.results_io import ResultsError
from tests.conftest import ROOT
from tests.data.lesion_dataset import LESIONS
from tests.engine.lesion_job import places, run, write_job


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path)


def weights(folder, stage="context_embedding_saliency"):
    return torch.load(folder / stage / "model_final.pth", weights_only=True)["model"]


def test_an_interrupted_job_ends_with_the_weights_of_an_uninterrupted_one(folder, monkeypatch):
    monkeypatch.setattr("mammo_d2.data.lesion_stores.PART", 10)
    whole = run(folder)
    assert set(whole["lesion"]) >= {"auc", "tnr@fnr0", "num_malignant"}
    assert whole["lesion"]["num_unknown"] == 1
    saliency = [np.load(path) for path in (folder / "out/cache/saliency").rglob("*.npy")]
    assert [one.shape for one in saliency] == [(2, 6, 5)] * 4

    # The other run breaks off in f_loc, among the embeddings, and in f_agg.
    step, put = MammoTrainer.run_step, lesion_stages.EmbeddingStore.put

    def failing_step(self):
        if self.iter == failing_step.at:
            raise KeyboardInterrupt
        step(self)

    def failing_put(self, part, arrays):
        if part.start == 20:
            raise KeyboardInterrupt
        put(self, part, arrays)

    monkeypatch.setattr(MammoTrainer, "run_step", failing_step)
    for at, change in ((3, put), (99, failing_put), (4, put)):
        failing_step.at = at
        monkeypatch.setattr(lesion_stages.EmbeddingStore, "put", change)
        with pytest.raises(KeyboardInterrupt):
            run(folder, resume=at != 3, out="broken")
        # The third break is in f_agg: f_loc has finished.
        assert (folder / "broken/patch/model_final.pth").is_file() == (at != 3)
    assert not (folder / "broken/context_embedding_saliency/model_final.pth").is_file()
    failing_step.at = 99
    again = run(folder, resume=True, out="broken")
    assert again == whole
    for stage in ("patch", "context_embedding_saliency"):
        for name, value in weights(folder / "out", stage).items():
            torch.testing.assert_close(weights(folder / "broken", stage)[name], value, rtol=0, atol=0)

    # Another combination of maps uses the same f_loc; evaluation alone repeats the numbers.
    run(folder, "MODEL.LESION.MAPS", "['indicator']", resume=True)
    assert (folder / "out/context_indicator/model_final.pth").is_file()
    assert run(folder, eval_only=True) == whole
    # So does another job that is given its weights.
    run(folder, "MODEL.LESION.PATCH_WEIGHTS", str(folder / "out/patch/model_best.pth"), out="given")
    assert not (folder / "given/patch").exists()
    for name, value in weights(folder / "out").items():
        torch.testing.assert_close(weights(folder / "given")[name], value, rtol=0, atol=0)


def test_a_stage_of_another_config_is_refused_before_any_training(folder, monkeypatch):
    two = ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2"]
    whole = run(folder, *two)
    monkeypatch.setattr(MammoTrainer, "run_step", lambda self: pytest.fail("trained"))
    keys = "MODEL.LESION."
    for key, stage in (("PATCH_STAGE", "patch"), ("CONTEXT_STAGE", "context_embedding_saliency")):
        with pytest.raises(RunConflictError, match=rf"/{stage} holds a run .*{key}: .*\. Name another OUTPUT_DIR, or"):
            run(folder, *two, keys + key, "['SOLVER.IMS_PER_BATCH', 2]", resume=True)
    # The final evaluation is made anew every time.
    assert run(folder, *two, keys + "FINAL_TEST", "['lesions_train']", resume=True) == whole


def test_lesions_from_ground_truth_results_and_boxes(folder):
    # By path: detectron2's sources may have a package called tools.
    classify = runpy.run_path(str(ROOT / "tools" / "classify_lesions.py"))["run"]
    run(folder, "SOLVER.MAX_ITER", "2")
    shutil.copy(folder / "job.yaml", folder / "use.yaml")
    opts = [*places(folder), "OUTPUT_DIR", str(folder / "out")]

    def results(*arguments):
        output = folder / "lesions.json"
        assert classify(["--config-file", str(folder / "use.yaml"), "--output", str(output), *arguments, *opts]) == 0
        return json.loads(output.read_text())

    truth = results("--dataset", "lesions_train")
    assert [(e["image_id"], e["bbox"]) for e in truth[:2]] == [(1, [float(v) for v in box]) for _, box, _ in LESIONS]
    for entry in truth:
        assert len(entry["windows"]) == 5
        assert entry["malignancy"] == pytest.approx(np.mean([one["malignancy"] for one in entry["windows"]]), abs=1e-6)
        assert entry["category_id"] == (2 if entry["malignancy"] >= 0.5 else 1)
    # The job's own evaluation has left the same lesions.
    written = folder / "out/context_embedding_saliency/best/inference/lesions_train/lesion_scores.json"
    evaluated = json.loads(written.read_text())
    assert [one["truth"] for one in evaluated] == [1, 0, None]
    for one, entry in zip(evaluated, truth, strict=True):
        assert (one["image_id"], one["annotation_id"], one["bbox"]) == (
            entry["image_id"], entry["annotation_id"], entry["bbox"],
        )  # fmt: skip
        assert one["malignancy"] == pytest.approx(entry["malignancy"], abs=1e-6)
        assert [part["bbox"] for part in one["windows"]] == [part["bbox"] for part in entry["windows"]]

    detections = [{"image_id": 1, "category_id": 2, "bbox": LESIONS[0][1], "score": 0.9}]
    detections.append({"image_id": 3, "category_id": 2, "bbox": [5, 5, 9, 9], "score": 0.05})
    (folder / "results.json").write_text(json.dumps(detections))
    (one,) = results("--dataset", "lesions_train", "--results", str(folder / "results.json"), "--min-score", "0.1")
    assert one["detection_score"] == 0.9
    assert one["malignancy"] == pytest.approx(truth[0]["malignancy"])

    image = str(folder / "lesions/images/train_0.png")
    (drawn,) = results("--image", image, "--box", *[str(v) for v in LESIONS[0][1]])
    assert drawn["windows"][0]["bbox"][2:] == truth[0]["windows"][0]["bbox"][2:]


def test_bad_input_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"CONTEXT_WEIGHTS.*train a GMIC first"):
        run(folder, "MODEL.LESION.CONTEXT_WEIGHTS", "absent.pth")
    with pytest.raises(ValueError, match=r"SALIENCY_MAPS is 3.*2 class"):
        run(folder, "MODEL.LESION.SALIENCY_MAPS", "3")
    with pytest.raises(FileNotFoundError, match=r"model_final.pth.*train_lesion.py"):
        run(folder, eval_only=True)
    with pytest.raises(ValueError, match="needs benign and malignant"):
        run(folder, "DATASETS.CATEGORIES", "['malignant']", "MODEL.LESION.MAPS", "['embedding']")
    (tmp_path / "r.json").write_text('[{"image_id": 77, "bbox": [0, 0, 1, 1], "score": 1}]')
    cfg = load_config("", ["DATASETS.ROOT", str(folder)])
    with pytest.raises(ResultsError, match=r"entry 0.*77"):
        records_with_results(load_records(cfg, "lesions_train"), tmp_path / "r.json")
    with pytest.raises(FileNotFoundError):
        record_of_boxes(tmp_path / "absent.png", [[0, 0, 1, 1]])
