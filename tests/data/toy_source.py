"""A small converter for tests of the preparation: drawn breasts as PNG files, with lesions as told."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mammo_d2.data.converters.converter import Converter, SourceAnnotation, SourceImage, labels_from
from tests.data.breast_images import half_ellipse


class ToySource(Converter):
    """Images from (key, patient, boxes) rows; the box's category is malignant."""

    name = "toy"

    def __init__(self, source: Path, rows: Sequence[tuple], **facts) -> None:
        super().__init__(source)
        self.rows = list(rows)
        self.facts = facts

    def images(self) -> Iterator[SourceImage]:
        for key, patient, boxes, *split in self.rows:
            annotations = tuple(SourceAnnotation("malignant", tuple(b), None, "malignant", f"{key}-1") for b in boxes)
            yield SourceImage(
                self.source / f"{key}.png",
                key,
                f"{key}.png",
                annotations,
                patient_id=patient,
                split=split[0] if split else None,
                **{"labels": labels_from(a.category for a in annotations), **self.facts},
            )


def write_breasts(folder: Path, keys: Sequence[str], side: str = "left") -> None:
    """16-bit PNGs of 400 x 300 pixels with more than 14 bits in use, each with its own noise."""
    for number, key in enumerate(keys):
        image, mask = half_ellipse(side=side)
        rng = np.random.default_rng(number)
        image = (image * 16 + mask * rng.integers(0, 50, image.shape)).round().astype(np.uint16)
        cv2.imwrite(str(folder / f"{key}.png"), image)
