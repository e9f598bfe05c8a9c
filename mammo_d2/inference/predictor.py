"""Prediction on image files that were never prepared: the same steps as in training, boxes in the files' own pixels."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mammo_d2.core.boxes import clip_boxes
from mammo_d2.core.processes.crash_safe import CrashSafeMap
from mammo_d2.data.breast.breast_window import view_in_name
from mammo_d2.data.format.catalog import category_names
from mammo_d2.data.loading.mapped_images import start_worker
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.engine.run_files.preparation_record import find_preparation
from mammo_d2.engine.run_files.run_folder import EMA_WEIGHTS, FINAL_WEIGHTS
from mammo_d2.engine.setup import use_available_device, use_float32_precision
from mammo_d2.engine.step import amp_dtype
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import CfgNode, SafeCheckpointer
from mammo_d2.framework.weights.shipped_models import local_weights
from mammo_d2.inference.boxes.breast_filter import in_breast, reduced_breast_mask
from mammo_d2.inference.boxes.fused_predictions import best_scores, fused
from mammo_d2.inference.boxes.test_time_augmentation import (
    TestTimeAugmentation,
    Version,
    boxes_of_version,
    version_of_sample,
)
from mammo_d2.inference.prediction_files import PICTURE_SIDE, FileProblem, Prediction
from mammo_d2.modeling.fold_norm import compile_networks, fold_norms
from mammo_d2.pictures.drawing import to_display
from mammo_d2.pictures.evidence import Evidence

logger = logging.getLogger(__name__)


class Predictor:
    """A trained model for image files of any kind that the reader knows.

    A file goes the way of the training images: it is read, the breast is found, cropped, mirrored and scaled as the
    training data set was prepared (``INPUT.PREPARATION``), then scaled in intensity and resized by ``MammoMapper``. A
    laterality and view that the file does not know are taken from its name ("0_L-CC.png").

    The model runs as in an evaluation: in float32, also after a mixed-precision training. Boxes and scores are those of
    the evaluation of the same weights, and its thresholds hold.

    Attributes:
        classes: class names by class number.
        preparation: what is done to files.
    """

    def __init__(
        self,
        cfg: CfgNode,
        preparation: Preparation | None = None,
        *,
        autocast: bool = False,
        augmentation: TestTimeAugmentation | None = None,
        in_breast: bool = False,
    ):
        """
        Args:
            cfg: the training run's config with the trained weights in MODEL.WEIGHTS. ``DATALOADER.NUM_WORKERS`` is the
                number of processes that read files.
            preparation: overrides what ``INPUT.PREPARATION`` finds.
            autocast: run in ``SOLVER.AMP.DTYPE``; faster, but boxes and scores differ from those of an evaluation.
            augmentation: versions of an image that go through the model; their boxes are fused, image scores averaged.
            in_breast: leave out boxes beside the breast, see ``boxes/breast_filter.py``.

        Raises:
            FileNotFoundError: no such weights or preparation file.
            ValueError: no weights named, or weights that are not exactly those of the configured model;
                MODEL.ROI_HEADS.NUM_CLASSES is not the number of DATASETS.CATEGORIES; with ``autocast``, a type that the
                device does not have.
        """
        cfg = cfg.clone()
        cfg.defrost()
        wanted = cfg.MODEL.DEVICE
        use_available_device(cfg)
        if wanted != cfg.MODEL.DEVICE:
            logger.warning("MODEL.DEVICE is %s, but there is no GPU that torch can use: running on the CPU", wanted)
        use_float32_precision(cfg)
        weights = cfg.MODEL.WEIGHTS = local_weights(cfg.MODEL.WEIGHTS)
        if not weights:
            raise ValueError("MODEL.WEIGHTS is empty: prediction needs the weights of a trained model, model_final.pth")
        self.classes = category_names(cfg)
        if len(self.classes) != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
            raise ValueError(
                f"MODEL.ROI_HEADS.NUM_CLASSES is {cfg.MODEL.ROI_HEADS.NUM_CLASSES}, but DATASETS.CATEGORIES gives "
                f"{len(self.classes)} ({', '.join(self.classes)}): set it to {len(self.classes)}, or use load_config, "
                "which does"
            )
        self.preparation = find_preparation(cfg) if preparation is None else preparation
        # Resized images of a prediction are used once; a cache would only fill the memory.
        cfg.DATALOADER.CACHE_MB = 0
        # What the training started from is in MODEL.WEIGHTS, and its file need not be on this machine.
        cfg.MODEL.GMIC.PATCH_WEIGHTS = ""
        cfg.SOLVER.AMP.ENABLED = autocast
        self.cfg = cfg
        _warn_of_unaveraged_weights(cfg)
        self._augmentation, self._in_breast = augmentation or TestTimeAugmentation(), in_breast
        self._mapper = MammoMapper(cfg, is_train=False)
        self._amp_dtype = amp_dtype(cfg)
        self.model = MammoTrainer.build_model(cfg).eval()
        # Missing weights would stay random: anything but an exact fit is an error.
        SafeCheckpointer(self.model, strict_weights=True).load(weights)
        if cfg.TEST.FOLD_NORM:
            fold_norms(self.model)
        if cfg.TEST.COMPILE:
            compile_networks(self.model)

    def __call__(
        self,
        files: Iterable[str | os.PathLike],
        *,
        batch_size: int = 1,
        strict: bool = False,
        pictures: bool = False,
    ) -> Iterator[Prediction | FileProblem]:
        """Predict file after file, in the order given.

        Args:
            files: image files, see ``find_image_files`` (``image_files.py``) for folders.
            batch_size: images that go through the model together.
            strict: raise the first file's error rather than return it as a ``FileProblem``.
            pictures: keep a small 8-bit picture of each file, for ``write_picture``.

        Raises:
            ValueError: a batch size below 1; with ``strict``, a file that cannot be used (the message names it).
        """
        if batch_size < 1:
            raise ValueError(f"the batch size must be at least 1, not {batch_size}")
        numbered = [(number, os.fspath(file)) for number, file in enumerate(files, start=1)]
        batches = [numbered[start : start + batch_size] for start in range(0, len(numbered), batch_size)]
        for outcomes in self.predict_batches(batches, strict=strict, pictures=pictures):
            yield from outcomes

    def predict_batches(
        self, batches: Sequence[Sequence[tuple[int, str]]], *, strict: bool = False, pictures: bool = False
    ) -> Iterator[list[Prediction | FileProblem]]:
        """Predict files that go through the model in given batches.

        Args:
            batches: of each file its number, from 1, and its name. Random parts of a prediction, such as the windows of
                TEST.WINDOWS, follow from the number.
            strict, pictures: as of a call.

        Yields:
            the outcomes of a batch, in its order.
        """
        with closing(self._read([item for batch in batches for item in batch], pictures)) as samples:
            for batch in batches:
                yield self._predict(list(islice(samples, len(batch))), strict)

    def _read(
        self, items: Sequence[tuple[int, str]], pictures: bool
    ) -> Generator[dict[str, Any] | FileProblem, None, None]:
        """Samples of the files in order, read in DATALOADER.NUM_WORKERS processes."""
        read = _Files(self.preparation, self._mapper, pictures, self._in_breast)
        workers = self.cfg.DATALOADER.NUM_WORKERS
        if workers == 0:
            yield from map(read, items)
            return
        # Forked where that is possible, as torch's loaders are: fresh interpreters would import torch for seconds.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        read_all: CrashSafeMap[tuple[int, str], dict[str, Any] | FileProblem] = CrashSafeMap(
            _read_in_worker, _crashed, workers, _start_reader, (read,), ahead=2 * workers, method=method
        )
        for sample in read_all(items):
            yield _with_tensors(sample)

    def _predict(self, batch: list[dict[str, Any] | FileProblem], strict: bool) -> list[Prediction | FileProblem]:
        problems = [item for item in batch if isinstance(item, FileProblem)]
        if strict and problems:
            raise ValueError(problems[0].problem)
        predictions = iter(self._versions([item for item in batch if not isinstance(item, FileProblem)]))
        return [item if isinstance(item, FileProblem) else next(predictions) for item in batch]

    def _versions(self, samples: list[dict[str, Any]]) -> list[Prediction]:
        """Predictions of samples, fused over the versions of each."""
        versions = self._augmentation.versions
        found: list[list[Prediction]] = []
        for version in versions:
            plain = version == Version()
            inputs = samples if plain else [version_of_sample(sample, version) for sample in samples]
            outputs = self._run(inputs)
            if not plain:
                for sample, output in zip(samples, outputs, strict=True):
                    boxes = output["instances"].pred_boxes
                    boxes.tensor = boxes_of_version(boxes.tensor, version, (sample["height"], sample["width"]))
            found.append(
                [to_prediction(sample, output, self.classes) for sample, output in zip(samples, outputs, strict=True)]
            )
        most = self.cfg.TEST.DETECTIONS_PER_IMAGE
        return [fused(list(items), self._augmentation.iou, most) for items in zip(*found, strict=True)]

    def _run(self, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Outputs of the model, boxes in prepared pixels."""
        if not samples:
            return []
        device = torch.device(self.cfg.MODEL.DEVICE).type
        with torch.inference_mode(), torch.autocast(device, self._amp_dtype, enabled=self._amp_dtype is not None):
            return self.model(list(samples))


