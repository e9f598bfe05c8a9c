"""Malignancy of given lesions: of a data set, of a detector's results, or of boxes; as COCO annotations."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask

from mammo_d2.data.breast_window import view_in_name
from mammo_d2.data.geometry import ImageTransform, clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.data.lesion_loader import build_lesion_loader
from mammo_d2.data.lesion_windows import run_length
from mammo_d2.data.preparation import FULL_SCALE_8
from mammo_d2.data.reader import image_size
from mammo_d2.engine.lesion_saliency import make_saliency, needs_saliency
from mammo_d2.engine.lesion_trainer import LesionMapper
from mammo_d2.engine.preparation import find_preparation
from mammo_d2.evaluation.results_io import ResultsError, lesion_entry, read_json
from mammo_d2.export.predictions import category_ids as package_category_ids
from mammo_d2.framework import BoxMode, CfgNode, MetadataCatalog

logger = logging.getLogger(__name__)


def classify_lesions(
    cfg: CfgNode, model: torch.nn.Module, records: Sequence[dict], category_ids: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Malignancy of all annotations of some records.

    Args:
        cfg: of the context stage.
        model: the trained model, in evaluation mode.
        records: dataset records; ``annotations`` are the lesions, by mask where there is one, else by box.
        category_ids: COCO category ids of "benign" and "malignant"; None: those of this package's format.

    Returns:
        COCO results, one per annotation in their order: ``image_id``, ``category_id`` (malignant from 0.5 on, else
        benign), ``bbox`` XYWH in pixels of the image file, ``score`` (the malignancy) and ``malignancy``;
        ``annotation_id`` and ``detection_score`` where the lesion has them; ``windows``, a list of {"bbox" XYWH,
        "malignancy"}.
    """
    if needs_saliency(cfg):
        make_saliency(cfg, records)
    ids = category_ids or package_category_ids(("benign", "malignant"))
    numbers = [ids["benign"], ids["malignant"]]
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


def category_ids_of(dataset: str) -> dict[str, int]:
    """JSON category id of each class of a data set that has been loaded."""
    metadata = MetadataCatalog.get(dataset)
    return {name: metadata.thing_contiguous_id_to_dataset_id[k] for k, name in enumerate(metadata.thing_classes)}


def records_with_results(
    records: Sequence[Mapping[str, Any]], results_file: str | Path, min_score: float = 0.0
) -> list[dict[str, Any]]:
    """Records whose lesions are what a detector found.

    Args:
        records: of the data set that the detector was run on.
        results_file: COCO results, ``bbox`` XYWH in pixels of the image file, or ``segmentation``, or both. What has no
            pixel inside its image is left out with a warning.
        min_score: entries of a lower score are left out.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: no list of results, or one of an image that is not among the records, or a mask of another size.
    """
    entries = read_json(results_file)
    images = {record["image_id"]: record for record in records}
    by_image: dict[Any, list[dict[str, Any]]] = {image_id: [] for image_id in images}
    outside = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        known = isinstance(entry, dict) and {"image_id", "score"} <= set(entry)
        if not known or not (entry.get("bbox") or entry.get("segmentation")):
            raise ResultsError(
                f"{results_file}, entry {number}: no COCO result with image_id, score, and bbox or segmentation"
            )
        if entry["image_id"] not in by_image:
            raise ResultsError(
                f"{results_file}, entry {number}: image_id {entry['image_id']!r} is not in the data set; name the data "
                "set that the results were made for"
            )
        if entry["score"] < min_score:
            continue
        lesion = {"bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "score": entry["score"], "bbox": entry.get("bbox")}
        size = (images[entry["image_id"]]["height"], images[entry["image_id"]]["width"])
        if entry.get("segmentation"):
            try:
                extent = coco_mask.toBbox(run_length(entry, *size)).tolist()
            except ValueError as error:
                raise ResultsError(f"{results_file}, entry {number}: {error}") from error
            lesion |= {"segmentation": entry["segmentation"], "bbox": entry.get("bbox") or extent}
        if _is_inside(lesion["bbox"], size):
            by_image[entry["image_id"]].append(lesion)
        else:
            outside.append(number)
    if outside:
        logger.warning(
            "%s: %d entries have no pixel inside their image and are left out, the first is entry %d. Boxes must be in "
            "pixels of the data set's prepared images, not of the source files",
            results_file,
            len(outside),
            outside[0],
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


def _is_inside(bbox: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a part of an XYWH box lies in an image of ``size`` (height, width)."""
    box = clip_boxes(xywh_to_xyxy(bbox), size)
    return bool((box[2:] > box[:2]).all())


@contextmanager
def prepared_record(
    cfg: CfgNode, file_name: str | Path, boxes: Sequence[Sequence[float]]
) -> Iterator[tuple[dict[str, Any], ImageTransform]]:
    """A record of a file of any kind, prepared like the training images, with boxes given in the file's own pixels.

    Args:
        cfg: of the job, whose data sets are registered; INPUT.PREPARATION says what is done to the file.
        file_name: the image, DICOM or other.
        boxes: [x, y, width, height] each.

    Yields:
        The record, whose prepared image is gone afterwards, and the transform that made it.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read or prepared; a box without a pixel inside what is kept.
    """
    job = cfg.clone()
    job.defrost()
    job.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")  # beside preparation.json
    preparation = find_preparation(job)
    prepared = preparation.apply(file_name)
    named = view_in_name(str(file_name))
    facts = {"laterality": prepared.meta.laterality or named[0], "view": prepared.meta.view or named[1]}
    moved = xyxy_to_xywh(prepared.transform.boxes_to_prepared(xywh_to_xyxy(boxes))).tolist()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(file_name)
        if preparation.image is not None and not preparation.image.keep_files:
            place = Path(folder) / "prepared.png"
            kind = np.uint8 if prepared.max_value == FULL_SCALE_8 else np.uint16
            if not cv2.imwrite(str(place), prepared.pixels.astype(kind)):
                raise OSError(f"{place} could not be written; is the disk full?")
        record = {**record_of_boxes(place, moved), **facts}
        for box, lesion in zip(boxes, record["annotations"], strict=True):
            if not _is_inside(lesion["bbox"], (record["height"], record["width"])):
                raise ValueError(
                    f"{file_name}: the box {list(box)} (x, y, width, height) has no pixel inside the part of the image "
                    "that the model is shown; correct it, or set INPUT.PREPARATION none to leave out the crop"
                )
        yield record, prepared.transform


def results_in_file(entries: Sequence[Mapping[str, Any]], transform: ImageTransform) -> list[dict[str, Any]]:
    """Results of ``classify_lesions`` with their boxes and windows in pixels of the file that was prepared."""

    def moved(part: Mapping[str, Any]) -> dict[str, Any]:
        box = transform.boxes_to_source(xywh_to_xyxy(part["bbox"]))
        return {**part, "bbox": xyxy_to_xywh(box).tolist()}

    return [{**moved(entry), "windows": [moved(window) for window in entry["windows"]]} for entry in entries]
