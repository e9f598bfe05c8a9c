"""Dataset records of mapped stores: a sequence whose records are decoded when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from mammo_d2.core.image_truth import joined_truth, stated_labels
from mammo_d2.data.format.record_store import IS_CROWD, IS_IGNORED, MISSING, NULL, SIDE_CODES, RecordStore
from mammo_d2.framework import BoxMode


def make_record(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    image_root: str,
    class_of: Mapping[int, int],
    categories: Sequence[str],
    merge: str,
) -> dict[str, Any]:
    """A dataset record (see ``catalog.py``) of an image.

    Args:
        image: its entry in the annotation file.
        annotations: its annotations there, in the order that they shall have.
        image_root: folder that its file name is relative to.
        class_of: {category id: class}; annotations of other categories are dropped.
        categories, merge: see ``load_mammo_coco``.
    """
    converted = []
    for annotation in annotations:
        if annotation["category_id"] not in class_of:
            continue
        entry = {key: value for key, value in annotation.items() if key != "image_id"}
        entry.update(bbox_mode=BoxMode.XYWH_ABS, category_id=class_of[annotation["category_id"]])
        converted.append(entry)
    record = {key: value for key, value in image.items() if key != "id"}
    record.update(image_id=image["id"], file_name=os.path.join(image_root, image["file_name"]), annotations=converted)
    stated = stated_labels(record.get("labels"), categories)
    if merge and stated is not None:
        # Findings without a box must be found under the merged name, too.
        record["labels"] = {**record["labels"], merge: joined_truth(stated)}
    return record


@dataclass(frozen=True)
class StoredSource:
    """One store, and what makes records of it: see ``make_record``."""

    store: RecordStore
    image_root: str
    class_of: Mapping[int, int]
    categories: tuple[str, ...]
    merge: str = ""

    def record(self, row: int) -> dict[str, Any]:
        """The record of a row of the store."""
        image, annotations = self.store.entry(row)
        return make_record(image, annotations, self.image_root, self.class_of, self.categories, self.merge)

    def labels(self, name: str) -> np.ndarray:
        """(n,) int8 codes of one label of the records, see ``RecordStore.labels``."""
        names = self.store.label_names

        def of_file(wanted: str) -> np.ndarray:
            if wanted in names:
                return self.store.labels[:, names.index(wanted)]
            return np.full(len(self.store), MISSING, np.int8)

        if name != self.merge:
            return of_file(name)
        codes = np.stack([of_file(category) for category in self.categories])
        joined = np.where((codes == 1).any(0), 1, np.where((codes < 0).any(0), NULL, 0))
        return np.where((codes != MISSING).any(0), joined, of_file(name)).astype(np.int8)

    @property
    def label_names(self) -> list[str]:
        """Names that occur in the records' labels."""
        return list(dict.fromkeys([*self.store.label_names, *([self.merge] if self.merge else [])]))


@dataclass(frozen=True)
class SamplingColumns:
    """What samplers need to know of n images with C classes.

    Attributes:
        truth: (n, C) int8, 1, 0 or ``NULL``, as ``image_truth`` gives it.
        usable: (n,) bool, with a box that is no crowd.
        annotated: (n,) bool, with a box of any kind.
        exams: (n,) int64 numbers of the exams (``samplers.exam_key``), from 0 in order of first appearance.
        boxes: (C,) int64 number of boxes of each class.
        labels: (n, C) int8 codes of ``RecordStore.labels``.
    """

    truth: np.ndarray
    usable: np.ndarray
    annotated: np.ndarray
    exams: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray

    @property
    def pools(self) -> tuple[np.ndarray, ...]:
        """Positives, negatives, unlocalized, unknown and unlabelled images of ``ImagePools``: (n,) bool each."""
        shown, doubtful = (self.truth == 1).any(1), (self.truth < 0).any(1)
        unlocalized = ~self.usable & (self.annotated | shown)
        unknown = ~self.usable & ~unlocalized & doubtful
        negatives = ~self.usable & ~unlocalized & ~unknown
        return self.usable, negatives, unlocalized, unknown, unknown & (self.truth < 0).all(1)

    @property
    def severity(self) -> np.ndarray:
        """(n,) int64 number of the last class that is present, from 1; 0 without any; -1 if one after it is unknown."""
        severity = np.zeros(len(self.truth), np.int64)
        for number, truth in enumerate(self.truth.T, 1):
            severity[truth != 0] = number
            severity[truth < 0] = -1
        return severity


