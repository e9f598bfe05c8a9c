"""A small data set on disk for the tests of catalog, mapper and loader."""

from pathlib import Path

import cv2
import numpy as np

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.framework import CfgNode, get_cfg

HEIGHT, WIDTH = 48, 40
BOX = [10.0, 12.0, 8.0, 6.0]


def write_dataset(
    root: Path, positives: int = 2, negatives: int = 3, name: str = "toy", split: str = "train", category="malignant"
) -> Path:
    """Write ``<root>/<name>`` with 16-bit PNGs; the positives come first. Returns the annotation file."""
    folder = root / name
    (folder / "images").mkdir(parents=True, exist_ok=True)
    builder = CocoBuilder()
    rng = np.random.default_rng(0)
    for index in range(positives + negatives):
        file_name = f"{split}_{index}.png"
        pixels = rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
        assert cv2.imwrite(str(folder / "images" / file_name), pixels)
        image_id = builder.add_image(file_name, HEIGHT, WIDTH, patient_id=f"p{index}", laterality="L", view="CC")
        if index < positives:
            builder.add_annotation(image_id, BOX, category, pathology=category, lesion_id=f"lesion{index}")
    path = folder / "annotations" / f"{split}.json"
    builder.write(path)
    return path


def toy_config(root: Path, train: tuple[str, ...] = ("toy_train",)) -> CfgNode:
    """A config for it: 24x20 input, no workers, fixed seed, no augmentation."""
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.DATASETS.ROOT = str(root)
    cfg.DATASETS.TRAIN = train
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.SIZE = [24, 20]
    cfg.INPUT.AUG.FLIP_HORIZONTAL = 0.0
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0], [1.0]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(cfg.DATASETS.CATEGORIES)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SEED = 5
    return cfg
