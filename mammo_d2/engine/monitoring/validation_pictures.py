"""Pictures of a few validation images in TensorBoard, drawn at each evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mammo_d2.core.boxes import boxes_of_annotations
from mammo_d2.data.format.catalog import load_records
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.data.loading.proposals import with_proposals
from mammo_d2.data.reading.reader import read_image
from mammo_d2.engine.evaluator_check import model_gives
from mammo_d2.framework import CfgNode, EventStorage, HookBase, MetadataCatalog, get_event_storage
from mammo_d2.pictures.image_choice import spread
from mammo_d2.pictures.prediction_picture import prediction_picture

logger = logging.getLogger(__name__)


class ValidationPictures(HookBase):
    """Puts ``validation/<image id>`` pictures into the event storage at every evaluation; of the main process only.

    They show truth, the best boxes and, of methods that have it, saliency. The model is left as it was. It has to come
    before the hook that writes events.
    """

    def __init__(
        self,
        period: int,
        records: Sequence[Mapping[str, Any]],
        classes: Sequence[str],
        make_input: Callable[[Any], dict],
        model: Callable[[], nn.Module],
    ):
        """
        Args:
            period: of the evaluations, in iterations; 0: after the last iteration only.
            records: dataset records of the images to draw, see ``choose_records``.
            classes: class names.
            make_input: model input of a record.
            model: gives the model that is evaluated, not wrapped for distributed training.
        """
        self.period, self.records, self.classes = period, list(records), list(classes)
        self.make_input, self.model = make_input, model

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        if iteration == self.trainer.max_iter or (self.period > 0 and iteration % self.period == 0):
            for name, picture in self.pictures().items():
                get_event_storage().put_image(f"validation/{name}", np.ascontiguousarray(picture.transpose(2, 0, 1)))

    def pictures(self) -> dict[str, np.ndarray]:
        """(H, W, 3) uint8 RGB by image id; an image that cannot be read or drawn is named in the log and left out."""
        model = self.model()
        modes = {module: module.training for module in model.modules()}
        model.eval()
        found = {}
        try:
            for record in self.records:
                try:
                    found[str(record["image_id"])] = self._picture(model, record)
                except (OSError, ValueError) as error:
                    logger.warning("no picture of validation image %r: %s", record["image_id"], error)
        finally:
            for module, mode in modes.items():
                module.training = mode
        return found

    def _picture(self, model: nn.Module, record: Mapping[str, Any]) -> np.ndarray:
        pixels, _ = read_image(record["file_name"])
        # What the heads log here does not belong to the training.
        with torch.no_grad(), EventStorage():
            (output,) = model([self.make_input(record)])
        predictions = np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)
        if "instances" in output:
            instances = output["instances"].to("cpu")
            boxes, scores = instances.pred_boxes.tensor.double().numpy(), instances.scores.double().numpy()
            predictions = boxes, scores, instances.pred_classes.numpy()
        annotations = [entry for entry in record.get("annotations", ()) if not entry.get("iscrowd", 0)]
        truth = boxes_of_annotations(annotations), np.array([entry["category_id"] for entry in annotations], np.int64)
        saliency = output["saliency"].detach().float().cpu().numpy() if "saliency" in output else None
        of_image = output.get("image_scores", {})
        words = [f"image {record['image_id']}", *(f"{name} {float(score):.2f}" for name, score in of_image.items())]
        return prediction_picture(pixels, self.classes, truth, predictions, saliency, caption=", ".join(words))


def build_validation_pictures(cfg: CfgNode, model: Callable[[], nn.Module]) -> list[ValidationPictures]:
    """The hook of TEST.TENSORBOARD_IMAGES, in a list; an empty one, with a warning, where there is nothing to draw.

    Args:
        cfg: the training's; its data sets must be registered.
        model: see ``ValidationPictures``.

    Raises:
        ValueError: the first test set cannot be loaded.
    """
    given = model_gives(cfg)
    if not cfg.DATASETS.TEST or (given is not None and not given & {"instances", "saliency"}):
        reason = f"{cfg.MODEL.META_ARCHITECTURE} gives neither boxes nor saliency"
        logger.warning(
            "TEST.TENSORBOARD_IMAGES is %d, but %s: there will be no pictures",
            cfg.TEST.TENSORBOARD_IMAGES, reason if cfg.DATASETS.TEST else "DATASETS.TEST is empty",
        )  # fmt: skip
        return []
    name = cfg.DATASETS.TEST[0]
    chosen = choose_records(load_records(cfg, name), cfg.TEST.TENSORBOARD_IMAGES)
    drawn = with_proposals(cfg, chosen, cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST)
    mapper, classes = MammoMapper(cfg, is_train=False), MetadataCatalog.get(name).thing_classes
    return [ValidationPictures(cfg.TEST.EVAL_PERIOD, drawn, classes, mapper, model)]


def choose_records(records: Sequence[dict], count: int) -> list[dict]:
    """Records to draw, in their order: half with boxes of truth and half without, as far as there are; evenly spread.

    Args:
        records: dataset records.
        count: how many; fewer if there are fewer.
    """
    with_box = np.flatnonzero([bool(record.get("annotations")) for record in records])
    without = np.setdiff1d(np.arange(len(records)), with_box)
    positive = min(len(with_box), max(count - count // 2, count - len(without)))
    rows = np.concatenate([_spread(with_box, positive), _spread(without, count - positive)])
    return [records[row] for row in sorted(rows.tolist())]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return spread(rows, count) if count > 0 else rows[:0]
