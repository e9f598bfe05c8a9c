"""What the viewer shows of a prepared data set: its images with their truth, or its images as the network gets them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.files import read_json
from mammo_d2.data.format.catalog import category_names, load_mammo_coco
from mammo_d2.data.loading.mapped_images import AUGMENTATION_STREAM
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.framework import CfgNode
from mammo_d2.pictures.drawing import to_display
from mammo_d2.report.viewer.embedded_images import encode_jpeg
from mammo_d2.report.viewer.viewed_data import ViewedDataset, embedded_rows


def prepared_splits(folder: str | os.PathLike, splits: Sequence[str] = ()) -> list[tuple[str, Path, Path]]:
    """(name, annotation file, image folder) of the splits of a prepared data set.

    Args:
        folder: of the data set.
        splits: the ones wanted; empty: all.

    Raises:
        FileNotFoundError: no such folder or split; the message names those there are.
    """
    folder = Path(folder)
    there = {path.stem: path for path in sorted((folder / "annotations").glob("*.json"))}
    if not there:
        raise FileNotFoundError(f"{folder}: no annotations/*.json in it; name the folder of a prepared data set")
    for split in splits:
        if split not in there:
            raise FileNotFoundError(f"{folder}: no split {split!r}; there are {', '.join(there)}")
    name = folder.resolve().name
    return [(f"{name}_{split}", there[split], folder / "images") for split in splits or there]


def prepared_dataset(name: str, annotations: Path, images: Path, categories: Sequence[str] = ()) -> ViewedDataset:
    """A split with its truth.

    Args:
        name: of the split.
        annotations: its COCO file.
        images: folder of its images.
        categories: classes that are shown; empty: all of the file.

    Raises:
        FileNotFoundError, ValueError: no such file, not a file of the format, or unknown categories.
    """
    # The loader checks the file; here the names alone are needed.
    content = read_json(annotations)
    found = content.get("categories") if isinstance(content, dict) else None
    names = [str(category.get("name")) for category in found or [] if isinstance(category, dict)]
    chosen = list(categories or names)
    return ViewedDataset(name, load_mammo_coco(annotations, images, None, chosen or ["malignant"]), chosen)


def as_the_network_sees(
    cfg: CfgNode, dataset: ViewedDataset, variants: int, limit: int, seed: int = 0
) -> ViewedDataset:
    """Images of a data set as a training's network gets them: without augmentation, and drawn with it.

    Each image is an exam of its own: "as it is" beside "drawn 1", "drawn 2", ... Boxes are those of the sample.

    Args:
        cfg: of the training.
        dataset: with the classes of the config.
        variants: drawn samples of each image.
        limit: most pictures; images are spread evenly over the data set.
        seed: of the draws.

    Raises:
        ValueError: an image that cannot be used.
    """
    plain, drawing = MammoMapper(cfg, is_train=False, with_instances=True), MammoMapper(cfg, is_train=True)
    rows = sorted(embedded_rows(list(range(len(dataset.records))), max(limit // (variants + 1), 1)))
    records: list[dict[str, Any]] = []
    pictures: dict[Any, bytes] = {}
    for row in rows:
        record = dict(dataset.records[row])
        for variant in range(variants + 1):
            if variant:
                drawn = np.random.default_rng([seed, AUGMENTATION_STREAM, row * variants + variant - 1])
                sample = drawing(dict(record), drawn)
            else:
                sample = plain(dict(record))
            image = sample["image"][0].numpy()
            name = f"{record['image_id']}, " + (f"drawn {variant}" if variant else "as it is")
            pictures[name] = encode_jpeg(to_display(image))
            boxes = zip(
                sample["instances"].gt_boxes.tensor.tolist(), sample["instances"].gt_classes.tolist(), strict=True
            )
            records.append(
                {
                    **{key: record.get(key) for key in ("file_name", "patient_id", "laterality", "view", "density")},
                    **({"labels": record["labels"]} if record.get("labels") else {}),
                    "image_id": name,
                    "exam_id": str(record["image_id"]),
                    "height": image.shape[0],
                    "width": image.shape[1],
                    "annotations": [{"bbox": box, "bbox_mode": 0, "category_id": label} for box, label in boxes],
                }
            )
    return ViewedDataset(dataset.name, records, category_names(cfg), pictures=pictures)
