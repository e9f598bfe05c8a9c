"""A small data set on disk, random model outputs for it, and what the evaluators leave of them."""

import json
from pathlib import Path

import numpy as np
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.evaluation.evaluators.registered import build_evaluators
from mammo_d2.framework import Boxes, CfgNode, Instances

EVALUATORS = ["coco", "froc", "patient", "image", "saliency", "regions"]
SIZE = (40, 30)
NAME = "toy_test"


def write_dataset(root: Path, patients: int = 12, start: int = 0, name: str = "toy") -> Path:
    """Two views of a patient; every third patient has a malignant box, every fourth a benign one. The JSON file."""
    builder = CocoBuilder()
    folder = root / name
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for patient in range(start, start + patients):
        for view in ("CC", "MLO"):
            file_name = f"{patient}{view}.png"
            (folder / "images" / file_name).touch()
            shown = {"malignant": int(patient % 3 == 0), "benign": int(patient % 4 == 0)}
            image = builder.add_image(
                file_name, *SIZE, patient_id=f"p{patient}", exam_id="1", laterality="L", view=view, labels=shown
            )
            for place, category in ((5, "malignant"), (20, "benign")):
                if shown[category]:
                    builder.add_annotation(
                        image, [5, place, 10, 10], category, pathology=category, lesion_id=f"{category}{patient}"
                    )
    path = folder / "annotations" / "test.json"
    builder.write(path)
    return path


def config(root: Path, *more: str) -> CfgNode:
    settings = ["DATASETS.ROOT", str(root), "DATASETS.TEST", f"('{NAME}',)", "TEST.EVALUATORS", repr(EVALUATORS)]
    return load_config("", [*settings, "DATASETS.CATEGORIES", "['malignant', 'benign']", *more])


def evaluate(cfg: CfgNode, folder: Path, seed: int, dataset: str = NAME) -> dict[str, dict[str, float]]:
    """Random outputs, better than chance, evaluated into ``folder``; the evaluators' numbers."""
    rng = np.random.default_rng(seed)
    register_datasets(cfg)
    records = load_records(cfg, dataset)
    classes = len(cfg.DATASETS.CATEGORIES) if not cfg.DATASETS.MERGE_CATEGORIES else 1
    evaluator = build_evaluators(cfg, dataset, str(folder))
    evaluator.reset()
    for record in records:
        boxes, scores, labels = [], [], []
        for annotation in record["annotations"]:
            x, y, w, h = annotation["bbox"]
            if rng.random() < 0.7:
                boxes.append([x + rng.uniform(0, 3), y + rng.uniform(0, 3), x + w, y + h])
                scores.append(rng.uniform(0.3, 1))
                labels.append(annotation["category_id"])
        for _ in range(3):
            x, y = rng.uniform(0, 20, 2)
            boxes.append([x, y, x + rng.uniform(2, 10), y + rng.uniform(2, 10)])
            scores.append(rng.uniform(0, 0.8))
            labels.append(rng.integers(classes))
        instances = Instances(SIZE)
        instances.pred_boxes = Boxes(torch.tensor(np.array(boxes), dtype=torch.float32))
        instances.scores = torch.tensor(scores, dtype=torch.float32)
        instances.pred_classes = torch.tensor(np.array(labels), dtype=torch.int64)
        output = {"instances": instances, "saliency": torch.tensor(rng.random((classes, 8, 6)), dtype=torch.float32)}
        if "image" in cfg.TEST.EVALUATORS:
            shown = {a["category_id"] for a in record["annotations"]}
            names = [cfg.DATASETS.MERGE_CATEGORIES] if cfg.DATASETS.MERGE_CATEGORIES else cfg.DATASETS.CATEGORIES
            output["image_scores"] = {n: rng.uniform(0, 0.7) + 0.3 * (k in shown) for k, n in enumerate(names)}
        evaluator.process([{"image_id": record["image_id"]}], [output])
    return evaluator.evaluate()


def write_lesion_scores(path: Path, annotations: Path, seed: int) -> list[dict]:
    """``lesion_scores.json`` with a random malignancy for every annotation; its entries."""
    rng = np.random.default_rng(seed)
    entries = [
        {
            "image_id": a["image_id"], "annotation_id": a["id"], "bbox": a["bbox"], "windows": [],
            "malignancy": rng.uniform(), "truth": float(a["pathology"] == "malignant"),
        }
        for a in json.loads(annotations.read_text())["annotations"]
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    return entries