def _warn_of_unaveraged_weights(cfg: CfgNode) -> None:
    """A run with averaged weights evaluates these; its last ones give other numbers."""
    weights = Path(cfg.MODEL.WEIGHTS)
    averaged = weights.with_name(EMA_WEIGHTS)
    if cfg.SOLVER.EMA.ENABLED and weights.name == FINAL_WEIGHTS and averaged.is_file():
        logger.warning(
            "MODEL.WEIGHTS is %s, but the run's evaluation is that of its averaged weights (SOLVER.EMA); for the same "
            "numbers name %s",
            weights,
            averaged,
        )


class _Files:
    """Files as model inputs, with ``file``, ``meta``, ``transform``, ``warnings`` and ``picture``, or as problems."""

    def __init__(self, preparation: Preparation, mapper: MammoMapper, pictures: bool, in_breast: bool):
        self._preparation, self._mapper, self._pictures = preparation, mapper, pictures
        self._in_breast = in_breast

    def __call__(self, item: tuple[int, str]) -> dict[str, Any] | FileProblem:
        number, name = item
        try:
            return self._sample(name, number)
        except (OSError, ValueError, MemoryError) as error:
            text = str(error) or "not enough memory; use fewer DATALOADER.NUM_WORKERS"
            return FileProblem(name, text if name in text else f"{name}: {text}")

    def _sample(self, name: str, number: int) -> dict[str, Any]:
        prepared = self._preparation.apply(name)
        height, width = prepared.pixels.shape
        meta, (laterality, view) = prepared.meta, view_in_name(name)
        meta = replace(meta, laterality=meta.laterality or laterality, view=meta.view or view)
        facts = {"laterality": meta.laterality, "view": meta.view, "file_name": name}
        network = self._mapper.network_image(prepared.pixels, prepared.max_value, facts)
        versions = {}
        if self._mapper.windows.count > 1:
            pixels, max_value = prepared.pixels, prepared.max_value
            make = lambda at: self._mapper.network_image(pixels, max_value, facts, at)  # noqa: E731
            versions["windows"] = self._mapper.window_fields(number, make)
        warnings = prepared.warnings
        if network.transform is not None and meta.view is None:
            warnings += ("the view is not known, the breast was placed as a CC's; a name like L-MLO.png says it",)
        return {
            "file_name": name,
            "image_id": number,
            "height": height,
            "width": width,
            "image": self._mapper.to_tensor(network.pixels),
            **network.sample_fields(),
            **versions,
            "meta": meta,
            "transform": prepared.transform,
            "warnings": warnings,
            "picture": to_display(prepared.source, PICTURE_SIDE) if self._pictures else None,
            "breast": self._breast(prepared.source) if self._in_breast else None,
        }

    def _breast(self, source: np.ndarray) -> np.ndarray | None:
        image = self._preparation.image
        return reduced_breast_mask(source, "auto" if image is None else image.mask_method)


