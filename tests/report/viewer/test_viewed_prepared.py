"""A prepared data set in the viewer, as it is and as a network gets it."""

import cv2
import numpy as np
import pytest

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import get_cfg
from mammo_d2.report.viewer.viewed_data import viewer_data
from mammo_d2.report.viewer.viewed_prepared import as_the_network_sees, prepared_dataset, prepared_splits
from tests.report.toy_run import LESION, make_dataset


@pytest.fixture
def folder(tmp_path):
    make_dataset(tmp_path)
    return tmp_path / "toy"


def test_splits(folder):
    assert [name for name, _, _ in prepared_splits(folder)] == ["toy_test", "toy_train"]
    assert prepared_splits(folder, ["train"]) == [("toy_train", folder / "annotations/train.json", folder / "images")]
    with pytest.raises(FileNotFoundError, match="no split 'val'; there are test, train"):
        prepared_splits(folder, ["val"])
    with pytest.raises(FileNotFoundError, match="name the folder of a prepared data set"):
        prepared_splits(folder / "images")


def test_truth_of_all_categories(folder):
    (split,) = prepared_splits(folder, ["test"])
    data = viewer_data([prepared_dataset(*split)], 10)
    assert (data["classes"], data["systems"], data["judged"]) == (["benign", "malignant"], [], False)
    assert data["images"][0]["lesions"] == [[*LESION, 1, ""]]
    assert [image["truth"] for image in data["images"]] == [[0, 1], [0, 0]]
    assert prepared_dataset(*split, ["malignant"]).classes == ["malignant"]


def test_samples_of_a_training(folder):
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.INPUT.SIZE = [40, 30]
    (split,) = prepared_splits(folder, ["test"])
    dataset = prepared_dataset(*split, ["malignant"])
    seen = as_the_network_sees(cfg, dataset, 2, 6)
    assert [record["image_id"] for record in seen.records][:3] == ["3, as it is", "3, drawn 1", "3, drawn 2"]
    data = viewer_data([seen], 10)
    assert [image["exam"] for image in data["images"]] == [0, 0, 0, 1, 1, 1]
    assert data["images"][0]["lesions"] == [[5, 10, 15, 15, 0, ""]]  # half the size
    assert (data["images"][0]["w"], data["images"][0]["h"]) == (30, 40)
    pixels = cv2.imdecode(np.frombuffer(seen.pictures["3, as it is"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (40, 30)
    assert as_the_network_sees(cfg, dataset, 2, 6).pictures == seen.pictures  # of one seed
    assert len(as_the_network_sees(cfg, dataset, 2, 3).records) == 3
