"""What a run that prepared one part of a data set leaves for the merge: ``<out>/shards/3-of-8.json``.

It holds the records of the part's images, and what must be the same in all parts: the options, the versions, and a hash
of the list of all images, which every part has made for itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mammo_d2.core.files import read_json, sha256_bytes, write_json
from mammo_d2.data.converters.converter import SourceImage
from mammo_d2.data.prepare.image import Issue, Outcome
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions

SHARD_FOLDER = "shards"
# Facts of a source image that do not decide what is prepared, or differ between machines.
_NOT_LISTED = ("path", "data", "problem", "exam_time")


@dataclass(frozen=True)
class Shard:
    """One prepared part of a data set.

    Attributes:
        options: of its run, with ``shard``.
        origin: of ``describe_origin``.
        images: number of images of the whole data set.
        listing: hash of what was known about all of them.
        skipped: (what, why) that was left out of the list of all images.
        outcomes: of the part's images, in their order.
        left_out: for each outcome (what, why) of what its file led to leave out.
    """

    options: PrepareOptions
    origin: Mapping[str, Any]
    images: int
    listing: str
    skipped: Sequence[tuple[str, str]]
    outcomes: Sequence[Outcome]
    left_out: Sequence[Sequence[tuple[str, str]]]

    @property
    def number(self) -> int:
        """Which part, from 1."""
        return (self.options.shard or (1, 1))[0]

    @property
    def total(self) -> int:
        """Of how many parts."""
        return (self.options.shard or (1, 1))[1]

    @property
    def common(self) -> dict[str, Any]:
        """What must be the same in all parts, by the name that a message gives it."""
        run = dict.fromkeys(("workers", "strict", "force", "check_hashes", "progress", "shard", "dry_run"))
        options = {name: value for name, value in asdict(self.options).items() if name not in run}
        return {**options, **self.origin, "number of images": self.images, "list of images": self.listing}

    def write(self, out: Path) -> Path:
        """Write the file under the data set's folder."""
        content = {
            "options": asdict(self.options),
            "origin": self.origin,
            "images": self.images,
            "listing": self.listing,
            "skipped": self.skipped,
            "outcomes": [asdict(replace(outcome, reused=False)) for outcome in self.outcomes],
            "left_out": self.left_out,
        }
        name = f"{self.number}-of-{self.total}.json"
        return write_json(out / SHARD_FOLDER / name, content, indent=None)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Shard:
        """Read a shard's file.

        Raises:
            PrepareError: it is none, or damaged.
        """
        try:
            content = read_json(path)
            outcomes = [
                Outcome(**{**outcome, "issues": [Issue(**issue) for issue in outcome["issues"]]})
                for outcome in content["outcomes"]
            ]
            return cls(
                PrepareOptions.from_dict(content["options"]), dict(content["origin"]), int(content["images"]),
                str(content["listing"]), _pairs(content["skipped"]), outcomes, list(map(_pairs, content["left_out"])),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise PrepareError(
                f"{path}: not the file of a shard of this version ({type(error).__name__}: {error}); prepare it again"
            ) from error


def listing_hash(sources: Sequence[SourceImage]) -> str:
    """Hash of what is known about all images before they are read; where the files lie does not matter."""
    facts = [{name: value for name, value in asdict(source).items() if name not in _NOT_LISTED} for source in sources]
    return sha256_bytes(json.dumps(facts, sort_keys=True, default=str).encode())


def _pairs(values: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    return [(str(what), str(why)) for what, why in values]
