"""Training patches and test windows of the lesion classifier: which, in what order, and as model inputs.

The stream of training patches is, like that of training images (``loader.py``), a function of the seed and the position
alone: the epoch's order of classes, the image or lesion each patch is of, and its window. Ranks take disjoint shares of
it, a resumed run goes on at its position, and workers change nothing.

Patch classes are numbered as in the paper: 0 malignant, 1 benign, 2 outside, 3 negative.
"""

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mammo_d2.core.lesion_classes import BENIGN, MALIGNANT, NEGATIVE, OUTSIDE, PATCH_CLASSES, lesion_pathology
from mammo_d2.data.lesions.patch_store import PatchStore, cut_patch
from mammo_d2.data.lesions.windows import (
    LesionRegion,
    WindowRule,
    has_room_outside,
    lesion_region,
    window_on_lesion,
    window_outside,
)
from mammo_d2.data.loading.loader import warn_of_unlocalized
from mammo_d2.data.loading.samplers import ShuffledPool, StreamSampler, split_pools

# Keeps the generators of epochs and test windows apart from those of the pools (0..3) and the augmentation.
_EPOCH_STREAM = 2000
_TEST_STREAM = 2001

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchSources:
    """Where training patches come from.

    Attributes:
        records: {"record": dataset record, "patch_class", "lesion": row in its annotations, -1 for classes without}.
        pools: for each patch class the rows of ``records``.
    """

    records: list[dict[str, Any]]
    pools: tuple[list[int], ...]


def pathology_class(annotation: Mapping[str, Any], classes: Sequence[str]) -> int | None:
    """Patch class of a lesion by its ``pathology``, else by the name of its category; None if neither says it."""
    pathology = lesion_pathology(annotation, classes)
    return None if pathology is None else PATCH_CLASSES.index(pathology)


def patch_sources(
    records: Sequence[dict], classes: Sequence[str], *, smallest: int, source: str = "the training set"
) -> PatchSources:
    """Sort lesions and images into the four patch classes.

    Lesions of unknown pathology give no lesion patch, but windows outside keep away from them. "negative" are images
    known to be without any finding (see ``image_truth.py``).

    Args:
        records: dataset records whose annotations are the lesions, both benign and malignant.
        classes: class names.
        smallest: smallest side of a window; images without room for it beside the lesions give no "outside" patch.
        source: names of the data sets, for messages.
    """
    found: list[dict[str, Any]] = []
    pools: tuple[list[int], ...] = ([], [], [], [])

    def add(record: dict, kind: int, lesion: int = -1) -> None:
        pools[kind].append(len(found))
        found.append({"record": record, "patch_class": kind, "lesion": lesion})

    images = split_pools(records, classes, source)
    warn_of_unlocalized(images, records)
    unknown = 0
    for index in images.positives:
        record = records[index]
        size = (record["height"], record["width"])
        for row, annotation in enumerate(record["annotations"]):
            kind = None if annotation.get("iscrowd", 0) else pathology_class(annotation, classes)
            if kind is None:
                unknown += 1
            else:
                add(record, kind, row)
        if has_room_outside([lesion_region(a, size, masks=False) for a in record["annotations"]], size, smallest):
            add(record, OUTSIDE)
    for index in images.negatives:
        add(records[index], NEGATIVE)
    logger.info(
        "patches of %s: %s; left out %d annotations of unknown pathology and %d images of unknown label",
        source,
        ", ".join(f"{len(pool)} sources {name}" for name, pool in zip(PATCH_CLASSES, pools, strict=True)),
        unknown,
        len(images.unknown),
    )
    return PatchSources(found, pools)


class PatchSampler(StreamSampler):
    """Epochs with a fixed number of patches of each class, in random order.

    The sources of a class are shuffled and repeated pass by pass, so that every lesion is used equally often.
    """

    def __init__(self, pools: Sequence[Sequence[int]], counts: Sequence[int], *, seed: int, **share: int):
        """
        Args:
            pools: rows of the sources of each class.
            counts: patches of each class in an epoch.
            seed: of the order, ≥ 0.
            share: ``start``, ``rank``, ``world_size`` of ``StreamSampler``.

        Raises:
            ValueError: no patches are asked for, or a class with patches has no source.
        """
        super().__init__(**share)
        self.counts = [int(count) for count in counts]
        if len(self.counts) != len(pools) or min(self.counts) < 0 or not any(self.counts):
            raise ValueError(
                f"MODEL.LESION.EPOCH is {self.counts}; it must be the numbers of {', '.join(PATCH_CLASSES)} patches"
            )
        for name, pool, count in zip(PATCH_CLASSES, pools, self.counts, strict=True):
            if count and not pool:
                raise ValueError(
                    f"MODEL.LESION.EPOCH wants {count} {name} patches, but the training set has no place for them "
                    "from; check DATASETS.TRAIN and DATASETS.CATEGORIES, or set the number to 0"
                )
        self.length = sum(self.counts)
        self._seed = seed
        self._pools = [ShuffledPool(pool, seed, stream) if pool else None for stream, pool in enumerate(pools)]
        self._epoch = -1
        self._order = np.zeros(0, np.int64)
        self._turn = np.zeros(0, np.int64)

    def classes_of(self, epoch: int) -> np.ndarray:
        """(length,) int64 patch class at each position of an epoch."""
        order = np.repeat(np.arange(len(self.counts)), self.counts)
        return np.random.default_rng([self._seed, _EPOCH_STREAM, epoch]).permutation(order)

    def index_at(self, position: int) -> int:
        epoch, place = divmod(position, self.length)
        if epoch != self._epoch:
            self._order = self.classes_of(epoch)
            self._turn = np.zeros(self.length, np.int64)
            for kind, count in enumerate(self.counts):
                self._turn[self._order == kind] = epoch * count + np.arange(count)
            self._epoch = epoch
        pool = self._pools[int(self._order[place])]
        assert pool is not None, "a class without sources has count 0"
        return pool[int(self._turn[place])]


