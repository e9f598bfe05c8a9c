"""A small data set with benign and malignant lesions for the tests of the lesion classifier."""

from pathlib import Path

import cv2
import numpy as np

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.framework import CfgNode, get_cfg

HEIGHT, WIDTH = 96, 80
# Of the first image: pathology, box, value of 65535.
LESIONS = [("malignant", [10, 10, 12, 10], 60000), ("benign", [52, 64, 14, 14], 30000)]
UNKNOWN = [30, 40, 20, 20]


def write_lesion_dataset(root: Path) -> Path:
    """Write ``<root>/lesions``: both lesions, one of unknown pathology, nothing, a label without box. Returns root."""
    folder = root / "lesions"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    builder = CocoBuilder()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(4000, 8000, (HEIGHT, WIDTH), dtype=np.uint16)
        labels = {"benign": int(number == 0), "malignant": int(number in (0, 3))}
        if number == 0:
            for _, (x, y, w, h), value in LESIONS:
                pixels[y : y + h, x : x + w] = value
        name = f"train_{number}.png"
        assert cv2.imwrite(str(folder / "images" / name), pixels)
        image_id = builder.add_image(
            name, HEIGHT, WIDTH, patient_id=f"p{number}", laterality="L", view="CC", labels=labels
        )
        if number == 0:
            for kind, box, _ in LESIONS:
                builder.add_annotation(image_id, box, kind, pathology=kind, lesion_id=kind)
        elif number == 1:
            builder.add_annotation(image_id, UNKNOWN, "benign", pathology="unknown", lesion_id="unknown")
    builder.write(folder / "annotations" / "train.json")
    return root


def lesion_records() -> list[dict]:
    """Records like those of the data set, without files."""

    def record(number: int, annotations: list[dict], **labels: int) -> dict:
        return {
            "image_id": number,
            "file_name": f"{number}.png",
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": annotations,
            "labels": labels,
        }

    lesions = [
        {"bbox": box, "bbox_mode": 1, "category_id": int(kind == "malignant"), "pathology": kind, "iscrowd": 0}
        for kind, box, _ in LESIONS
    ]
    # A large box: beside the lesions of image 1 there is no room for a window of 70 pixels.
    unknown = {"bbox": [0, 0, 8, 8], "bbox_mode": 1, "category_id": 0, "pathology": "unknown", "iscrowd": 0}
    return [record(1, lesions), record(2, [unknown]), record(3, []), record(4, [], malignant=1)]


def lesion_config(root: Path, output: Path) -> CfgNode:
    """A config for it with the data set registered as ``lesions_train``: small patches and epochs, batches of 4."""
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.DATASETS.ROOT = str(root)
    cfg.DATASETS.TRAIN = ("lesions_train",)
    cfg.DATASETS.TEST = ("lesions_train",)
    cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [30.0], [30.0]
    cfg.MODEL.LESION.EPOCH = [2, 2, 6, 6]
    cfg.MODEL.LESION.WINDOW_SIDES = [16, 40]
    cfg.MODEL.LESION.PATCH_SIZE = 32
    cfg.MODEL.LESION.WINDOWS = 6
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SEED = 5
    cfg.OUTPUT_DIR = str(output / "out")
    register_datasets(cfg)
    return cfg
