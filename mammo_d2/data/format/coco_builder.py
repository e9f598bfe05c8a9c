"""Writing a COCO file of the package's format: ids from 1, stable order, atomic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mammo_d2.core.files import write_json
from mammo_d2.core.lesion_classes import CATEGORIES
from mammo_d2.data.format.annotations import validate_coco
from mammo_d2.data.format.problems import Report


class CocoBuilder:
    """Collects images and annotations in the order given and writes them once they pass the validator.

    Args:
        categories: [{"id": ..., "name": ...}]; {1: benign, 2: malignant} by default.
        info: free text fields of COCO's "info", e.g. the data set's name and licence.
    """

    def __init__(self, categories: Sequence[dict[str, Any]] = CATEGORIES, info: dict[str, Any] | None = None) -> None:
        self.info = dict(info or {})
        self.categories = [dict(c) for c in categories]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._category_ids = {c["name"]: c["id"] for c in self.categories}

    def add_image(self, file_name: str, height: int, width: int, **extra: Any) -> int:
        """Add an image; ``extra`` are the format's further image keys. Returns its id."""
        image_id = len(self.images) + 1
        size = {"height": int(height), "width": int(width)}
        self.images.append({"id": image_id, "file_name": file_name, **size, **extra})
        return image_id

    def add_annotation(self, image_id: int, bbox: Sequence[float], category: str, **extra: Any) -> int:
        """Add a lesion to an image.

        Args:
            image_id: what ``add_image`` returned.
            bbox: x, y, width, height in pixels of the image.
            category: name of one of the categories.
            extra: further keys, e.g. ``pathology``, ``lesion_id``, ``segmentation``.

        Returns:
            The annotation's id.

        Raises:
            ValueError: unknown category or image.
        """
        if category not in self._category_ids:
            raise ValueError(f"category {category!r} is not one of {', '.join(self._category_ids)}")
        if not 1 <= image_id <= len(self.images):
            raise ValueError(f"annotation for image {image_id}, but the images are 1..{len(self.images)}")
        annotation_id = len(self.annotations) + 1
        box = [float(v) for v in bbox]
        self.annotations.append(
            {
                "id": annotation_id,
                "image_id": image_id,
                "category_id": self._category_ids[category],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                **extra,
            }
        )
        return annotation_id

    def to_dict(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            "info": self.info,
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
        }

    def check(self, name: str | os.PathLike[str]) -> Report:
        """Validate the records.

        Args:
            name: of the file, for messages.

        Returns:
            The validator's report (warnings at most).

        Raises:
            SchemaError: the records do not follow the format.
        """
        report = validate_coco(self.to_dict(), name=str(name))
        report.raise_if_errors()
        return report

    def write(self, path: str | os.PathLike[str]) -> Report:
        """Validate and write the file atomically.

        Returns:
            The validator's report (warnings at most).

        Raises:
            SchemaError: the records do not follow the format; nothing is written.
        """
        report = self.check(path)
        write_json(path, self.to_dict())
        return report
