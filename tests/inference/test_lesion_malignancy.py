"""Lesions from detectors of every kind and from files that were never prepared; results that COCO tools read."""

import json
import runpy
import shutil

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from mammo_d2.config.loading import load_config
from mammo_d2.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.files import write_json
from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.inference.detected_lesions import records_with_results
from mammo_d2.inference.lesion_malignancy import record_of_boxes, results_in_file
from tests.conftest import ROOT
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom
from tests.data.lesion_dataset import LESIONS
from tests.jobs.lesion.lesion_jobs import places, run, tiny_network, write_job


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path)


def classify(folder, *arguments: str, opts=()):
    # By path: detectron2's sources may have a package called tools.
    tool = runpy.run_path(str(ROOT / "tools" / "classify_lesions.py"))["run"]
    output = folder / "lesions.json"
    command = ["--config-file", str(folder / "job.yaml"), "--output", str(output), *arguments]
    assert tool([*command, *places(folder), "OUTPUT_DIR", str(folder / "out"), *opts]) == 0
    return json.loads(output.read_text())


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
    (tmp_path / "r.json").write_text('[{"image_id": 77, "bbox": [0, 0, 1, 1], "score": 1}]')
    cfg = load_config("", ["DATASETS.ROOT", str(folder)])
    register_datasets(cfg)
    with pytest.raises(ResultsError, match=r"entry 0.*77"):
        records_with_results(load_records(cfg, "lesions_train"), tmp_path / "r.json")
    with pytest.raises(FileNotFoundError):
        record_of_boxes(tmp_path / "absent.png", [[0, 0, 1, 1]])


def test_results_have_the_category_ids_of_the_data_set_and_open_with_pycocotools(folder):
    truth = folder / "lesions/annotations/train.json"
    data = json.loads(truth.read_text())
    data["categories"] = [{"id": 7, "name": "malignant"}, {"id": 4, "name": "benign"}]
    for annotation in data["annotations"]:
        annotation["category_id"] = {1: 4, 2: 7}[annotation["category_id"]]
    truth.write_text(json.dumps(data))
    run(folder, "SOLVER.MAX_ITER", "2")
    entries = classify(folder, "--dataset", "lesions_train")
    assert [entry["category_id"] for entry in entries] == [7 if one["score"] >= 0.5 else 4 for one in entries]
    opened = COCO(str(truth)).loadRes(str(folder / "lesions.json"))
    assert [one["bbox"] for one in opened.loadAnns(opened.getAnnIds(imgIds=[1]))] == [box for _, box, _ in LESIONS]


def test_results_in_source_pixels_give_lesions_in_source_pixels(folder):
    run(folder, "SOLVER.MAX_ITER", "2")
    truth = folder / "lesions/annotations/train.json"
    data = json.loads(truth.read_text())
    for image in data["images"]:
        image["transform"] = {"source_size": [200, 200], "crop": [50, 20, image["width"], image["height"]]}
    truth.write_text(json.dumps(data))
    x, y, width, height = LESIONS[0][1]

    def lesion(name, bbox, *more):
        (folder / name).write_text(json.dumps([{"image_id": 1, "category_id": 1, "score": 0.9, "bbox": bbox}]))
        (one,) = classify(folder, "--dataset", "lesions_train", "--results", str(folder / name), *more)
        assert one["bbox"] == bbox
        return one

    prepared = lesion("results.json", [x, y, width, height])
    for name, more in (("results.json", ["--pixels", "source"]), ("coco_instances_results_source.json", [])):
        source = lesion(name, [x + 50, y + 20, width, height], *more)
        assert source["malignancy"] == pytest.approx(prepared["malignancy"])
        assert source["windows"][0]["bbox"][0] == pytest.approx(prepared["windows"][0]["bbox"][0] + 50)


def test_a_file_that_was_never_prepared_has_its_boxes_and_windows_in_its_own_pixels(folder):
    run(folder, "SOLVER.MAX_ITER", "2")
    preparation = Preparation(image=ImageOptions(crop=True, flip_to="left", max_side=150))
    write_json(folder / "out/preparation.json", preparation.to_dict())
    pixels, _ = half_ellipse(side="right")
    file = write_dicom(folder / "view.dcm", pixels.astype(np.uint16))
    box = [200, 150, 40, 60]
    (found,) = classify(folder, "--image", str(file), "--box", *map(str, box))
    assert found["bbox"] == pytest.approx(box)

    prepared = preparation.apply(file)
    transform = prepared.transform
    assert transform.flip
    assert transform.prepared_size[0] == 150
    assert cv2.imwrite(str(folder / "prepared.png"), prepared.pixels.astype(np.uint16))
    moved = xyxy_to_xywh(transform.boxes_to_prepared(xywh_to_xyxy(box)))
    none = ["INPUT.PREPARATION", "none"]
    (other,) = classify(folder, "--image", str(folder / "prepared.png"), "--box", *map(str, moved), opts=none)
    assert found["malignancy"] == pytest.approx(other["malignancy"], abs=1e-6)
    assert other["bbox"] == pytest.approx(moved.tolist())
    for one, in_prepared in zip(found["windows"], results_in_file([other], transform)[0]["windows"], strict=True):
        assert one["bbox"] == pytest.approx(in_prepared["bbox"])
    # A window of 16 prepared pixels or more is larger by the scale.
    assert min(one["bbox"][2] for one in found["windows"]) >= 16 / transform.scale[1] - 1e-6
    with pytest.raises(ValueError, match=r"view.dcm: the box \[5.0, 150.0, 4.0, 4.0\].*no pixel inside the part"):
        classify(folder, "--image", str(file), "--box", "5", "150", "4", "4")


def test_what_the_networks_started_from_is_not_needed(folder):
    start = folder / "imagenet.pth"
    torch.save(tiny_network()[0].state_dict(), start)
    given = ["MODEL.LESION.NETWORK_WEIGHTS", str(start)]
    run(folder, "SOLVER.MAX_ITER", "2", *given)
    start.unlink()
    context = (folder / "context.yaml").read_text()
    (folder / "context.yaml").write_text(context.replace("{VARIANT: loc}", "{VARIANT: loc, PATCH_WEIGHTS: absent.pth}"))
    assert len(classify(folder, "--dataset", "lesions_train", opts=given)) == 3
    assert len(list((folder / "out/cache/saliency").iterdir())) == 1
