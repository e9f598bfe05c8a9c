"""Malignancy of given lesions: of a data set, of a detector's results, or of boxes; as COCO annotations."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mammo_d2.data.catalog import category_names
from mammo_d2.data.lesion_loader import build_lesion_loader
from mammo_d2.data.reader import image_size
from mammo_d2.engine.lesion_stages import LesionMapper, make_saliency, needs_saliency
from mammo_d2.evaluation.results_io import ResultsError, lesion_entry
from mammo_d2.framework import BoxMode, CfgNode


def classify_lesions(cfg: CfgNode, model: torch.nn.Module, records: Sequence[dict]) -> list[dict[str, Any]]:
    """Malignancy of all annotations of some records.

    Args:
        cfg: of the context stage.
        model: the trained model, in evaluation mode.
        records: dataset records; ``annotations`` are the lesions, by mask where there is one, else by box.

    Returns:
        COCO results, one per annotation in their order: ``image_id``, ``category_id`` (from 1, of ``category_names``:
        malignant from 0.5 on, else benign), ``bbox`` XYWH in pixels of the image file, ``score`` (the malignancy) and
        ``malignancy``; ``annotation_id`` and ``detection_score`` where the lesion has them; ``windows``, a list of
        {"bbox" XYWH, "malignancy"}.
    """
    if needs_saliency(cfg):
        make_saliency(cfg, records)
    classes = category_names(cfg)
    numbers = [classes.index(name) + 1 for name in ("benign", "malignant")]
    results = []
    for (sample,), record in zip(build_lesion_loader(records, LesionMapper(cfg)), records, strict=True):
        with torch.inference_mode():
            output = model([sample])[0]
        for row, annotation in enumerate(record["annotations"]):
            score = float(output["malignancy"][row])
            windows = sample["windows"][sample["window_lesion"] == row].numpy()
            scores = output["lesion_scores"][row][:, 0].cpu().numpy()
            entry = lesion_entry(record["image_id"], annotation, score, windows, scores)
            entry |= {"category_id": numbers[score >= 0.5], "score": score}
            if annotation.get("score") is not None:
                entry["detection_score"] = annotation["score"]
            results.append(entry)
    return results


def records_with_results(
    records: Sequence[Mapping[str, Any]], results_file: str | Path, min_score: float = 0.0
) -> list[dict[str, Any]]:
    """Records whose lesions are a detector's boxes.

    Args:
        records: of the data set that the detector was run on.
        results_file: COCO results, ``bbox`` XYWH in pixels of the image file.
        min_score: boxes of a lower score are left out.

    Raises:
        ResultsError: no list of results, or one of an image that is not among the records.
    """
    with open(results_file, encoding="utf-8") as file:
        entries = json.load(file)
    by_image: dict[Any, list[dict[str, Any]]] = {record["image_id"]: [] for record in records}
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        if not isinstance(entry, dict) or not {"image_id", "bbox", "score"} <= set(entry):
            raise ResultsError(f"{results_file}, entry {number}: no COCO result with image_id, bbox and score")
        if entry["image_id"] not in by_image:
            raise ResultsError(
                f"{results_file}, entry {number}: image_id {entry['image_id']!r} is not in the data set; name the data "
                "set that the results were made for"
            )
        if entry["score"] >= min_score:
            by_image[entry["image_id"]].append(
                {"bbox": entry["bbox"], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "score": entry["score"]}
            )
    return [{**record, "annotations": by_image[record["image_id"]]} for record in records]


def record_of_boxes(file_name: str | Path, boxes: Sequence[Sequence[float]]) -> dict[str, Any]:
    """A record of one prepared image with boxes [x, y, width, height] in its pixels.

    Raises:
        FileNotFoundError, ValueError: the image cannot be read.
    """
    height, width = image_size(file_name)
    lesions = [{"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0} for box in boxes]
    return {"file_name": str(file_name), "image_id": 1, "height": height, "width": width, "annotations": lesions}
