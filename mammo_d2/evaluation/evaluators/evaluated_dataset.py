"""What every evaluator needs of a data set: loaded once and handed to all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mammo_d2.framework import DatasetCatalog, MetadataCatalog


@dataclass(frozen=True)
class EvaluatedDataset:
    """Ground truth of one registered data set. Evaluators share the records and must not change them.

    Attributes:
        name: name in the catalogs.
        records: detectron2 dataset dicts with unique ``image_id``; ``category_id`` is the contiguous class number.
        classes: the C class names.
        category_ids: C category ids, by which result files name the classes.
    """

    name: str
    records: Sequence[dict[str, Any]]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]

    @classmethod
    def load(cls, name: str) -> EvaluatedDataset:
        """Load a registered data set: its records, class names and category ids.

        Category ids are those of ``thing_dataset_id_to_contiguous_id`` in the metadata, or 1, 2, ... without it.

        Raises:
            KeyError: no data set is registered under the name.
            ValueError: neither the registration nor the loading of the data set names its classes.
        """
        # The records come first: some loaders (register_coco_instances) fill the metadata.
        records = DatasetCatalog.get(name)
        metadata = MetadataCatalog.get(name)
        classes = tuple(getattr(metadata, "thing_classes", ()))
        if not classes:
            raise ValueError(
                f"data set {name!r}: its metadata has no thing_classes; name the classes with "
                f'MetadataCatalog.get({name!r}).set(thing_classes=["malignant", ...])'
            )
        ids = _category_ids(getattr(metadata, "thing_dataset_id_to_contiguous_id", None), len(classes))
        return cls(name, records, classes, ids)

    @cached_property
    def rows(self) -> dict[Any, int]:
        """Row in ``records`` by image id."""
        return {record["image_id"]: row for row, record in enumerate(self.records)}


def _category_ids(contiguous: Mapping[int, int] | None, num_classes: int) -> tuple[int, ...]:
    """Category id of each class; of several ids of one class (DATASETS.MERGE_CATEGORIES) the first."""
    first: dict[int, int] = {}
    for category_id, label in (contiguous or {label + 1: label for label in range(num_classes)}).items():
        first.setdefault(label, category_id)
    return tuple(first[label] for label in range(num_classes))