# Fields of a sample that are tensors.
_TENSORS = ("image", "tissue")
# Set in each process that reads files.
_reader: _Files | None = None


def _start_reader(reader: _Files) -> None:
    global _reader
    _reader = reader
    start_worker()
    # The main process notes a SIGTERM; its handler has come here with the fork.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _read_in_worker(item: tuple[int, str]) -> dict[str, Any] | FileProblem:
    """A sample with arrays for tensors: those that torch shares are lost with the process that made them."""
    assert _reader is not None
    sample = _reader(item)
    if isinstance(sample, FileProblem):
        return sample
    return {key: value.numpy() if key in _TENSORS else value for key, value in sample.items()}


def _with_tensors(sample: dict[str, Any] | FileProblem) -> dict[str, Any] | FileProblem:
    if isinstance(sample, FileProblem):
        return sample
    return {key: torch.from_numpy(value) if key in _TENSORS else value for key, value in sample.items()}


def _crashed(item: tuple[int, str]) -> FileProblem:
    name = item[1]
    return FileProblem(
        name,
        f"{name}: the process that read this file ended without a message: its data is damaged, or memory is short; "
        "copy the file again, convert it (gdcmconv --raw) or leave it out",
    )


def to_prediction(sample: Mapping[str, Any], output: Mapping[str, Any], classes: Sequence[str]) -> Prediction:
    """A model's output for one image, in pixels of the source file.

    Args:
        sample: with ``file_name``, ``meta``, ``transform``, ``warnings`` and ``picture``; with ``breast``, a reduced
            mask of the file, boxes beside it are left out.
        output: with ``instances`` in prepared pixels and, of methods that have them, ``image_scores``.
        classes: class names; without ``image_scores``, the score of a class is its highest box score, 0 without box.

    Raises:
        ValueError: a box, its score or an image score that is NaN or infinite.
    """
    instances = output["instances"].to("cpu")
    boxes = instances.pred_boxes.tensor.double().numpy()
    scores = instances.scores.double().numpy()
    labels = instances.pred_classes.numpy().astype(np.int64)
    given = output.get("image_scores")
    said = [*boxes.ravel(), *scores, *(given or {}).values()]
    if not np.isfinite(np.array(said, float)).all():
        raise ValueError(
            f"{sample['file_name']}: a predicted box or score is not finite; the weights are damaged, or try without "
            "autocast"
        )
    transform = sample["transform"]
    order = np.argsort(-scores, kind="stable")
    boxes = clip_boxes(transform.boxes_to_source(boxes[order]).reshape(-1, 4), transform.source_size)
    keep = in_breast(boxes, sample.get("breast"), transform.source_size)
    boxes, scores, labels = boxes[keep], scores[order][keep], labels[order][keep]
    if given is None:
        image_scores = best_scores(scores, labels, classes)
    else:
        image_scores = {name: float(score) for name, score in given.items()}
    return Prediction(
        sample["file_name"],
        sample["meta"],
        transform,
        boxes,
        scores,
        labels,
        image_scores,
        tuple(sample["warnings"]),
        sample["picture"],
        _evidence(sample, output),
        int((~keep).sum()),
        output["saliency"].detach().half().cpu().numpy() if "saliency" in output else None,
    )


def _evidence(sample: Mapping[str, Any], output: Mapping[str, Any]) -> Evidence | None:
    """Saliency and patches on the sample's picture; None without a picture or of a method that has no saliency."""
    picture, transform = sample["picture"], sample["transform"]
    if picture is None or "saliency" not in output:
        return None
    height, width = picture.shape
    maps = transform.map_to_source(output["saliency"].float().cpu().numpy(), nearest=True)
    saliency = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in maps])
    patches, attention = np.zeros((0, 4)), np.zeros(0)
    if "patches" in output:
        factor = np.tile([width / transform.source_size[1], height / transform.source_size[0]], 2)
        patches = transform.boxes_to_source(output["patches"].double().cpu().numpy()) * factor
        attention = output["attention"].double().cpu().numpy()
    return Evidence(saliency, patches, attention)
