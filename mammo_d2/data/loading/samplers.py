"""Training samplers: which image comes at which position of the endless training stream.

Every sampler is a pure function ``index_at(position)`` of its seed: no state is carried from one sample to the next.
Everything else follows from that:

* resuming is starting at a later position;
* the ranks of a distributed run take disjoint shares of one global stream (unit ``u`` of the stream belongs to rank
  ``u % world_size``), so that the batches of one step, joined over the ranks, are the batch of a one-process run;
* the position also seeds a sample's augmentation (see ``loader.py``), which makes the data independent of workers.

Position: index into the global stream, from 0. Pass: one shuffled run through a pool of images.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from torch.utils.data import Sampler

from mammo_d2.core.image_truth import image_truth, joined_truth
from mammo_d2.data.format.stored_records import SamplingColumns, StoredRecords
from mammo_d2.framework import Registry

SAMPLER_REGISTRY = Registry("SAMPLER")
SAMPLER_REGISTRY.__doc__ = """
Training samplers by the name used in cfg.DATALOADER.SAMPLER_TRAIN: subclasses of ``StreamSampler``, made by
``from_pools(pools, seed=, start=, rank=, world_size=)``.
"""


@dataclass(frozen=True)
class ImagePools:
    """What the training images offer to a sampler, as indices into the list of records.

    Attributes:
        positives: images with at least one usable (non-crowd) box.
        negatives: images known to show none of the detection classes (see ``image_truth.py``).
        unlocalized: images that show a finding but have no usable box (an image-level label, or a crowd box only).
            They are in neither pool: their lesion would be trained as background.
        unknown: images without a box whose label of some class is unknown. They are in neither pool, too.
        unlabelled: those of ``unknown`` whose labels of all classes are unknown.
        source: where the images come from, for error messages.
        exams: per image the number of its exam, from 0.
        severity: per image the number of its most severe class, from 1 (the last of the classes is the most severe); 0
            if it is known to show none, -1 if it may show a more severe class than is known.
        num_classes: number of the classes.
        label_only: those of ``unlocalized`` that samplers with ``DRAWS_LABEL_ONLY`` draw as positive images.
        label_only_share: their share of the positive images drawn, see ``MixedPool``.
    """

    positives: Sequence[int]
    negatives: Sequence[int]
    unlocalized: Sequence[int] = field(default=())
    unknown: Sequence[int] = field(default=())
    unlabelled: Sequence[int] = field(default=())
    source: str = "the training set"
    exams: Sequence[int] = field(default=())
    severity: Sequence[int] = field(default=(), compare=False)
    num_classes: int = field(default=0, compare=False)
    label_only: Sequence[int] = field(default=())
    label_only_share: float = field(default=0.0, compare=False)

    @property
    def all(self) -> range:
        """Every image, in the order of the records."""
        return range(len(self.positives) + len(self.negatives) + len(self.unlocalized) + len(self.unknown))

    @property
    def located(self) -> list[int]:
        """Images whose findings all have boxes, in the order of the records: positives and negatives."""
        return sorted([*self.positives, *self.negatives])


def split_pools(
    records: Sequence[dict], categories: Sequence[str] = (), source: str = "the training set"
) -> ImagePools:
    """Sort the images of a data set into the pools that samplers draw from.

    Args:
        records: dataset records (see ``catalog.py``); ``annotations`` hold detection classes only.
        categories: names of the detection classes, by number. Without any, labels are not looked at.
        source: names of the data sets, for messages.

    Returns:
        The pools; together they hold every record exactly once.
    """
    if isinstance(records, StoredRecords):
        return _stored_pools(records.sampling_columns(categories), source)
    positives, negatives, unlocalized, unknown, unlabelled, severity = [], [], [], [], [], []
    numbers: dict[Hashable, int] = {}
    exams = [numbers.setdefault(exam_key(record), len(numbers)) for record in records]
    for index, record in enumerate(records):
        annotations = record["annotations"]
        by_class = image_truth(record, categories)
        truth = joined_truth(by_class)
        severity.append(_severity(by_class))
        if any(not annotation.get("iscrowd", 0) for annotation in annotations):
            positives.append(index)
        elif annotations or truth == 1:
            unlocalized.append(index)
        elif truth is None:
            unknown.append(index)
            if not any(value is not None for value in by_class):
                unlabelled.append(index)
        else:
            negatives.append(index)
    return ImagePools(positives, negatives, unlocalized, unknown, unlabelled, source, exams, severity, len(categories))


def _stored_pools(columns: SamplingColumns, source: str) -> ImagePools:
    """The same from columns."""
    positives, negatives, unlocalized, unknown, unlabelled = (np.flatnonzero(pool).tolist() for pool in columns.pools)
    exams, severity, classes = columns.exams.tolist(), columns.severity.tolist(), columns.truth.shape[1]
    return ImagePools(positives, negatives, unlocalized, unknown, unlabelled, source, exams, severity, classes)


def _severity(by_class: Sequence[int | None]) -> int:
    """Number of the last class that is present, from 1; 0 without any; -1 if a class after it is unknown."""
    for number in range(len(by_class), 0, -1):
        if by_class[number - 1] is None:
            return -1
        if by_class[number - 1]:
            return number
    return 0


def exam_key(record: dict) -> Hashable:
    """Key of an image's exam: the exam (of a patient), else the patient, else the image alone."""
    if record.get("exam_id") is not None:
        return "exam", record.get("patient_id"), record["exam_id"]
    if record.get("patient_id") is not None:
        return "patient", record["patient_id"]
    return "image", record.get("image_id"), record.get("file_name")


