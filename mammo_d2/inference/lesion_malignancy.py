"""Malignancy of given lesions (data set annotations, detector results or boxes) as COCO annotations."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch

from mammo_d2.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.breast.breast_window import view_in_name
from mammo_d2.data.lesions.stage_loaders import build_lesion_loader
from mammo_d2.data.reading.reader import image_size
from mammo_d2.engine.run_files.preparation_record import find_preparation
from mammo_d2.engine.run_files.run_folder import FINAL_WEIGHTS
from mammo_d2.evaluation.files.results import lesion_entry
from mammo_d2.framework import BoxMode, CfgNode, MetadataCatalog
from mammo_d2.inference.detected_lesions import is_inside
from mammo_d2.inference.result_files import category_ids as package_category_ids
from mammo_d2.jobs.job import build_job
from mammo_d2.jobs.lesion.context_saliency import make_saliency, needs_saliency
from mammo_d2.jobs.lesion.lesion_job import LesionContextJob
from mammo_d2.jobs.lesion.lesion_stages import last_stage, load_classifier, stage_config
from mammo_d2.jobs.lesion.lesion_trainer import LesionMapper

logger = logging.getLogger(__name__)


def load_lesion_classifier(cfg: CfgNode) -> tuple[CfgNode, torch.nn.Module]:
    """The config of the last stage of a lesion classifier's run, and its trained model in evaluation mode.

    Args:
        cfg: config of the run, with its OUTPUT_DIR.

    Raises:
        ValueError: the config is of another job.
        FileNotFoundError: the run has not finished.
    """
    job = build_job(cfg)
    if not isinstance(job, LesionContextJob):
        raise ValueError(
            f"JOB is {cfg.JOB} ({cfg.MODEL.META_ARCHITECTURE}), whose model does not score given lesions; use "
            "mammo-d2 predict with this config"
        )
    stage = stage_config(cfg, last_stage(cfg))
    return stage, load_classifier(stage, job.weights(Path(cfg.OUTPUT_DIR)))


def classify_lesions(
    cfg: CfgNode, model: torch.nn.Module, records: Sequence[dict], category_ids: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Malignancy of all annotations of the records.

    Args:
        cfg: of the last stage.
        model: the trained model, in evaluation mode.
        records: dataset records whose ``annotations`` are the lesions, located by mask if present, else by box.
        category_ids: COCO category ids of "benign" and "malignant"; None: those of this package's data format.

    Returns:
        COCO results, one per annotation in their order: ``image_id``, ``category_id`` (malignant from a score of
        0.5 on, else benign), ``bbox`` XYWH in pixels of the image file, ``score`` (the malignancy) and ``malignancy``;
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
    """JSON category id of each class of a loaded data set."""
    metadata = MetadataCatalog.get(dataset)
    return {name: metadata.thing_contiguous_id_to_dataset_id[k] for k, name in enumerate(metadata.thing_classes)}


def record_of_boxes(file_name: str | Path, boxes: Sequence[Sequence[float]]) -> dict[str, Any]:
    """A dataset record of one prepared image with boxes [x, y, width, height] in its pixels.

    Raises:
        FileNotFoundError, ValueError: the image cannot be read.
    """
    height, width = image_size(file_name)
    lesions = [{"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0} for box in boxes]
    return {"file_name": str(file_name), "image_id": 1, "height": height, "width": width, "annotations": lesions}


@contextmanager
def prepared_record(
    cfg: CfgNode, file_name: str | Path, boxes: Sequence[Sequence[float]]
) -> Iterator[tuple[dict[str, Any], ImageTransform]]:
    """A dataset record of an image file, prepared like the training images, with boxes given in pixels of the file.

    Args:
        cfg: of the job, whose data sets are registered; INPUT.PREPARATION determines the preparation.
        file_name: image file, DICOM or other.
        boxes: [x, y, width, height] each.

    Yields:
        The record and the transform from the file to its prepared image, which is deleted on exit.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read or prepared, or a box has no pixel in the prepared image.
        OSError: the prepared image cannot be written.
    """
    job = cfg.clone()
    job.defrost()
    job.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / FINAL_WEIGHTS)  # beside preparation.json
    prepared = find_preparation(job).apply(file_name)
    laterality, view = view_in_name(str(file_name))
    facts = {"laterality": prepared.meta.laterality or laterality, "view": prepared.meta.view or view}
    prepared_boxes = xyxy_to_xywh(prepared.transform.boxes_to_prepared(xywh_to_xyxy(boxes))).tolist()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(file_name)
        if prepared.stored is not None:
            place = Path(folder) / "prepared.png"
            if not cv2.imwrite(str(place), prepared.stored):
                raise OSError(f"{place} could not be written; is the disk full?")
        record = {**record_of_boxes(place, prepared_boxes), **facts}
        for box, lesion in zip(boxes, record["annotations"], strict=True):
            if not is_inside(lesion["bbox"], (record["height"], record["width"])):
                raise ValueError(
                    f"{file_name}: the box {list(box)} (x, y, width, height) has no pixel inside the part of the image "
                    "that the model sees; correct it, or set INPUT.PREPARATION none to skip the crop"
                )
        yield record, prepared.transform


def results_in_file(entries: Sequence[Mapping[str, Any]], transform: ImageTransform) -> list[dict[str, Any]]:
    """Results of ``classify_lesions`` with boxes and windows mapped to pixels of the source file."""

    def moved(part: Mapping[str, Any]) -> dict[str, Any]:
        box = transform.boxes_to_source(xywh_to_xyxy(part["bbox"]))
        return {**part, "bbox": xyxy_to_xywh(box).tolist()}

    return [{**moved(entry), "windows": [moved(window) for window in entry["windows"]]} for entry in entries]
