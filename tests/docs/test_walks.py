"""The tutorials, typed as they stand there; only the trainings are shorter."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from mammo_d2.phantom.settings import PhantomConfig
from mammo_d2.phantom.writer import write_phantom
from tests.conftest import ROOT
from tests.docs.guide import read_guide, type_command

QUICK = ["SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "2", "INPUT.SIZE", "[96, 64]", "SOLVER.IMS_PER_BATCH", "2"]
PATIENTS = 12


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """A working directory as the reader's: ``hospital`` with DICOM files, and the tables."""
    folder = tmp_path_factory.mktemp("walks")
    config = PhantomConfig(n_patients=PATIENTS, rows=160, cols=128, seed=3, share_malignant=0.5, share_benign=0.25)
    truth = json.loads(write_phantom(config, folder / "made", progress=False).read_text())
    shutil.move(folder / "made" / "dicom", folder / "hospital")
    names = {category["id"]: category["name"] for category in truth["categories"]}
    boxes = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        boxes[annotation["image_id"]].append((names[annotation["category_id"]], annotation["bbox"]))
    with (
        open(folder / "truth.csv", "w", newline="") as with_boxes,
        open(folder / "labels.csv", "w", newline="") as labels,
    ):
        located, plain = csv.writer(with_boxes), csv.writer(labels)
        located.writerow(["file", "category", "x", "y", "width", "height", "benign", "malignant", "patient_id"])
        plain.writerow(["file", "benign", "malignant", "patient_id"])
        for image in truth["images"]:
            found = boxes[image["id"]]
            known = [int(any(name == kind for name, _ in found)) for kind in ("benign", "malignant")]
            plain.writerow([image["file_name"], *known, image["patient_id"]])
            for name, box in found or [("", ["", "", "", ""])]:
                located.writerow([image["file_name"], name, *box, *known, image["patient_id"]])
    return folder


def walk(page, folder, monkeypatch, quick=QUICK):
    """Type a page's commands in the folder; returns their exit codes."""
    monkeypatch.chdir(folder)
    return [
        type_command([*command, *(quick if command[0] == "train" else [])])
        for command in read_guide(f"tutorials/{page}").commands
    ]


@pytest.mark.slow
def test_own_dicoms_then_a_detectron2_user_then_a_stream(hospital, monkeypatch):
    patients = sorted((hospital / "hospital").iterdir())
    shutil.copytree(patients[0], hospital / "exams" / "new")
    assert walk("own_dicoms.md", hospital, monkeypatch) == [0, 0, 0, 0, 0, 0]
    assert "<html" in (hospital / "output/mine/report.html").read_text(encoding="utf-8")
    splits = [
        json.loads((hospital / f"datasets/mine/annotations/{name}.json").read_text()) for name in ("train", "test")
    ]
    assert sum(len(split["images"]) for split in splits) == 4 * PATIENTS
    predicted = json.loads((hospital / "predictions/predictions.json").read_text())
    assert len(predicted["images"]) == 4

    guide = read_guide("tutorials/detectron2_user.md")
    guide.write_files(hospital)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "train_mine.py"], cwd=hospital, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (hospital / "output/plugin/model_final.pth").is_file()

    shutil.copytree(patients[0], hospital / "inbox" / patients[0].name)
    assert walk("stream_of_exams.md", hospital, monkeypatch) == [0]
    shutil.copytree(patients[1], hospital / "inbox" / patients[1].name)
    assert walk("stream_of_exams.md", hospital, monkeypatch) == [0]
    streamed = json.loads((hospital / "stream/predictions.json").read_text())
    assert len(streamed["images"]) == 8


@pytest.mark.slow
def test_labels_without_boxes(hospital, monkeypatch):
    assert walk("labels_only.md", hospital, monkeypatch) == [0, 0, 0]
    metrics = json.loads((hospital / "output/labels/inference/labels_test/metrics.json").read_text())
    assert 0 <= metrics["image"]["malignant/auc"] <= 1


def test_results_from_elsewhere(tmp_path, monkeypatch):
    """Program a finds three of four lesions, program b one; the rest of their boxes miss."""
    mass = {"category_id": 1, "bbox": [50, 60, 30, 40], "area": 1200, "iscrowd": 0}
    image = {"width": 200, "height": 300}
    truth = {
        "images": [
            {**image, "id": n, "file_name": f"{n}.png", "patient_id": f"p{n}", "labels": {"malignant": int(n < 4)}}
            for n in range(8)
        ],
        "annotations": [{**mass, "id": n + 1, "image_id": n} for n in range(4)],
        "categories": [{"id": 1, "name": "malignant"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, found in {"a": 3, "b": 1}.items():
        boxes = [[52, 60, 30, 40] if n < found else [150, 200, 30, 40] for n in range(4)]
        results = [
            {"image_id": n, "category_id": 1, "bbox": box, "score": 0.9 - 0.1 * n} for n, box in enumerate(boxes)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    assert walk("foreign_results.md", tmp_path, monkeypatch) == [0]
    systems = json.loads((tmp_path / "comparison" / "metrics.json").read_text())["systems"]
    found = {name: system["metrics"]["froc/malignant/sens@8"]["value"] for name, system in systems.items()}
    assert found == {"ours": 0.75, "theirs": 0.25}
