"""A finished run made by hand: a data set of four images in two splits, and the files that a training leaves."""

import json

import cv2
import numpy as np

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import DatasetCatalog, MetadataCatalog, get_cfg
from mammo_d2.pictures.drawing import encode_png

LESION = [10.0, 20.0, 30.0, 30.0]


def make_dataset(root, patients="P"):
    """Two splits of a positive and a negative image each, 80 x 60 pixels, under ``root/toy``."""
    folder = root / "toy"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split, first in (("train", 1), ("test", 3)):
        images = []
        for number in (first, first + 1):
            pixels = np.full((80, 60), 1000, np.uint16)
            pixels[20:50, 10:40] += 500 * (number - first)
            cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
            images.append(
                {
                    "id": number,
                    "file_name": f"{number}.png",
                    "height": 80,
                    "width": 60,
                    "patient_id": f"{patients}{number}",
                }
            )
        annotation = {"id": 1, "image_id": first, "category_id": 2, "bbox": LESION, "area": 900.0, "iscrowd": 0}
        content = {
            "images": images,
            "annotations": [annotation],
            "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
        }
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


def make_run(folder, dataset_root):
    """Output folder of a run on that data set; its config is also returned. Forgets data sets of earlier tests."""
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in {"toy_train", "toy_test"} & set(catalog.list()):
            catalog.remove(name)
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.DATASETS.ROOT = str(dataset_root)
    cfg.DATASETS.TRAIN = ("toy_train",)
    cfg.DATASETS.TEST = ("toy_test",)
    cfg.MODEL.WEIGHTS = "<b>weights</b>.pth"
    cfg.OUTPUT_DIR = str(folder)
    inference = folder / "inference" / "toy_test"
    inference.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    log = [
        {"iteration": i, "total_loss": 3.0 / (i + 1), "loss_cls": 1.0 / (i + 1), "lr": 0.01, "time": 0.25}
        for i in (19, 39)
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in log))
    metrics = {
        "coco": {"AP": 0.1234, "AP50": 0.5678, "AP75": 0.05},
        "froc": {
            "malignant/sens@0.5": 0.4321,
            "malignant/sens@1": 0.8765,
            "malignant/threshold@0.5": 0.9,
            "malignant/threshold@1": 0.6,
            "malignant/num_lesions": 1.0,
        },
        "patient": {"auc": 0.7531, "sensitivity": 1.0, "specificity": 0.0},
    }
    (inference / "metrics.json").write_text(json.dumps(metrics))
    (inference / "froc.json").write_text(json.dumps({"options": "hit: IoU >= 0.5 <tag>", "reasons": {}}))
    (inference / "froc.png").write_bytes(encode_png(np.full((5, 9), 255, np.uint8)))
    predictions = [
        {"image_id": 3, "category_id": 2, "bbox": LESION, "score": 0.7},
        {"image_id": 4, "category_id": 2, "bbox": [1.0, 1.0, 9.0, 9.0], "score": 0.65},
    ]
    (inference / "coco_instances_results.json").write_text(json.dumps(predictions))
    return cfg