class ShuffledPool:
    """An endless stream over a pool of image indices: a new permutation each pass, a function of (seed, pass)."""

    def __init__(self, indices: Sequence[int], seed: int, stream: int):
        """
        Args:
            indices: the pool, not empty.
            seed: seed of the run, ≥ 0.
            stream: number of the pool within its sampler, so that pools are shuffled independently.
        """
        self._indices = np.asarray(indices, dtype=np.int64)
        self._key = (seed, stream)
        self._pass = -1
        self._order = self._indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, step: int) -> int:
        """Image index at ``step`` ≥ 0 of this pool's stream."""
        number, offset = divmod(step, len(self._indices))
        if number != self._pass:
            rng = np.random.default_rng([*self._key, number])
            self._order, self._pass = rng.permutation(self._indices), number
        return int(self._order[offset])


def check_label_only_share(share: float) -> None:
    """Check DATALOADER.LABEL_ONLY_SHARE; ValueError if it is no share that leaves images of both kinds."""
    if not 0 <= share < 1:
        raise ValueError(
            f"DATALOADER.LABEL_ONLY_SHARE is {share}; it must be at least 0 (their share of the data) and less than 1"
        )


class MixedPool:
    """Two pools as one endless stream: ``floor(n · share)`` of its first n images, evenly spread, are of the second."""

    def __init__(self, first: Sequence[int], second: Sequence[int], share: float, seed: int, streams: tuple[int, int]):
        """
        Args:
            first, second: the pools; if one is empty, the stream is the other.
            share: of the second, 0 ≤ share < 1; 0: that of its images.
            seed, streams: of ``ShuffledPool``, a stream for each.
        """
        check_label_only_share(share)
        self._pools = (ShuffledPool(first, seed, streams[0]), ShuffledPool(second, seed, streams[1]))
        self._size = len(first) + len(second)
        self._share = Fraction(share).limit_denominator(10**6) if share else Fraction(len(second), max(1, self._size))
        if not len(first) or not len(second):
            self._share = Fraction(0 if len(first) else 1)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, step: int) -> int:
        """Image index at ``step`` ≥ 0."""
        before, after = int(step * self._share), int((step + 1) * self._share)
        return self._pools[1][before] if after > before else self._pools[0][step - before]


