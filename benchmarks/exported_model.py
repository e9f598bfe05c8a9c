"""The package's detector as an ONNX file: its boxes against those of prediction on image files, and its speed.

The whole route is compared, from the image file to boxes in its pixels: ``Predictor`` as it is, and with the file in
place of the model. The networks take turns on the same input, on one thread; figures are seconds of processor time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mammo_d2.config.loading import load_config
from mammo_d2.framework import Boxes, Instances, detector_postprocess
from mammo_d2.framework.weights.shipped_models import CONFIG, DEFAULT_MODEL, WEIGHTS, find_model
from mammo_d2.inference.export import exported_model as exporting
from mammo_d2.inference.prediction_files import Prediction
from mammo_d2.inference.predictor import Predictor


class ExportedDetector(nn.Module):
    """An exported detector in the place of a model: dicts with ``image``, ``height`` and ``width`` to ``instances``."""

    def __init__(self, run: exporting.Runner):
        super().__init__()
        self.run = run

    def forward(self, batch: list[dict]) -> list[dict[str, Any]]:
        """Detections of each image, in pixels of ``height`` and ``width``."""
        return [{"instances": self._detect(record)} for record in batch]

    def _detect(self, record: dict) -> Instances:
        image = record["image"]
        outputs = self.run(image[None, :1].numpy())
        found = Instances((image.shape[1], image.shape[2]))
        found.pred_boxes = Boxes(torch.from_numpy(outputs["boxes"].copy()))
        found.scores = torch.from_numpy(outputs["scores"])
        found.pred_classes = torch.from_numpy(outputs["classes"])
        return detector_postprocess(found, record["height"], record["width"])


def predictions(predictor: Predictor, files: Sequence[str]) -> list[Prediction]:
    """Predictions of files; ValueError for one that cannot be used."""
    return [found for found in predictor(files, strict=True) if isinstance(found, Prediction)]


def largest_difference(expected: Sequence[Prediction], found: Sequence[Prediction]) -> tuple[int, float, float]:
    """Boxes of all files, and the largest difference of their edges in pixels of the files and of their scores.

    Raises:
        ValueError: a file on which the numbers of boxes, or their classes, differ.
    """
    edges, scores, count = [0.0], [0.0], 0
    for wanted, given in zip(expected, found, strict=True):
        if wanted.labels.tolist() != given.labels.tolist():
            raise ValueError(f"{wanted.file}: {len(wanted.labels)} boxes of the model, {len(given.labels)} of the file")
        edges.append(float(np.abs(wanted.boxes - given.boxes).max(initial=0)))
        scores.append(float(np.abs(wanted.scores - given.scores).max(initial=0)))
        count += len(wanted.labels)
    return count, max(edges), max(scores)


def in_turns(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of processor time of each, run in turns; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = find_model(DEFAULT_MODEL)
    overrides = ["MODEL.WEIGHTS", str(folder / WEIGHTS), "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"]
    cfg = load_config(str(folder / CONFIG), overrides)
    predictor = Predictor(cfg)
    graph = exporting.graph_of(predictor.model, cfg)
    size = (int(cfg.INPUT.SIZE[0]), int(cfg.INPUT.SIZE[1]))
    facts = exporting.describe(predictor, graph, size, False)
    model, expected = predictor.model, predictions(predictor, args.images)
    [image, *_] = exporting.network_images(predictor, args.images[:1])
    record = {"image": image[0], "height": size[0], "width": size[1]}
    contenders: dict[str, Callable[[], object]] = {"torch": torch.inference_mode()(lambda: model([record]))}
    with tempfile.TemporaryDirectory() as temporary:
        paths = {name: Path(temporary) / f"detector{suffix}" for suffix, name in exporting.FORMATS.items()}
        exporting.write_onnx(exporting.capture(graph, size), graph, facts, paths["ONNX"])
        exporting.write_torchscript(graph, size, facts, paths["TorchScript"])
        for name, path in paths.items():
            run = exporting.load_exported(path)
            predictor.model = ExportedDetector(run)
            count, edges, scores = largest_difference(expected, predictions(predictor, args.images))
            print(
                f"{name}: {path.stat().st_size / 1e6:.1f} MB; {count} boxes on {len(expected)} files, differences up "
                f"to {edges:.1e} pixels, {scores:.1e} of scores"
            )
            contenders[name] = lambda run=run: run(image.numpy())  # type: ignore[misc]
        seconds = in_turns(contenders, args.rounds)
    for name, value in seconds.items():
        print(f"{name}: {value * 1000:.1f} ms, {value / seconds['torch']:.2f} of torch's")


if __name__ == "__main__":
    main()
