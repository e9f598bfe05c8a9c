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
from mammo_d2.data.loading.samplers import SAMPLER_REGISTRY, ImagePools, StreamSampler, exam_key


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
        if not with_finding:
            raise ValueError("ExamSampler needs at least one exam with a finding")
        self._with = [list(exam) for exam in with_finding]
        self._without = [list(exam) for exam in without]
        self._seed = seed
        self._starts = [0]  # first position of every epoch seen so far, and of the next
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "ExamSampler":
        images = defaultdict(list)
        for index, exam in enumerate(pools.exams):
            images[exam].append(index)
        found = {pools.exams[index] for index in (*pools.positives, *pools.unlocalized)}
        if not found:
            raise ValueError(
                f"ExamSampler: none of the {len(images)} exams of {pools.source} has a finding of DATASETS.CATEGORIES, "
                "by a box or a label; check DATASETS.CATEGORIES against the annotations and labels"
            )
        unlabelled = set(pools.unlabelled)
        with_finding = [rows for exam, rows in images.items() if exam in found]
        # Exams without any known label are skipped.
        without = [rows for exam, rows in images.items() if exam not in found and not unlabelled.issuperset(rows)]
        return cls(with_finding, without, seed=seed, **share)

    def epoch(self, number: int) -> np.ndarray:
        """Image indices of an epoch, in order."""
        rng = np.random.default_rng([self._seed, number])
        count = min(len(self._with), len(self._without))
        chosen = rng.choice(len(self._without), count, replace=False)
        exams = [*self._with, *(self._without[row] for row in chosen)]
        return rng.permutation(np.concatenate([np.asarray(exam, np.int64) for exam in exams]))

    @property
    def epoch_images(self) -> float:
        """Images of the exams with a finding, and of as many exams without, which have their mean number of images."""
        count = min(len(self._with), len(self._without))
        others = count * sum(map(len, self._without)) / len(self._without) if count else 0.0
        return sum(map(len, self._with)) + others

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


def share_breast_labels(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records whose labels are those of the whole breast: 1 if any view of it in the exam has a 1, else None if any is
    unknown, else 0.

    Images without ``labels`` or without laterality stay as they are. Records are not modified.
    """
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