class StreamSampler(Sampler[int]):
    """Endless sampler over one rank's share of a global stream of image indices.

    Subclasses set ``UNIT`` and ``DRAWS_UNKNOWN`` and implement ``from_pools`` and ``index_at``.
    """

    # Consecutive positions that always go to the same rank.
    UNIT = 1
    # Whether images of unknown truth are drawn, too.
    DRAWS_UNKNOWN = False
    # Whether ``ImagePools.label_only`` are drawn as positive images.
    DRAWS_LABEL_ONLY = False

    def __init__(self, *, start: int = 0, rank: int = 0, world_size: int = 1):
        """
        Args:
            start: number of samples of this rank to skip: those that an interrupted run has used.
            rank, world_size: this process and the number of processes.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside 0..{world_size - 1} (world size {world_size})")
        if start < 0 or start % self.UNIT:
            raise ValueError(f"{type(self).__name__}: start {start} must be a multiple of {self.UNIT}, not negative")
        self._start, self._rank, self._world_size = start, rank, world_size

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "StreamSampler":
        """Make the sampler for a training set.

        Args:
            pools: the images it may draw from.
            seed: seed of the shuffles, ≥ 0.
            share: ``start``, ``rank``, ``world_size``.

        Raises:
            ValueError: a pool that it needs is empty; the message names the data sets and the remedy.
        """
        raise NotImplementedError

    def index_at(self, position: int) -> int:
        """Image index at a global position."""
        raise NotImplementedError

    @property
    def epoch_images(self) -> float:
        """Number of images of an epoch, over all ranks: one pass of the sampler; the mean where epochs differ.

        Raises:
            ValueError: the sampler does not say.
        """
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN {type(self).__name__} does not say how long an epoch is (epoch_images): set "
            "SOLVER.EPOCHS 0 and SOLVER.MAX_ITER"
        )

    def positions(self) -> Iterator[int]:
        """Global positions of this rank's samples from ``start`` on, without end."""
        unit = self._start // self.UNIT
        while True:
            first = (unit * self._world_size + self._rank) * self.UNIT
            yield from range(first, first + self.UNIT)
            unit += 1

    def __iter__(self) -> Iterator[int]:
        return (self.index_at(position) for position in self.positions())


@SAMPLER_REGISTRY.register()
class PairSampler(StreamSampler):
    """Positive, negative, positive, negative, ...: each pair stays together on one rank.

    Both pools are shuffled independently of each other; the smaller one is repeated with a new order each time. With
    ``label_only``, images with boxes and images with labels alone take turns as positive images.
    """

    UNIT = 2
    DRAWS_LABEL_ONLY = True

    def __init__(
        self,
        positives: Sequence[int],
        negatives: Sequence[int],
        *,
        seed: int,
        label_only: Sequence[int] = (),
        label_only_share: float = 0.0,
        **share: int,
    ):
        """
        Args:
            positives, negatives: image indices, neither empty (``positives`` may be if there are ``label_only``).
            seed: seed of the shuffles, ≥ 0.
            label_only: positive images without boxes.
            label_only_share: their share of the positive images drawn; 0: as there are images.
            share: ``start``, ``rank``, ``world_size`` of ``StreamSampler``.
        """
        super().__init__(**share)
        if not len(positives) + len(label_only) or not len(negatives):
            raise ValueError(
                f"PairSampler needs both pools: {len(positives)} positive, {len(negatives)} negative images"
            )
        self._pools: tuple[MixedPool, ShuffledPool] = (
            MixedPool(positives, label_only, label_only_share, seed, (0, 2)),
            ShuffledPool(negatives, seed, 1),
        )

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "PairSampler":
        _require([*pools.positives, *pools.label_only], "PairSampler", "positive", pools)
        _require(pools.negatives, "PairSampler", "negative", pools)
        mixed = {"label_only": pools.label_only, "label_only_share": pools.label_only_share}
        return cls(pools.positives, pools.negatives, seed=seed, **mixed, **share)  # type: ignore[arg-type]

    @property
    def epoch_images(self) -> float:
        """As many positive images as there are, with boxes or without, each with a negative one."""
        return 2.0 * len(self._pools[0])

    def index_at(self, position: int) -> int:
        pair, side = divmod(position, 2)
        return self._pools[side][pair]


class ShuffleSampler(StreamSampler):
    """One pool of images, in a new order each pass."""

    def __init__(self, indices: Sequence[int], *, seed: int, **share: int):
        """
        Args:
            indices: image indices, not empty.
            seed: seed of the shuffles, ≥ 0.
            share: ``start``, ``rank``, ``world_size`` of ``StreamSampler``.
        """
        super().__init__(**share)
        if not len(indices):
            raise ValueError(f"{type(self).__name__} needs at least one image")
        self._pool = ShuffledPool(indices, seed, 0)

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "ShuffleSampler":
        return cls(pools.all, seed=seed, **share)

    @property
    def epoch_images(self) -> float:
        """The pool once."""
        return float(len(self._pool))

    def index_at(self, position: int) -> int:
        return self._pool[position]


