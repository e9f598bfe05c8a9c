"""One client (woman) of OMI-DB: her episodes in NBSS, and the studies and marks in IMAGEDB, as JSON files have them.

NBSS holds per episode the events SCREENING, ASSESSMENT, BIOPSYWIDE, BIOPSYFINE, CLINICAL and SURGERY, each with
opinions of sides (``left_opinion``) and of lesions (``SURGERY/R/1/Opinion``, with codes such as H5). IMAGEDB holds
``STUDIES/<study>/<series>/<image>/<mark>``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo_d2.core.files import read_json
from mammo_d2.data.converters.converter import ConverterError

#: From harmless to worst; "" is no opinion.
OPINIONS = ("", "normal", "benign", "uncertain", "malignant")
_PATHOLOGY = ("SURGERY", "BIOPSYWIDE", "BIOPSYFINE")
_READING = ("ASSESSMENT", "CLINICAL", "SCREENING")
# Codes and words of proof: histology of surgery and wide bore biopsy, cytology of fine needle biopsy.
_PROOF = {
    "malignant": ("h5", "hist malignant", "b5", "malignant", "c5", "cyt malig", "om", "o malignant"),
    "benign": ("h2", "histol benign", "b2", "benign", "c2", "cyt benign", "ob", "o benign"),
    "normal": ("h1", "histol normal", "on", "o normal", "normal"),
}
_UID = re.compile(r"^[\d.]+$")
_SIDE_KEYS = {"L": "left_opinion", "R": "right_opinion"}
# Features of a mark that the reader ticked.
_FEATURES = {
    "Mass": "mass", "SuspiciousCalcifications": "suspicious calcifications", "WithCalcification": "calcification",
    "ArchitecturalDistortion": "architectural distortion", "FocalAsymmetry": "focal asymmetry",
    "Dystrophic": "dystrophic calcification", "FatNecrosis": "fat necrosis", "MilkOfCalcium": "milk of calcium",
    "OtherBenignCluster": "benign cluster", "PlasmaCellMastitis": "plasma cell mastitis", "Skin": "skin",
    "SutureCalcification": "suture calcification", "Vascular": "vascular",
}  # fmt: skip


@dataclass(frozen=True)
class OptimamMark:
    """A reader's box, (x1, y1, x2, y2) as written; ``lesions`` are numbers of NBSS, empty if it is not linked."""

    mark_id: str
    corners: tuple[float, float, float, float]
    lesions: tuple[str, ...]
    conspicuity: str
    features: tuple[str, ...]
    described_benign: bool


@dataclass(frozen=True)
class OptimamImage:
    """An image of IMAGEDB; ``episode`` is "" where none can be found."""

    study: str
    image: str
    episode: str
    marks: tuple[OptimamMark, ...]


@dataclass(frozen=True)
class OptimamClient:
    """NBSS's episodes by number, IMAGEDB's images, and the site."""

    episodes: Mapping[str, Mapping[str, Any]]
    images: tuple[OptimamImage, ...]
    site: str

    def lesion_opinion(self, episode: str, side: str, numbers: tuple[str, ...]) -> str:
        """The worst proven opinion of these lesions of a breast; of all its lesions if they agree and none is named."""
        events = self.episodes.get(episode, {})
        if numbers:
            return max((_lesion(events, side, number) for number in numbers), key=OPINIONS.index)
        found = {_lesion(events, side, number) for number in _lesion_numbers(events, side)}
        return found.pop() if len(found) == 1 else ""

    def breast_opinion(self, episode: str, side: str) -> str:
        """What an episode came to for a breast: proof before readings, and the worst of several."""
        events = self.episodes.get(episode, {})
        lesions = [_lesion(events, side, number) for number in _lesion_numbers(events, side)]
        proof = [*lesions, *(_proof(_opinion(events, event, side)) for event in _PATHOLOGY)]
        if any(proof):
            return max(proof, key=OPINIONS.index)
        if _lesion_numbers(events, side):
            return "uncertain"
        readings = [_reading(_opinion(events, event, side)) for event in _READING]
        return next((reading for reading in readings if reading), "")

    def has_later_cancer(self, episode: str, side: str) -> bool:
        """Whether a later episode found a cancer in this breast, or is of an interval cancer of unknown side."""
        opened = _digits(self.episodes.get(episode, {}).get("EpisodeOpenedDate"))
        for other, events in self.episodes.items():
            if other == episode or not _digits(events.get("EpisodeOpenedDate")) > opened:
                continue
            opinions = {at: self.breast_opinion(other, at) for at in "LR"}
            if opinions[side] == "malignant":
                return True
            if is_interval_cancer(events) and "malignant" not in opinions.values():
                return True
        return False


def is_interval_cancer(events: Mapping[str, Any]) -> bool:
    """Whether an episode is of a cancer found between two screening rounds."""
    return str(events.get("EpisodeType") or "").upper() in ("CI", "INTERVAL CASE")


