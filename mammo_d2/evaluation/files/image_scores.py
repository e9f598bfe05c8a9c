"""Image scores as files: those of a run, those of a search's best runs, and their average.

Shape shorthand: N images, C classes. Scores are probabilities in [0, 1].
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.files import read_json
from mammo_d2.evaluation.files.results import IMAGE_SCORES_FILE, ResultsError

#: What a search leaves in its folder: a list of its best trials, {"folder", "value"}, best first.
TOP_FILE = "top.json"

# Where a run's folder may have its image scores, nearest first.
_PLACES = (IMAGE_SCORES_FILE, f"inference/*/{IMAGE_SCORES_FILE}", f"*/inference/*/{IMAGE_SCORES_FILE}")


@dataclass(frozen=True)
class ImageScores:
    """Scores of images.

    Attributes:
        source: the file, or what they were made from; for messages.
        ids: N image ids, unique.
        classes: C class names.
        values: (N, C) float64 in [0, 1].
    """

    source: str
    ids: tuple[Hashable, ...]
    classes: tuple[str, ...]
    values: np.ndarray

    def entries(self) -> list[dict[str, Any]]:
        """As they are written: [{"image_id", "scores": {class: p}}]."""
        return [
            {"image_id": image_id, "scores": dict(zip(self.classes, row, strict=True))}
            for image_id, row in zip(self.ids, self.values.tolist(), strict=True)
        ]

    def arranged(self, ids: Sequence[Hashable], classes: Sequence[str], wanted: str) -> np.ndarray:
        """(N, C) values in the order of these images and classes.

        Args:
            ids: the same as these scores', in any order.
            classes: some of these scores'.
            wanted: where they come from, for the message.

        Raises:
            ResultsError: an image that only one side has, or a class without scores.
        """
        unscored = [name for name in classes if name not in self.classes]
        if unscored:
            raise ResultsError(
                f"{self.source}: no scores of class {unscored[0]!r}, which {wanted} has; it scores "
                f"{', '.join(self.classes)}: evaluate those classes only, or name results of the same classes"
            )
        rows = {image_id: row for row, image_id in enumerate(self.ids)}
        missing = [image_id for image_id in ids if image_id not in rows]
        if missing or len(ids) != len(rows):
            known = set(ids)
            extra = [image_id for image_id in self.ids if image_id not in known]
            what = f"no score for {some_of(missing)}" if missing else f"scores for {some_of(extra)}"
            raise ResultsError(
                f"{self.source}: image_id: {what}, unlike {wanted}; name results on the same images, with ids of the "
                "same type"
            )
        order = [rows[image_id] for image_id in ids]
        return self.values[order][:, [self.classes.index(name) for name in classes]]


def read_image_scores(path: str | os.PathLike) -> ImageScores:
    """Read ``image_scores.json`` as the evaluator "image" writes it.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: not such a file; an image that is there twice; images with different classes; a score that is no
            number in [0, 1]. The message names the entry.
    """
    path = Path(path)
    content = read_json(path, error=ResultsError)
    if not isinstance(content, list) or not content:
        raise ResultsError(f'{path}: image scores are a list of {{"image_id", "scores": {{class: p}}}}, with one image')
    ids: dict[Hashable, int] = {}
    classes: tuple[str, ...] = ()
    rows = []
    for number, entry in enumerate(content):
        where = f"{path}: entry {number}"
        scores = entry.get("scores") if isinstance(entry, Mapping) else None
        image_id = entry.get("image_id") if isinstance(entry, Mapping) else None
        if (
            isinstance(image_id, bool)
            or not isinstance(image_id, (int, str))
            or not isinstance(scores, Mapping)
            or not scores
        ):
            raise ResultsError(f"{where}: {entry!r:.80} must have an image_id and scores {{class: p}}; evaluate again")
        if image_id in ids:
            raise ResultsError(f"{where}: image_id {image_id!r} is there twice (entry {ids[image_id]}); remove one")
        classes = classes or tuple(scores)
        if set(scores) != set(classes):
            raise ResultsError(
                f"{where}: scores of the classes {', '.join(scores)}, entry 0 has {', '.join(classes)}; every image "
                "needs a score of every class"
            )
        ids[image_id] = number
        rows.append([probability(scores[name], f"{where}: scores: {name}") for name in classes])
    return ImageScores(str(path), tuple(ids), classes, np.array(rows, float))


def probability(value: Any, where: str) -> float:
    """A number in [0, 1].

    Raises:
        ResultsError: it is none; ``where`` begins the message.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ResultsError(f"{where} {value!r} must be a probability between 0 and 1")
    return float(value)


