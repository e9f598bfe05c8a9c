"""Training by exams: every epoch all exams with a finding and as many random others; labels shared by a breast's views.

Source:
    Shen et al., MLMI 2019, section 3.1.
"""

import bisect
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.image_truth import joined_truth
from mammo_d2.data.format.stored_records import StoredRecords, first_appearance
from mammo_d2.data.loading.samplers import SAMPLER_REGISTRY, ImagePools, StreamSampler, exam_key


class ExamRows:
    """Images of exams one after the other, in two arrays: a million lists would take gigabytes.

    Attributes:
        images: (n,) int64 image indices.
        ends: (exams,) int64, end of each exam in ``images``.
    """

    def __init__(self, images: np.ndarray, ends: np.ndarray):
        self.images, self.ends = images, ends

    @classmethod
    def of(cls, exams: "ExamRows | Sequence[Sequence[int]]") -> "ExamRows":
        """From image indices exam by exam."""
        if isinstance(exams, ExamRows):
            return exams
        images = [np.asarray(exam, np.int64) for exam in exams]
        ends = np.cumsum([len(exam) for exam in images], dtype=np.int64)
        return cls(np.concatenate(images) if images else np.zeros(0, np.int64), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def take(self, exams: np.ndarray) -> "ExamRows":
        """The exams with these numbers, in this order."""
        counts = np.diff(self.ends, prepend=0)[exams]
        ends = np.cumsum(counts, dtype=np.int64)
        first = np.repeat(self.ends[exams] - ends, counts)
        return ExamRows(self.images[first + np.arange(len(first))], ends)


@SAMPLER_REGISTRY.register()
class ExamSampler(StreamSampler):
    """All images of the exams with a finding, and of as many exams without, which are drawn again each epoch.

    The images of an epoch are shuffled. Like every sampler here it is a function of seed and position: an epoch is made
    from (seed, number of the epoch), the same on every rank and after a resume. Epochs differ in length where exams
    differ in their number of images.

    For methods that learn from image labels. Images with unknown labels come with their exams; the methods mask them.
    """

    DRAWS_UNKNOWN = True

    def __init__(
        self, with_finding: Sequence[Sequence[int]], without: Sequence[Sequence[int]], *, seed: int, **share: int
    ):
        """
        Args:
            with_finding, without: image indices exam by exam; the first not empty. If there are fewer exams without a
                finding than with one, all of them are in every epoch.
            seed: seed of the draws, ≥ 0.
            share: ``start``, ``rank``, ``world_size`` of ``StreamSampler``.
        """
        super().__init__(**share)
        if not len(with_finding):
            raise ValueError("ExamSampler needs at least one exam with a finding")
        self._with, self._without = ExamRows.of(with_finding), ExamRows.of(without)
        self._seed = seed
        self._starts = [0]  # first position of every epoch seen so far, and of the next
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "ExamSampler":
        exams = first_appearance(np.asarray(pools.exams, np.int64))
        images = np.argsort(exams, kind="stable")
        counts = np.bincount(exams) if len(exams) else np.zeros(0, np.int64)
        found = np.zeros(len(counts), bool)
        found[exams[np.asarray([*pools.positives, *pools.unlocalized], np.int64)]] = True
        if not found.any():
            raise ValueError(
                f"ExamSampler: none of the {len(counts)} exams of {pools.source} has a finding of DATASETS.CATEGORIES, "
                "by a box or a label; check DATASETS.CATEGORIES against the annotations and labels"
            )
        # Exams without any known label are skipped.
        unlabelled = np.bincount(exams[np.asarray(pools.unlabelled, np.int64)], minlength=len(counts))
        every = ExamRows(images, np.cumsum(counts))
        without = every.take(np.flatnonzero(~found & (unlabelled < counts)))
        return cls(every.take(np.flatnonzero(found)), without, seed=seed, **share)  # type: ignore[arg-type]

    def epoch(self, number: int) -> np.ndarray:
        """Image indices of an epoch, in order."""
        rng = np.random.default_rng([self._seed, number])
        count = min(len(self._with), len(self._without))
        chosen = rng.choice(len(self._without), count, replace=False)
        return rng.permutation(np.concatenate([self._with.images, self._without.take(chosen).images]))

    @property
    def epoch_images(self) -> float:
        """Images of the exams with a finding, and of as many exams without, which have their mean number of images."""
        count = min(len(self._with), len(self._without))
        others = count * len(self._without.images) / len(self._without) if count else 0.0
        return len(self._with.images) + others

    def index_at(self, position: int) -> int:
        while self._starts[-1] <= position:
            self._load(len(self._starts) - 1)
            self._starts.append(self._starts[-1] + len(self._order))
        number = bisect.bisect_right(self._starts, position) - 1
        self._load(number)
        return int(self._order[position - self._starts[number]])

    def _load(self, number: int) -> None:
        if number != self._epoch:
            self._epoch, self._order = number, self.epoch(number)


def share_breast_labels(records: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Records whose labels are those of the whole breast: 1 if any view of it in the exam has a 1, else None if any is
    unknown, else 0.

    Images without ``labels`` or without laterality stay as they are. Records are not modified.
    """
    if isinstance(records, StoredRecords):
        return records.with_breast_labels()
    views: dict[Hashable, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record.get("labels") and record.get("laterality"):
            views[exam_key(record), record["laterality"]].append(record["labels"])
    shared = []
    for record in records:
        labels = views.get((exam_key(record), record.get("laterality")))
        if record.get("labels") and labels:
            names = dict.fromkeys(name for view in labels for name in view)
            record = {**record, "labels": {name: joined_truth(view.get(name) for view in labels) for name in names}}
        shared.append(record)
    return shared