def read_client(folder: Path) -> OptimamClient:
    """Read ``nbss_<client>.json`` and ``imagedb_<client>.json`` (or with names in capitals) of a client's folder.

    Raises:
        FileNotFoundError: no IMAGEDB file.
        ConverterError: a file that is no JSON object, or a mark without its corners.
    """
    path = _json_of(folder, "imagedb")
    if path is None:
        raise FileNotFoundError(f"{folder}/imagedb_{folder.name}.json: no such file; fetch it")
    imagedb, nbss_path = _object(path), _json_of(folder, "nbss")
    nbss = _object(nbss_path) if nbss_path else {}
    episodes = {number: events for number, events in nbss.items() if isinstance(events, dict)}
    images = []
    studies = imagedb.get("STUDIES")
    for study, content in studies.items() if isinstance(studies, dict) else ():
        if not isinstance(content, dict):
            continue
        episode = _episode_of(content, episodes)
        for series, entries in content.items():
            if not (isinstance(entries, dict) and _UID.match(series)):
                continue
            for image, marks in entries.items():
                if _UID.match(image):
                    where = f"{path}: image {image}"
                    images.append(OptimamImage(study, image, episode, tuple(_marks(marks, where))))
    return OptimamClient(episodes, tuple(images), str(imagedb.get("Site") or ""))


def _marks(content: Any, where: str) -> Iterator[OptimamMark]:
    if not isinstance(content, dict):
        return
    for number, mark in content.items():
        if not isinstance(mark, dict):
            continue
        try:
            x1, y1, x2, y2 = (float(mark[key]) for key in ("X1", "Y1", "X2", "Y2"))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ConverterError(f"{where}: mark {number} has no X1, Y1, X2 and Y2, all numbers; correct it") from None
        linked = re.findall(r"\d+", str(mark.get("LinkedNBSSLesionNumber") or ""))
        yield OptimamMark(
            str(mark.get("MarkID") or number),
            (x1, y1, x2, y2),
            tuple(linked),
            str(mark.get("Conspicuity") or ""),
            tuple(name for key, name in _FEATURES.items() if mark.get(key)),
            bool(mark.get("BenignClassification")),
        )


def _episode_of(study: Mapping[str, Any], episodes: Mapping[str, Mapping[str, Any]]) -> str:
    """The study's episode; where NBSS does not have it, the one with an event on the study's day."""
    named = str(study.get("EpisodeID") or "")
    if named in episodes:
        return named
    day = _digits(study.get("StudyDate"))
    found = [number for number, events in episodes.items() if day and day in set(_dates(events))]
    return found[0] if len(found) == 1 else ""


def _dates(events: Mapping[str, Any]) -> Iterator[str]:
    """All days of an episode's events, at any depth."""
    for key, value in events.items():
        if isinstance(value, dict):
            yield from _dates(value)
        elif key.lower() in ("dateperformed", "datetaken") and value:
            yield _digits(value)


def _digits(date: Any) -> str:
    """ "2011-05-13" and "20110513" -> "20110513"; "" for None."""
    return re.sub(r"\D", "", str(date or ""))[:8]


def _lesion_numbers(events: Mapping[str, Any], side: str) -> list[str]:
    """Numbers of a breast's lesions in any of an episode's events."""
    found = (_part(events, event, side) for event in ("LESION", *_PATHOLOGY))
    return list(dict.fromkeys(number for lesions in found for number in lesions if number.isdigit()))


def _lesion(events: Mapping[str, Any], side: str, number: str) -> str:
    """The proven opinion of a lesion: malignant if anything proves it, else what the most reliable event says."""
    opinions = []
    for event in _PATHOLOGY:
        lesion = _part(events, event, side).get(number)
        opinions.append(_proof(lesion.get("Opinion") if isinstance(lesion, dict) else None))
    if "malignant" in opinions:
        return "malignant"
    return next((opinion for opinion in opinions if opinion), "")


def _part(events: Mapping[str, Any], event: str, side: str) -> Mapping[str, Any]:
    content = events.get(event)
    part = content.get(side) if isinstance(content, dict) else None
    return part if isinstance(part, dict) else {}


def _opinion(events: Mapping[str, Any], event: str, side: str) -> Any:
    """An event's opinion of a side; screening has it with the side's own facts, too."""
    content = events.get(event)
    if not isinstance(content, dict):
        return None
    return content.get(_SIDE_KEYS[side]) or (
        _part(events, event, side).get("Opinion") if event == "SCREENING" else None
    )


def _proof(opinion: Any) -> str:
    """An opinion of pathology; codes in between (B3, B4, unsatisfactory) are uncertain."""
    text = str(opinion or "").strip().lower()
    if not text:
        return ""
    return next((verdict for verdict, texts in _PROOF.items() if text in texts), "uncertain")


def _reading(opinion: Any) -> str:
    """An opinion of a reader, who proves nothing malignant."""
    text = str(opinion or "").strip().lower()
    if not text:
        return ""
    if text in ("on", "normal", "o normal", "rn", "r1", "rad normal", "r normal", "a1", "assess normal"):
        return "normal"
    return "benign" if text in ("ob", "benign", "o benign", "rb", "r2", "rad benign", "r benign", "a2") else "uncertain"


def _json_of(folder: Path, kind: str) -> Path | None:
    names = (f"{kind}_{folder.name}.json", f"{kind.upper()}_{folder.name}.json")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _object(path: str | os.PathLike[str]) -> dict[str, Any]:
    content = read_json(path, error=ConverterError, remedy="fetch the file again")
    if not isinstance(content, dict):
        raise ConverterError(f"{path}: must hold a JSON object; fetch the file again")
    return content
