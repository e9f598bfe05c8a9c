"""Bad input to ``train``: a message that names file, record, value and remedy, and exit code 2."""

import json

import cv2
import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.train import run as run_train
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import SETTINGS


@pytest.fixture
def train(tmp_path, capsys):
    """``train("KEY", "VALUE", ...)`` runs the command on ``tmp_path`` and returns its error message."""

    def run(*overrides):
        settings = {**SETTINGS, "DATASETS.ROOT": str(tmp_path), "OUTPUT_DIR": str(tmp_path / "out")}
        settings.update({"SOLVER.MAX_ITER": "2"}, **dict(zip(overrides[::2], overrides[1::2], strict=True)))
        with pytest.raises(SystemExit) as stop:
            run_tool(run_train, [item for pair in settings.items() for item in pair])
        captured = capsys.readouterr()
        assert stop.value.code == 2, captured.err[-3000:]
        assert "Traceback" not in captured.err
        assert "error: " in captured.err
        return captured.err[captured.err.index("error: ") :]

    return run


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_missing_image(tmp_path, train):
    write_dataset(tmp_path)
    (tmp_path / "toy" / "images" / "train_1.png").unlink()
    message = train()
    assert "train_1.png" in message
    assert "missing" in message


def test_truncated_png(tmp_path, train):
    write_dataset(tmp_path)
    for path in (tmp_path / "toy" / "images").glob("*.png"):
        path.write_bytes(path.read_bytes()[:-200])
    message = train()
    assert "/toy/images/train_" in message
    assert "truncated" in message


def test_dicom_without_pixel_data(tmp_path, train):
    annotations = write_dataset(tmp_path)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.3"
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.save_as(tmp_path / "toy" / "images" / "empty.dcm", enforce_file_format=True)
    edit(annotations, lambda c: [image.update(file_name=f"{image['id']}.dcm") for image in c["images"]])
    for image in json.loads(annotations.read_text())["images"]:
        (tmp_path / "toy" / "images" / image["file_name"]).write_bytes(
            (tmp_path / "toy" / "images" / "empty.dcm").read_bytes()
        )
    message = train()
    assert ".dcm" in message
    assert "pixel data" in message.lower()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["annotations"][0].update(bbox=[500.0, 10.0, 5.0, 5.0]), ["bbox", "outside"]),
        (lambda c: c["annotations"][0].update(bbox=[10.0, 10.0, 0.0, 5.0]), ["bbox", "annotation 1"]),
        (lambda c: c["annotations"][0].update(id=0), ["id", "0"]),
        (lambda c: c["annotations"][1].update(id=1), ["annotation 1.id = 1", "two annotations"]),
        (lambda c: c["images"][1].update(id=c["images"][0]["id"]), ["image 1.id = 1", "two images"]),
        (lambda c: c["annotations"][0].update(category_id=77), ["category_id", "77"]),
    ],
    ids=["outside", "zero area", "annotation id 0", "double annotation", "double image", "unknown category"],
)
def test_broken_annotation_file(tmp_path, train, change, expected):
    annotations = write_dataset(tmp_path)
    edit(annotations, change)
    message = train()
    for part in ["train.json", *expected]:
        assert part in message


def test_unknown_category_in_the_config(tmp_path, train):
    write_dataset(tmp_path)
    message = train("DATASETS.CATEGORIES", "['mass']")
    assert "'mass'" in message
    assert "malignant" in message


def test_patients_in_both_splits(tmp_path, train):
    write_dataset(tmp_path)
    write_dataset(tmp_path, split="test")
    message = train("DATASETS.TEST", "['toy_test']")
    for part in ("toy_train", "toy_test", "'p0'", "ALLOW_SHARED_PATIENTS"):
        assert part in message


def test_empty_training_set(tmp_path, train):
    write_dataset(tmp_path, positives=0, negatives=0)
    assert "no image" in train()


def test_no_negatives_for_the_pair_sampler(tmp_path, train):
    write_dataset(tmp_path, positives=2, negatives=0)
    message = train()
    assert "PairSampler" in message
    assert "negative" in message


def test_unknown_data_set(tmp_path, train):
    write_dataset(tmp_path)
    message = train("DATASETS.TRAIN", "['toys_train']")
    assert "'toys_train'" in message
    assert "toy_train" in message


def test_config_key_with_a_typo(tmp_path, train):
    write_dataset(tmp_path)
    assert "did you mean" in train("SOLVER.MAX_ITERS", "3")


def test_checkpoint_of_another_architecture(tmp_path, train):
    write_dataset(tmp_path)
    torch.save({"model": {"encoder.layer.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    message = train("MODEL.WEIGHTS", str(tmp_path / "other.pth"))
    assert "other.pth" in message
    assert "another architecture" in message


def test_image_of_another_size_than_the_annotation_file_says(tmp_path, train):
    write_dataset(tmp_path)
    for path in (tmp_path / "toy" / "images").glob("*.png"):
        cv2.imwrite(str(path), np.zeros((10, 10), np.uint16))
    message = train()
    assert "/toy/images/train_" in message
    assert "10" in message