class StoredRecords(Sequence[dict[str, Any]]):
    """Records of one or more stores, one after the other, or a choice of them.

    Each access makes a new record, so that none can be modified. Processes forked from this one share the pages of the
    stores, others map them again.
    """

    def __init__(
        self,
        sources: Sequence[StoredSource],
        rows: np.ndarray | None = None,
        labels: Mapping[str, np.ndarray] | None = None,
    ):
        """
        Args:
            sources: the stores.
            rows: numbers of the records that are taken, in order; None: all.
            labels: by name, codes of the labels of all records of ``sources`` that stand in place of their own.
        """
        self.sources = tuple(sources)
        self._ends = np.cumsum([len(source.store) for source in self.sources], dtype=np.int64)
        self._rows = rows
        self._labels = labels

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> StoredRecords: ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        position = range(len(self))[index]
        return self._record(position if self._rows is None else int(self._rows[position]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))

    def _record(self, row: int) -> dict[str, Any]:
        number = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[number - 1]) if number else 0
        record = self.sources[number].record(row - first)
        if self._labels is not None:
            codes = {name: int(values[row]) for name, values in self._labels.items() if values[row] != MISSING}
            if codes:
                record["labels"] = {name: None if code == NULL else code for name, code in codes.items()}
        return record

    def take(self, rows: np.ndarray) -> StoredRecords:
        """The records with these numbers, in this order."""
        return StoredRecords(self.sources, rows if self._rows is None else self._rows[rows], self._labels)

    # --- columns ------------------------------------------------------------------------------------------------
    def sampling_columns(self, classes: Sequence[str]) -> SamplingColumns:
        """What samplers need, without decoding a record.

        Args:
            classes: names of the classes, by number.
        """
        parts = [_box_columns(source, len(classes)) for source in self.sources]
        present, usable, annotated, boxes = (np.concatenate(column) for column in zip(*parts, strict=True))
        labels = (
            np.stack([self._label(name) for name in classes], 1) if classes else np.zeros((len(usable), 0), np.int8)
        )
        stated = (labels != MISSING).any(1, keepdims=True)
        label = np.where(stated, np.where(labels < 0, NULL, labels), 0).astype(np.int8)
        truth = np.where(present, 1, label).astype(np.int8)
        rows = slice(None) if self._rows is None else self._rows
        exams = first_appearance(self._exams()[rows])
        return SamplingColumns(truth[rows], usable[rows], annotated[rows], exams, boxes[rows].sum(0), labels[rows])

    def annotated_rows(self) -> np.ndarray:
        """Numbers of the records with annotations."""
        classes = 1 + max(max(source.class_of.values(), default=0) for source in self.sources)
        annotated = np.concatenate([_box_columns(source, classes)[2] for source in self.sources])
        return np.flatnonzero(annotated if self._rows is None else annotated[self._rows])

    def with_breast_labels(self) -> StoredRecords:
        """The records as ``share_breast_labels`` makes them: each breast's views in an exam share their labels."""
        every = list(dict.fromkeys(name for source in self.sources for name in source.label_names))
        own = {name: self._label(name) for name in every}
        side = np.concatenate([source.store.laterality for source in self.sources]).astype(np.int64)
        labelled = np.any([codes != MISSING for codes in own.values()], axis=0) if own else np.zeros(len(side), bool)
        taken = np.zeros(len(side), bool)
        taken[slice(None) if self._rows is None else self._rows] = True
        rows = np.flatnonzero(labelled & (side > 0) & taken)
        breast = first_appearance(self._exams()[rows] * len(SIDE_CODES) + side[rows])
        count = int(breast.max(initial=-1)) + 1
        shared = {}
        for name, codes in own.items():
            ones, nulls, stated = (
                np.bincount(breast, codes[rows] == wanted, count) > 0 if wanted is not None
                else np.bincount(breast, codes[rows] != MISSING, count) > 0
                for wanted in (1, NULL, None)
            )  # fmt: skip
            gaps = np.bincount(breast, codes[rows] == MISSING, count) > 0
            joined = np.where(ones, 1, np.where(nulls | gaps, NULL, 0))
            result = codes.copy()
            result[rows] = np.where(stated, joined, MISSING)[breast]
            shared[name] = result
        return StoredRecords(self.sources, self._rows, shared)

    def _label(self, name: str) -> np.ndarray:
        """Codes of a label of all records of the sources."""
        if self._labels is not None:
            found = self._labels.get(name)
            return np.full(int(self._ends[-1]), MISSING, np.int8) if found is None else found
        return np.concatenate([source.labels(name) for source in self.sources])

    def _exams(self) -> np.ndarray:
        """Numbers of the exams of all records of the sources, in no order."""
        if len(self.sources) == 1:
            exams = self.sources[0].store.exams
            return np.where(exams < 0, exams.max(initial=-1) + 1 + np.arange(len(exams)), exams)
        numbers: dict[Any, int] = {}
        columns = []
        for source in self.sources:
            store = source.store
            number_of = np.array([numbers.setdefault(key, len(numbers)) for key in store.exam_keys()], np.int64)
            alone = np.flatnonzero(store.exams < 0)
            exams = np.zeros(len(store), np.int64)
            exams[store.exams >= 0] = number_of[store.exams[store.exams >= 0]]
            names = store.file_names() if len(alone) else []
            for row in alone.tolist():
                key = (int(store.image_ids[row]), os.path.join(source.image_root, names[row]))
                exams[row] = numbers.setdefault(key, len(numbers))
            columns.append(exams)
        return np.concatenate(columns)


def first_appearance(values: np.ndarray) -> np.ndarray:
    """Number different values from 0 in order of first appearance: (n,) int64."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]


def _box_columns(source: StoredSource, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per image of a store: classes present (n, C) bool, usable (n,), annotated (n,), boxes per class (n, C) int64."""
    store = source.store
    images = len(store)
    owner = np.repeat(np.arange(images), np.diff(store.annotation_ends, prepend=0))
    label = np.full(len(owner), -1, np.int64)
    for category, number in source.class_of.items():
        label[store.annotation_categories == category] = number
    kept = label >= 0
    owner, label, flags = owner[kept], label[kept], store.annotation_flags[kept]

    def count(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(owner[chosen], minlength=images) > 0

    present, boxes = np.zeros((images, classes), bool), np.zeros((images, classes), np.int64)
    for number in range(classes):
        present[:, number] = count((label == number) & ((flags & IS_IGNORED) == 0))
        boxes[:, number] = np.bincount(owner[label == number], minlength=images)
    return present, count((flags & IS_CROWD) == 0), count(label >= 0), boxes