class LesionPatchMapper:
    """Source record -> model input of one training patch.

    The result has ``image`` (1, S, S) float32 in 0..255, ``patch_class``, ``window`` (4,) float32 XYXY in pixels of the
    image file (before the rotation), ``image_size`` (2,) its height and width, ``image_id`` and ``file_name``.
    """

    def __init__(self, store: PatchStore, rule: WindowRule, size: int, classes: Sequence[str]):
        """
        Args:
            store: the images.
            rule: of the windows.
            size: S.
            classes: class names of the records.
        """
        self.store, self.rule, self.size, self.classes = store, rule, size, tuple(classes)

    def __call__(self, source: dict, rng: np.random.Generator) -> dict[str, Any]:
        window, rotation = self.draw_window(source, rng)
        record = source["record"]
        patch = self.store.read_patch(record, window, self.size, rotation)
        return {
            **patch_facts(record),
            "window": torch.tensor(window, dtype=torch.float32),
            "patch_class": source["patch_class"],
            "image": torch.from_numpy(patch[np.newaxis]),
        }

    def draw_window(self, source: dict, rng: np.random.Generator) -> tuple[tuple[int, int, int, int], float]:
        """The window and its rotation in degrees."""
        record, kind = source["record"], source["patch_class"]
        size = (record["height"], record["width"])
        side, rotation = self.rule.draw(rng)
        if kind not in (MALIGNANT, BENIGN):
            lesions = [lesion_region(a, size, masks=False) for a in record["annotations"]]
            return window_outside(lesions, size, side, rng, rotation, self.rule.sides[0])
        chosen = record["annotations"][source["lesion"]]
        others = [
            lesion_region(annotation, size)
            for annotation in record["annotations"]
            if pathology_class(annotation, self.classes) not in (None, kind)
        ]
        lesion = lesion_region(chosen, size)
        return window_on_lesion(lesion, size, side, rng, rotation, others)


class LesionTestMapper:
    """Dataset record -> model input of all windows of its lesions.

    The result has ``patches`` (n, 1, S, S) float32 in 0..255, ``windows`` (n, 4) float32 XYXY in pixels of the image
    file, ``window_lesion`` (n,) int64 rows of the record's annotations, ``num_lesions``, ``image_size``, ``image_id``
    and ``file_name``. The windows of a lesion follow from the seed, the image id and its row.
    """

    def __init__(self, store: PatchStore, rule: WindowRule, size: int, count: int, seed: int = 0):
        """
        Args:
            store: the images.
            rule: of the windows; nothing is turned.
            size: S.
            count: windows of each lesion.
            seed: ≥ 0.
        """
        if count < 1:
            raise ValueError(f"MODEL.LESION.WINDOWS is {count}; a lesion needs at least one window")
        self.store, self.rule, self.size, self.count, self.seed = store, rule, size, count, seed

    def __call__(self, record: dict) -> dict[str, Any]:
        size = (record["height"], record["width"])
        lesions = [lesion_region(annotation, size) for annotation in record["annotations"]]
        windows = [window for row, lesion in enumerate(lesions) for window in self.windows(record, row, lesion)]
        image = self.store.open(record) if windows else None
        patches = np.zeros((len(windows), 1, self.size, self.size), np.float32)
        for number, window in enumerate(windows):
            assert image is not None
            patches[number, 0] = cut_patch(image, window, self.size)
        return {
            **patch_facts(record),
            "windows": torch.tensor(windows, dtype=torch.float32).reshape(-1, 4),
            "window_lesion": torch.arange(len(lesions)).repeat_interleave(self.count),
            "num_lesions": len(lesions),
            "patches": torch.from_numpy(patches),
        }

    def windows(self, record: Mapping[str, Any], row: int, lesion: LesionRegion) -> list[tuple[int, int, int, int]]:
        """The windows of one lesion."""
        number = zlib.crc32(repr(record["image_id"]).encode())
        rng = np.random.default_rng([self.seed, _TEST_STREAM, number, row])
        size = (record["height"], record["width"])
        return [window_on_lesion(lesion, size, self.rule.draw(rng)[0], rng)[0] for _ in range(self.count)]


def patch_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Fields about the image in every model input."""
    return {
        "image_id": record["image_id"],
        "file_name": record["file_name"],
        "height": record["height"],
        "width": record["width"],
        "image_size": torch.tensor([record["height"], record["width"]]),
    }