def find_image_scores(place: str | os.PathLike, dataset: str = "") -> Path:
    """The scores file of a run's output folder or of a folder of ``inference``; a file is returned as it is.

    Args:
        place: the file or folder.
        dataset: name of the data set, for a run that was evaluated on several.

    Raises:
        FileNotFoundError: no such file or folder, or none with image scores.
        ResultsError: scores of several data sets.
    """
    place = Path(place)
    if place.is_file():
        return place
    if not place.is_dir():
        raise FileNotFoundError(
            f"{place}: no such file or folder; name a run's output folder or its {IMAGE_SCORES_FILE}"
        )
    for pattern in _PLACES:
        found = sorted(path for path in place.glob(pattern) if not dataset or path.parent.name == dataset)
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(place).parent) for path in found)
            raise ResultsError(f"{place}: image scores in {names}; choose a data set with --dataset, or name the file")
        if found:
            return found[0]
    of = f" of data set {dataset!r}" if dataset else ""
    raise FileNotFoundError(
        f"{place}: no {IMAGE_SCORES_FILE}{of} in it; evaluate the run with 'image' among TEST.EVALUATORS"
    )


def top_runs(folder: str | os.PathLike, count: int) -> list[Path]:
    """Output folders of a search's best trials, best first.

    Args:
        folder: of the search, with ``TOP_FILE``. Relative folders in it start there, or in the working directory.
        count: how many.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: not such a list, fewer trials than asked for, or a trial whose folder is gone.
    """
    path = Path(folder) / TOP_FILE
    if count < 1:
        raise ResultsError(f"--top {count} must be at least 1")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name the folder of a finished search")
    trials = read_json(path, error=ResultsError)
    if not isinstance(trials, list) or len(trials) < count:
        has = len(trials) if isinstance(trials, list) else f"no list but {trials!r:.40}"
        raise ResultsError(f"{path}: {count} trials are asked for, it has {has}; lower --top or search on")
    runs = []
    for number, trial in enumerate(trials[:count]):
        name = trial.get("folder") if isinstance(trial, Mapping) else None
        if not isinstance(name, str) or not name:
            raise ResultsError(f'{path}: entry {number}: {trial!r:.80} must have a "folder", that of the trial\'s run')
        places = [place for place in (Path(folder) / name, Path(name)) if place.is_dir()]
        if not places:
            raise ResultsError(f"{path}: entry {number}: folder {name!r} does not exist; was the search moved?")
        runs.append(places[0])
    return runs


def average_scores(members: Sequence[ImageScores]) -> ImageScores:
    """Mean of the probabilities, image by image and class by class.

    Args:
        members: at least one; of the same images and classes, in any order.

    Raises:
        ResultsError: no member, the same file twice, or different images or classes.

    Source:
        Shen et al., MLMI 2019, section 3.2 (the five best models).
    """
    if not members:
        raise ResultsError("nothing to average: name runs or files, or a search with --search")
    sources = [os.path.realpath(member.source) for member in members]
    for number, source in enumerate(sources):
        if source in sources[:number]:
            raise ResultsError(f"{members[number].source}: is named twice; every member counts once")
    first = members[0]
    for member in members[1:]:
        first.arranged(first.ids, member.classes, member.source)  # a class that the first lacks is an error too
    values = np.mean([member.arranged(first.ids, first.classes, first.source) for member in members], axis=0)
    source = f"mean of {len(members)}" if len(members) > 1 else first.source
    return ImageScores(source, first.ids, first.classes, values)


def some_of(ids: Sequence[Hashable]) -> str:
    """Count of images, with the first ids."""
    shown = ", ".join(repr(image_id) for image_id in ids[:3])
    return f"{len(ids)} image(s): {shown}{' ...' if len(ids) > 3 else ''}"
