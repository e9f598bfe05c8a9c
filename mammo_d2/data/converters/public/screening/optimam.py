"""OMI-DB: the OPTIMAM Mammography Image Database, screening in England with episodes, pathology and readers' boxes.

Layout: ``data/<client>/nbss_<client>.json``, ``imagedb_<client>.json`` and ``images/<client>/<study>/<image>.dcm``;
clients are ``optm1``, ``demd2`` ... Things to know about it:

* Images are there as processed (FOR PRESENTATION) and raw (FOR PROCESSING), each view twice: raw ones are skipped.
* Spot, magnified and specimen images are skipped unless asked for; tomosynthesis is refused when it is read.
* A mark is a box of a reader, linked to lesions of NBSS or not. Its category is that of the lesions' pathology; one
  that is not linked has a category only if all lesions of its breast agree.
* A woman has several episodes (rounds of screening, clinic) over the years. Her earlier episodes before a cancer in the
  same breast, and before an interval cancer, are unknown: it may be there already.
* ``Width`` and ``Height`` of marks do not always fit their corners and are not used. Corners are ordered here. Public
  readers list nine images whose marks are wrong, probably with x and y exchanged: they are left out.

From the set's documentation and public readers; not checked against its files.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mammo_d2.data.converters.converter import Converter, SourceAnnotation, SourceImage
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.header_listing import header_problem, read_header
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule, rule
from mammo_d2.data.converters.public.screening.optimam_client import (
    OPINIONS,
    OptimamClient,
    OptimamImage,
    is_interval_cancer,
    read_client,
)
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.reading.image_meta import ImageMeta, ImageReadError, ReadOptions

_UNUSUAL_VIEWS = ("magnification", "spot compression", "specimen")
# Images whose marks public readers report to be wrong, less the prefix that all have.
_PREFIX = "1.2.826.0.1.3680043.9.3218.1.1."
_WRONG_MARKS = {
    _PREFIX + end
    for end in (
        "21149576.1882.1552598184295.155.0",
        "423368237.8725.1541832007115.79.0",
        "23278785.1708.1544221170622.213.0",
        "3010695.7588.1512129590473.9978.0",
        "242205684.1858.1540020381577.17.0",
        "3370786.8916.1512165599585.7373.0",
        "3370786.8916.1512165599585.7403.0",
        "3860076.2252.1511393629935.6737.0",
        "296436949.3318.1540562694227.83.0",
    )
}


@register_converter
class Optimam(Converter):
    """Converter of OMI-DB.

    Args:
        source: folder with ``data`` and ``images``.
        all_views: also spot, magnified and specimen images.
        read_options: how DICOM files become pixels; ``for_processing`` takes the raw images, too.

    Raises:
        FileNotFoundError: no folder ``data`` or ``images``.
    """

    name = "optimam"
    command = "optimam"
    summary = "OPTIMAM (OMI-DB): episodes, pathology, readers' boxes"
    description = (
        "Prepare OMI-DB. Images of episodes before a cancer in the same breast are unknown. Clients whose files\n"
        "cannot be read are listed in errors.csv."
    )
    source_help = "folder with data/<client>/*.json and images/<client>/<study>/*.dcm"
    label_facts: ClassVar[Facts] = {
        "finding": {"opinion": OPINIONS, "described": ("", "benign"), "conspicuity": None},
        "breast": {"opinion": OPINIONS, "later_cancer": ("yes", "no"), "interval_cancer": ("yes", "no")},
    }

    def __init__(
        self, source: str | os.PathLike[str], all_views: bool = False, read_options: ReadOptions | None = None
    ) -> None:
        super().__init__(source, read_options)
        self.all_views = all_views
        for folder in ("data", "images"):
            if not (self.source / folder).is_dir():
                raise FileNotFoundError(f"{self.source / folder}: no such folder; give the one with data and images")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        parser.add_argument("--all-views", action="store_true", help="also spot, magnification and specimen images")

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Optimam:
        """See the base class."""
        return cls(args.source, args.all_views, read_options(args))

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "all_views": self.all_views}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; only pathology proves a cancer."""
        return {
            "finding": [
                rule("malignant", opinion=("malignant",)),
                rule("benign", opinion=("benign",)),
                rule("benign", described=("benign",)),
                rule(UNKNOWN, opinion=OPINIONS),
            ],
            "breast": [
                rule("malignant", opinion=("malignant",)),
                rule(UNKNOWN, later_cancer=("yes",)),
                rule(UNKNOWN, interval_cancer=("yes",)),
                rule("benign", opinion=("benign",)),
                rule("normal", opinion=("normal",)),
                rule(UNKNOWN, opinion=OPINIONS),
            ],
        }

    def images(self) -> Iterator[SourceImage]:
        """See the base class; clients by name, images as IMAGEDB lists them."""
        folders = sorted(path for path in (self.source / "data").iterdir() if path.is_dir())
        clients = [(folder, _client_or_error(folder)) for folder in folders]
        paths = [
            self.source / _relative_path(folder.name, image)
            for folder, client in clients
            for image in (() if isinstance(client, Exception) else client.images)
        ]
        headers = self.listing.look(_header, paths)
        for folder, client in clients:
            if isinstance(client, Exception):
                self.skip(f"data/{folder.name}", str(client))
                continue
            if not client.episodes:
                self.skip(f"data/{folder.name}/nbss_{folder.name}.json", "no episodes; the client's labels are unknown")
            for image in client.images:
                prepared = self._image(folder.name, client, image, *next(headers))
                if prepared is not None:
                    yield prepared

    def _image(
        self, name: str, client: OptimamClient, image: OptimamImage, path: Path, meta: ImageMeta | Exception
    ) -> SourceImage | None:
        relative = _relative_path(name, image)
        if isinstance(meta, Exception):
            self.skip(relative, header_problem(meta))
            return None
        if not self._is_taken(meta, relative):
            return None
        if image.image in _WRONG_MARKS:
            self.skip(relative, "its marks are known to be wrong")
            return None
        side, where = meta.laterality, f"data/{name}, image {image.image}"
        annotations = tuple(self._lesions(client, image, side, where))
        verdicts = [annotation.category for annotation in annotations]
        facts: dict[str, Mapping[str, str]] = {}
        events = client.episodes.get(image.episode)
        if events is not None and side:
            facts["breast"] = {
                "opinion": client.breast_opinion(image.episode, side),
                "later_cancer": "yes" if client.has_later_cancer(image.episode, side) else "no",
                "interval_cancer": "yes" if is_interval_cancer(events) else "no",
            }
        labels = self.image_labels(relative, facts, verdicts, where, complete=False)
        if labels is None:
            return None
        for verdict in verdicts:
            if verdict in labels:
                labels[verdict] = 1
        return SourceImage(
            path=path,
            key=f"{name}/{image.study}/{image.image}",
            source_name=relative,
            annotations=annotations,
            patient_id=name,
            exam_id=image.study,
            laterality=side,
            view=meta.view,
            labels=labels,
            extra={
                "site": client.site or None,
                "episode": image.episode or None,
                "episode_type": str(events.get("EpisodeType") or "") or None if events else None,
            },
        )

    def _lesions(
        self, client: OptimamClient, image: OptimamImage, side: str | None, where: str
    ) -> Iterator[SourceAnnotation]:
        for mark in image.marks:
            opinion = client.lesion_opinion(image.episode, side, mark.lesions) if side else ""
            facts = {
                "opinion": opinion,
                "described": "benign" if mark.described_benign else "",
                "conspicuity": mark.conspicuity,
            }
            x1, y1, x2, y2 = mark.corners
            box = (min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))
            # A lesion of NBSS has a number within its episode and breast.
            lesion = "+".join(mark.lesions)
            lesion_id = f"{image.episode}_{side}_{lesion}" if lesion else f"mark_{mark.mark_id}"
            extra = {"finding": list(mark.features), "conspicuity": mark.conspicuity or None}
            category = self.rules.verdict("finding", facts, where)
            yield SourceAnnotation(category, box, pathology=opinion or None, lesion_id=lesion_id, extra=extra)

    def _is_taken(self, meta: ImageMeta, relative: str) -> bool:
        """Whether an image is prepared; else it is noted."""
        if meta.presentation_intent.upper() == "FOR PROCESSING" and not self.read_options.for_processing:
            self.skip(relative, "FOR PROCESSING (raw) image")
            return False
        unusual = [m for m in (*meta.view_modifiers, meta.view or "") if m.lower() in _UNUSUAL_VIEWS]
        if unusual and not self.all_views:
            self.skip(relative, f"{unusual[0]} image")
            return False
        return True


def _client_or_error(folder: Path) -> OptimamClient | Exception:
    try:
        return read_client(folder)
    except (ValueError, OSError) as error:
        return error


def _relative_path(client: str, image: OptimamImage) -> str:
    return f"images/{client}/{image.study}/{image.image}.dcm"


def _header(path: Path) -> ImageMeta | ImageReadError | OSError:
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long
        return error
    return read_header(path) if found else ImageReadError(path, "in IMAGEDB, but there is no such file", "fetch it")
