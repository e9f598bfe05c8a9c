"""Several predictions of one file as one: by several versions of the image, or by several models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from mammo_d2.inference.boxes.box_fusion import fuse_boxes
from mammo_d2.inference.prediction_files import FileProblem, Prediction


def best_scores(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """The image score of each class: its highest box score, 0 without box."""
    return {name: float(scores[labels == k].max(initial=0.0)) for k, name in enumerate(classes)}


def fused(predictions: Sequence[Prediction], iou: float, most: int = 0) -> Prediction:
    """One prediction with fused boxes and the mean of the image scores; picture and evidence are those of the first.

    Args:
        predictions: of one file, with the same classes; a single one is returned as it is.
        iou: see ``fuse_boxes``.
        most: boxes that are kept, the best ones; 0: all.
    """
    first = predictions[0]
    if len(predictions) == 1:
        return first
    boxes, scores, labels = fuse_boxes([(item.boxes, item.scores, item.labels) for item in predictions], iou)
    most = most or len(scores)
    warnings = dict.fromkeys(text for item in predictions for text in item.warnings)
    return replace(
        first,
        boxes=boxes[:most],
        scores=scores[:most],
        labels=labels[:most],
        image_scores={
            name: float(np.mean([item.image_scores[name] for item in predictions])) for name in first.image_scores
        },
        warnings=tuple(warnings),
        outside=sum(item.outside for item in predictions),
    )


class BatchPredictor(Protocol):
    """What ``Predictor`` and ``Ensemble`` have in common."""

    @property
    def classes(self) -> Sequence[str]: ...

    def predict_batches(
        self, batches: Sequence[Sequence[tuple[int, str]]], *, strict: bool = False, pictures: bool = False
    ) -> Iterator[list[Prediction | FileProblem]]: ...


class Ensemble:
    """Several models of the same classes; each reads and prepares the files as it was trained.

    Attributes:
        classes: class names by class number.
    """

    def __init__(self, members: Sequence[BatchPredictor], iou: float = 0.55, most: int = 0):
        """
        Args:
            members: the models.
            iou: see ``fuse_boxes``.
            most: boxes of an image that are kept, the best ones; 0: all.

        Raises:
            ValueError: models of different classes.
        """
        self.classes = list(members[0].classes)
        for number, member in enumerate(members, start=1):
            if list(member.classes) != self.classes:
                raise ValueError(
                    f"model {number} of {len(members)} has the classes {', '.join(member.classes)}, the first one "
                    f"{', '.join(self.classes)}: fuse models of the same classes in the same order"
                )
        self._members, self._iou, self._most = members, iou, most

    def predict_batches(
        self, batches: Sequence[Sequence[tuple[int, str]]], *, strict: bool = False, pictures: bool = False
    ) -> Iterator[list[Prediction | FileProblem]]:
        """As ``Predictor.predict_batches``; a file that one model cannot use is a problem."""
        with ExitStack() as stack:
            streams: list[Any] = []
            for number, member in enumerate(self._members):
                stream = member.predict_batches(batches, strict=strict, pictures=pictures and number == 0)
                streams.append(stack.enter_context(closing(stream)))  # type: ignore[type-var]
            for outcomes in zip(*streams, strict=True):
                yield [self._fused(items) for items in zip(*outcomes, strict=True)]

    def _fused(self, items: Sequence[Prediction | FileProblem]) -> Prediction | FileProblem:
        problem = next((item for item in items if isinstance(item, FileProblem)), None)
        return problem or fused([item for item in items if isinstance(item, Prediction)], self._iou, self._most)