@SAMPLER_REGISTRY.register()
class TrainingSampler(ShuffleSampler):
    """All images, under the name that detectron2's configs use: for methods that learn from image labels.

    A detector would learn unknown findings, and those of unknown place, as background: see ``LocatedSampler``.
    """

    DRAWS_UNKNOWN = True


@SAMPLER_REGISTRY.register()
class BalancedClassSampler(StreamSampler):
    """Normal, benign, malignant, normal, ...: every class equally often, whatever its share of the images.

    An image belongs to its most severe class, the last of DATASETS.CATEGORIES that it shows, or to the class normal.
    Each class is shuffled by itself; smaller ones are repeated in a new order each time. Images whose class is not
    known are not drawn; those without a box are, so the sampler is for methods that learn from image labels.

    Source:
        Bakalo et al., ISBI 2019, section 2.1: the training set is balanced by augmentation.
    """

    DRAWS_UNKNOWN = True

    def __init__(self, classes: Sequence[Sequence[int]], *, seed: int, **share: int):
        """
        Args:
            classes: image indices of each class, none empty.
            seed: seed of the shuffles, ≥ 0.
            share: ``start``, ``rank``, ``world_size`` of ``StreamSampler``.
        """
        super().__init__(**share)
        if not classes or not all(len(images) for images in classes):
            raise ValueError(f"BalancedClassSampler needs images of every class, got {[len(c) for c in classes]}")
        self._pools = [ShuffledPool(images, seed, number) for number, images in enumerate(classes)]

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "BalancedClassSampler":
        severity = np.asarray(pools.severity)
        count = pools.num_classes + 1
        classes = [np.flatnonzero(severity == number).tolist() for number in range(count)]
        empty = [number for number, images in enumerate(classes) if not images]
        if empty:
            names = ["normal images" if n == 0 else f"images whose most severe class is number {n}" for n in empty]
            raise ValueError(
                f"BalancedClassSampler: {pools.source} has no {' and no '.join(names)} of DATASETS.CATEGORIES among "
                f"its {len(severity)} images; check their order (the most severe class last) and the labels, or set "
                "DATALOADER.SAMPLER_TRAIN to TrainingSampler"
            )
        return cls(classes, seed=seed, **share)

    @property
    def epoch_images(self) -> float:
        """Every image of the largest class once, and as many of each other."""
        return float(len(self._pools) * max(map(len, self._pools)))

    def index_at(self, position: int) -> int:
        step, number = divmod(position, len(self._pools))
        return self._pools[number][step]


@SAMPLER_REGISTRY.register()
class LocatedSampler(ShuffleSampler):
    """Images with boxes and images known to be without a finding, in a new order each pass: for detectors."""

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "LocatedSampler":
        _require(pools.positives, "LocatedSampler", "positive", pools)
        return cls(pools.located, seed=seed, **share)


@SAMPLER_REGISTRY.register()
class PositiveSampler(ShuffleSampler):
    """Images with boxes only, in a new order each pass: plain Faster R-CNN without healthy breasts."""

    @classmethod
    def from_pools(cls, pools: ImagePools, *, seed: int, **share: int) -> "PositiveSampler":
        _require(pools.positives, "PositiveSampler", "positive", pools)
        return cls(pools.positives, seed=seed, **share)


def _require(pool: Sequence[int], sampler: str, kind: str, pools: ImagePools) -> None:
    if len(pool):
        return
    meaning, remedy = {
        "positive": (
            "an image with a box of a category in DATASETS.CATEGORIES",
            "check DATASETS.CATEGORIES against the annotations, or add annotated images to DATASETS.TRAIN",
        ),
        "negative": (
            "an image known to be without a finding",
            "add healthy images to DATASETS.TRAIN (labels of all DATASETS.CATEGORIES 0, or no labels at all), or set "
            "DATALOADER.SAMPLER_TRAIN to PositiveSampler",
        ),
    }[kind]
    unknown = f", {len(pools.unknown)} of them unknown" if kind == "negative" and len(pools.unknown) else ""
    among = f"{len(pools.all)} images{unknown}"
    raise ValueError(f"{sampler}: {pools.source} has no {kind} image ({meaning}) among its {among}; {remedy}")
