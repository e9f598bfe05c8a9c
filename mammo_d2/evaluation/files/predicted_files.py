"""predictions.json of mammo-d2 predict as results on a ground truth: each file is matched with an image."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mammo_d2.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.files import read_json, sha256_file
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.evaluation.files.field_checks import (
    category_names,
    check_box,
    check_id,
    is_number,
    require_fields,
    shown,
)
from mammo_d2.evaluation.files.results import ResultsError

# A predicted file is an image of the ground truth itself, or the source that the image was prepared from.
_PREPARED, _SOURCE = "prepared", "source"


@dataclass(frozen=True)
class Predicted:
    """Predictions on files, matched with the images of a ground truth.

    Attributes:
        entries: as COCO results, with a name in ``category_id``.
        image_scores: {class: score} by image id.
        notes: what was left out, with its count.
    """

    entries: list[dict[str, Any]]
    image_scores: Mapping[Hashable, Mapping[str, float]]
    notes: Mapping[str, int]


def read_predicted(path: str | os.PathLike, ground_truth: str | os.PathLike) -> Predicted:
    """Read predictions on files as predictions on the images of a ground truth.

    A file matches an image if its path ends with the image's path or the other way round, for the prepared image
    (``file_name``) or its source file (``source``), or if its content is that of the source file. Boxes are given in
    pixels of the prepared image.

    Args:
        path: ``predictions.json``.
        ground_truth: COCO JSON; its images' ``source`` and ``transform`` are used where they are.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: not such a file; no image of the ground truth among those predicted; a file that may be several
            images, that is not the size of its image, or two files of one image.
    """
    path = Path(path)
    content, images = read_json(path, error=ResultsError), read_json(ground_truth, error=ResultsError)["images"]
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ResultsError(f"{path}: neither COCO results (a list) nor predictions.json of mammo-d2 predict")
    for number, image in enumerate(content["images"]):
        _check_predicted_image(image, f"{path}: images[{number}]")
    predicted_ids = [image["id"] for image in content["images"]]
    if len(set(predicted_ids)) < len(predicted_ids):
        raise ResultsError(f"{path}: an id of its images is there twice; image ids must be unique")
    finder = _Finder(images, str(path), str(ground_truth))
    names = category_names(content["categories"], str(path))
    known = set(predicted_ids)
    found: dict[Any, tuple[Hashable, ImageTransform | None]] = {}
    scores: dict[Hashable, dict[str, float]] = {}
    for predicted in content["images"]:
        place = finder.find(predicted)
        if place is None:
            continue
        found[predicted["id"]] = place
        if place[0] in scores:
            raise ResultsError(
                f"{path}: {predicted['file_name']} is image {place[0]!r} of {ground_truth}, and so is a file before; "
                "predict every image once"
            )
        scores[place[0]] = predicted.get("image_scores") or {}
    if not found:
        raise ResultsError(
            f"{path}: none of its {len(content['images'])} files"
            f"{_example(content['images'])} is an image of {ground_truth}{_example(images)}; predict the images that "
            "the ground truth names, or the files that they were prepared from"
        )
    entries = []
    for number, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        require_fields(annotation, ("image_id", "category_id", "bbox"), where)
        if "score" not in annotation:
            raise ResultsError(f"{path}: annotation {annotation.get('id')!r} has no score; is it a ground truth?")
        check_id(annotation["image_id"], where, "image_id")
        if annotation["image_id"] not in known:
            raise ResultsError(f"{where}: image_id {annotation['image_id']!r} is not among its images")
        category_id = annotation["category_id"]
        if isinstance(category_id, bool) or not isinstance(category_id, int) or category_id not in names:
            raise ResultsError(f"{where}: category_id {shown(category_id)} is not among its categories")
        check_box(annotation["bbox"], where)
        if annotation["image_id"] in found:
            image_id, transform = found[annotation["image_id"]]
            box = annotation["bbox"]
            if transform is not None:
                box = xyxy_to_xywh(transform.boxes_to_prepared(xywh_to_xyxy(box))).tolist()
            name = names[annotation["category_id"]]
            entries.append({"image_id": image_id, "category_id": name, "bbox": box, "score": annotation["score"]})
    counts = {
        "predicted files that are not in the ground truth (left out)": len(content["images"]) - len(found),
        "images without prediction (counted as without boxes)": len(images) - len(found),
    }
    return Predicted(entries, scores, {note: count for note, count in counts.items() if count})


def _check_predicted_image(image: Any, where: str) -> None:
    """Raise unless it has an id, a file name, a size, and numbers as ``image_scores`` where it has those."""
    require_fields(image, ("id",), where)
    check_id(image["id"], where)
    if "file_name" not in image:
        raise ResultsError(f"{where}: image {image['id']!r} has no file_name; is it a ground truth?")
    require_fields(image, ("height", "width"), where)
    if not isinstance(image["file_name"], str) or not Path(image["file_name"]).name:
        raise ResultsError(f"{where}: file_name {shown(image['file_name'])} must be the path of a file")
    scores = image.get("image_scores")
    if not isinstance(scores, (Mapping, type(None))):
        raise ResultsError(f"{where}: image_scores {shown(scores)} must be an object {{class: score}}")
    for name, score in (scores or {}).items():
        if score is not None and not is_number(score):
            raise ResultsError(f"{where}: image_scores: {name} {shown(score)} must be a finite number, or null")


class _Finder:
    """Matches predicted files with images of a ground truth."""

    def __init__(self, images: Sequence[Mapping[str, Any]], path: str, ground_truth: str):
        self._path, self._ground_truth = path, ground_truth
        self._by_name: dict[str, list[tuple[str, tuple[str, ...], Mapping[str, Any]]]] = {}
        self._by_content: dict[str, Mapping[str, Any]] = {}
        for number, image in enumerate(images):
            where = f"{ground_truth}: images[{number}]"
            require_fields(image, ("id", "height", "width"), where)
            source = image.get("source") or {}
            for place, name in (("file_name", image.get("file_name")), ("source: file", source.get("file"))):
                if name and not (isinstance(name, str) and PurePosixPath(name).name):
                    raise ResultsError(f"{where}: {place} {shown(name)} must be the path of a file")
            for kind, name in ((_PREPARED, image.get("file_name")), (_SOURCE, source.get("file"))):
                if name:
                    parts = PurePosixPath(str(name)).parts
                    self._by_name.setdefault(parts[-1], []).append((kind, parts, image))
            if isinstance(source.get("sha256"), str):
                self._by_content[source["sha256"]] = image

    def find(self, predicted: Mapping[str, Any]) -> tuple[Hashable, ImageTransform | None] | None:
        """Id of the image, and the transform to its pixels if the file is its source; None if no image matches."""
        parts = Path(str(predicted["file_name"])).parts
        near = [(kind, image) for kind, named, image in self._by_name.get(parts[-1], []) if same_end(parts, named)]
        if not near:
            same = self._by_content.get(self._content(predicted))
            near = [] if same is None else [(_SOURCE, same)]
        if not near:
            return None
        if len({image["id"] for _, image in near}) > 1:
            ids = ", ".join(repr(image["id"]) for _, image in near[:3])
            raise ResultsError(
                f"{self._path}: {predicted['file_name']} may be images {ids} of {self._ground_truth}; predict files "
                "with more of their path (from another folder)"
            )
        image = near[0][1]
        transform = ImageTransform.from_dict(image.get("transform"), (image["height"], image["width"]))
        sizes = {_PREPARED: (image["height"], image["width"]), _SOURCE: transform.source_size}
        size = (predicted["height"], predicted["width"])
        kinds = {kind for kind, _ in near if sizes[kind] == size}
        if not kinds:
            raise ResultsError(
                f"{self._path}: {predicted['file_name']} has (rows, columns) {size}, image {image['id']!r} of "
                f"{self._ground_truth} has {sizes[_PREPARED]}, prepared from {sizes[_SOURCE]}; predict again the files "
                "that the data set has now"
            )
        if transform.is_identity:
            return image["id"], None
        if len(kinds) > 1:
            kinds = {_SOURCE if self._by_content.get(self._content(predicted)) is image else _PREPARED}
        return image["id"], transform if kinds == {_SOURCE} else None

    def _content(self, predicted: Mapping[str, Any]) -> str:
        """Digest of the file; empty if the file is gone or the ground truth has no digests."""
        file = Path(str(predicted["file_name"]))
        return sha256_file(file) if self._by_content and file.is_file() else ""


def same_end(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the shorter of two paths is the end of the other."""
    length = min(len(first), len(second))
    return tuple(first[-length:]) == tuple(second[-length:])


def _example(images: Sequence[Mapping[str, Any]]) -> str:
    return f" ({images[0].get('file_name')}, ...)" if images else ""
