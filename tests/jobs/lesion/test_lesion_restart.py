"""The lesion classifier's job in a folder that holds another run's files, and on data that changed or overlap."""

import json
import shutil
from pathlib import Path

import cv2
import pytest
import torch

from mammo_d2.engine.trainer import MammoTrainer
from tests.jobs.lesion.lesion_jobs import run, write_job

TWO = ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2"]
STAGES = ("patch", "context_embedding_saliency")


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path)


def weights(path: Path):
    return torch.load(path, weights_only=True)["model"]


def write_split(folder: Path, name: str, **changes):
    """The training set again, its patients renamed by a prefix, with other image entries."""
    data = json.loads((folder / "lesions/annotations/train.json").read_text())
    for image in data["images"]:
        image.update({key: f"{value}{image['patient_id']}" for key, value in changes.items()})
        image.pop("source", None)
    (folder / "lesions/annotations" / f"{name}.json").write_text(json.dumps(data))


def test_a_job_begun_anew_and_interrupted_does_not_go_on_with_the_former_runs_weights(folder, monkeypatch):
    former = [*TWO, "SOLVER.BASE_LR", "0.01"]
    run(folder, *former)
    for stage in STAGES:  # of either one
        with pytest.raises(ValueError, match=rf"out/{stage}/last_checkpoint\): give --resume to go on with it"):
            run(folder, *TWO)
        for name in ("last_checkpoint", "model_final.pth"):
            (folder / "out" / stage / name).unlink()
    whole = run(folder, *TWO, out="whole")
    step = MammoTrainer.run_step

    def failing_step(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(MammoTrainer, "run_step", failing_step)
    with pytest.raises(KeyboardInterrupt):
        run(folder, *TWO)
    assert not list((folder / "out").glob("context_*/best"))
    monkeypatch.setattr(MammoTrainer, "run_step", step)
    assert run(folder, *TWO, resume=True) == whole
    for stage in STAGES:
        for name, value in weights(folder / "whole" / stage / "model_final.pth").items():
            torch.testing.assert_close(weights(folder / "out" / stage / "model_final.pth")[name], value, rtol=0, atol=0)


def test_a_changed_image_gives_new_embeddings(folder):
    given = ["MODEL.LESION.MAPS", "['embedding']", *TWO]
    run(folder, *given)
    given += ["MODEL.LESION.PATCH_WEIGHTS", str(folder / "out/patch/model_best.pth")]
    run(folder, *given, "MODEL.LESION.CACHE", str(folder / "out/cache"), out="same")
    assert len(list((folder / "out/cache/embeddings").iterdir())) == 1
    image = str(folder / "lesions/images/train_0.png")
    assert cv2.imwrite(image, 65535 - cv2.imread(image, cv2.IMREAD_UNCHANGED))
    run(folder, *given, "MODEL.LESION.CACHE", str(folder / "out/cache"), out="changed")
    one, other = (weights(folder / name / "context_embedding/model_final.pth") for name in ("same", "changed"))
    assert len(list((folder / "out/cache/embeddings").iterdir())) == 2
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_saliency_is_made_of_test_images_with_lesions_only(folder):
    shutil.copytree(folder / "lesions", folder / "others")
    for path in (folder / "others/images").glob("*.png"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(path), image // 2)
    held = ["MODEL.LESION.FINAL_TEST", "['others_train']", "DATASETS.ALLOW_SHARED_PATIENTS", "True"]
    whole = run(folder, *TWO, *held)
    # The training set's four images and the two of four test images that have lesions.
    assert len(list((folder / "out/cache/saliency").rglob("*.npy"))) == 6
    assert whole["lesion"]["num_malignant"] == 1


def test_patients_of_the_final_evaluation_chose_and_taught_nothing(folder):
    write_split(folder, "val", patient_id="v")
    write_split(folder, "test", patient_id="v")
    split = ["DATASETS.TEST", "('lesions_val',)", "MODEL.LESION.FINAL_TEST", "['lesions_test']"]
    with pytest.raises(ValueError, match="lesions_val and lesions_test share patients"):
        run(folder, *TWO, *split)
    write_split(folder, "test", patient_id="t")
    # The context network's own config says what it has seen.
    config = folder / "config.yaml"
    for seen in ("val", "test"):
        config.write_text(f"DATASETS: {{TRAIN: [lesions_{seen}x, lesions_seen]}}\n")
        write_split(folder, "seen", patient_id=seen[0])
        with pytest.raises(ValueError, match=f"lesions_seen and lesions_{seen} share patients"):
            run(folder, *TWO, *split)
    write_split(folder, "seen", patient_id="s")
    assert "lesion" in run(folder, *TWO, *split)
