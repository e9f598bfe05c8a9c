"""How a data set is prepared: the options of a run, and its error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mammo_d2.data.format.annotations import SPLITS
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.reading.image_meta import SPECIAL_KINDS


class PrepareError(ValueError):
    """A data set that cannot be prepared; the message says why."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a data set is prepared.

    Attributes:
        image: what is done to each image.
        fractions: split name -> part of the patients, where the data set has no split of its own.
        val_from_train: part of the training patients that become "val" where the data set's own split has none.
        seed: of the split.
        workers: processes; 0 prepares in this one, which ends with an image whose decoder crashes.
        strict: stop at the first image that cannot be prepared, rather than leave it out.
        force: prepare everything again; reuse nothing.
        check_hashes: of an earlier run reuse only what has the same hash, of the source and of the prepared file; else
            size and time of change of the source are enough.
        dry_run: only look, write nothing.
        limit: take only the first images of the data set (0: all), for a try.
        progress: show a progress bar.
        kinds: special kinds of image (``SPECIAL_KINDS``) that are taken besides ordinary mammograms; None: all.
        shard: (k, n): prepare only the k-th of n parts of the images, from 1; the merge makes the data set of them.
        visits: "all" exams of a patient, the "first" or the "last".
    """

    image: ImageOptions = field(default_factory=ImageOptions)
    fractions: tuple[tuple[str, float], ...] = (("train", 0.7), ("val", 0.1), ("test", 0.2))
    val_from_train: float = 0.0
    seed: int = 0
    workers: int = 0
    strict: bool = False
    force: bool = False
    check_hashes: bool = False
    dry_run: bool = False
    limit: int = 0
    progress: bool = True
    kinds: tuple[str, ...] | None = None
    visits: str = "all"
    shard: tuple[int, int] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PrepareOptions:
        """The options whose ``dataclasses.asdict`` went through JSON.

        Raises:
            TypeError, ValueError: other keys, or values that are not possible.
        """
        changed = {
            "image": ImageOptions(**values["image"]),
            "fractions": tuple((str(name), float(part)) for name, part in values["fractions"]),
            "kinds": None if values["kinds"] is None else tuple(values["kinds"]),
            "shard": None if values["shard"] is None else tuple(values["shard"]),
        }
        return cls(**{**values, **changed})

    def __post_init__(self) -> None:
        names = [name for name, _ in self.fractions]
        if not set(names) <= set(SPLITS) or len(set(names)) != len(names):
            raise ValueError(f"splits {names} must be among {', '.join(SPLITS)}, each once")
        total = sum(part for _, part in self.fractions)
        if abs(total - 1) > 1e-6 or any(part < 0 for _, part in self.fractions):
            raise ValueError(f"split fractions {dict(self.fractions)} must sum to 1, not {total:g}, none negative")
        if self.kinds is not None and not set(self.kinds) <= set(SPECIAL_KINDS):
            raise ValueError(f"kinds {list(self.kinds)} must be among {', '.join(SPECIAL_KINDS)}")
        if self.visits not in ("all", "first", "last"):
            raise ValueError(f"visits {self.visits!r} must be all, first or last")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]}/{self.shard[1]} must be k/n with k from 1 to n")
        if self.workers < 0 or self.limit < 0 or not 0 <= self.val_from_train < 1:
            raise ValueError(
                f"workers {self.workers} and limit {self.limit} must not be negative, val_from_train "
                f"{self.val_from_train} in [0, 1)"
            )
