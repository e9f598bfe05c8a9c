"""Pictures of an evaluation as blocks of the report: examples, weak localisation, lesions; or why there are none."""

from __future__ import annotations

import math
from typing import Any

from mammo_d2.engine.run_results import DatasetResult
from mammo_d2.evaluation.evaluators.registered import froc_rule_from_config
from mammo_d2.evaluation.files.results import LESION_SCORES_FILE
from mammo_d2.framework import CfgNode, MetadataCatalog
from mammo_d2.report.gallery import choose_examples, evaluation_data, gallery_blocks
from mammo_d2.report.html import Block, Note, Text
from mammo_d2.report.lesion_pictures import MAX_WINDOWS, lesion_pictures
from mammo_d2.report.localization import localization_pictures
from mammo_d2.report.run_blocks import PictureFolder, groups_of, picture_blocks

# The gallery shows what is accepted at about this many false positives per image.
_GALLERY_RATE = 1.0


def example_blocks(cfg: CfgNode, result: DatasetResult, records: list[dict[str, Any]] | str) -> list[Block]:
    """Lesions found and missed, and false positives, at an operating point.

    Args:
        cfg: the run's.
        result: with ``predictions``.
        records: of the data set, or why there are none.
    """
    if isinstance(records, str):
        return [Note(f"No examples: {records}")]
    metadata = MetadataCatalog.get(result.name)
    classes, class_of = metadata.thing_classes, metadata.thing_dataset_id_to_contiguous_id
    rule = froc_rule_from_config(cfg).hit
    chosen = [_operating_point(result, name, cfg.TEST.PATIENT.THRESHOLD) for name in classes]
    thresholds = [threshold for threshold, _ in chosen]
    try:
        data = evaluation_data(records, classes, result.predictions or [], class_of)
        examples = choose_examples(data, rule, thresholds)
    except ValueError as error:
        return [Note(f"No examples: {error}")]
    accepted = ", ".join(
        f"{name} {threshold:.3g} ({why})" for name, (threshold, why) in zip(classes, chosen, strict=True)
    )
    words = (
        "Truth in green, predictions in orange with their score. A lesion counts as found if a box of its class hits "
        f"it ({rule}) with at least the score {accepted}. Boxes of lower scores are drawn only where the picture is "
        "about them."
    )
    return [Text(words), *gallery_blocks(records, data, examples, thresholds)]


def localization_blocks(
    cfg: CfgNode, result: DatasetResult, records: list[dict[str, Any]] | str, folder: PictureFolder, place: str
) -> list[Block]:
    """The best regions of images that are spread over the data set.

    Args:
        cfg: the run's.
        result: with ``regions``.
        records: of the data set, or why there are none.
        folder: where the pictures are also written, in its sub-folder ``place``.
    """
    if isinstance(records, str):
        folder.none_of(place, records)
        return [Note(f"No pictures: {records}")]
    metadata = MetadataCatalog.get(result.name)
    rule, top = froc_rule_from_config(cfg).hit, cfg.TEST.REGIONS.TOP
    try:
        data = evaluation_data(
            records, metadata.thing_classes, result.regions or [], metadata.thing_dataset_id_to_contiguous_id
        )
        pictures, problems = localization_pictures(
            records, data, rule, result.maps, top=top, limit=cfg.TEST.REGIONS.PICTURES
        )
    except ValueError as error:
        folder.none_of(place, str(error))
        return [Note(f"No pictures: {error}")]
    words = (
        f"The best {top} regions of each class with their scores, over images spread evenly over the data set whatever "
        f"was predicted on them; lesions in green. A region hits a lesion of its class if {rule}."
    )
    if result.maps is not None:
        words += " Beside them the response of each class: where it is pale, the model sees little."
    titles = {
        group: f"Images {'with ' if group in data.images.classes else ''}{group}" for group in groups_of(pictures)
    }
    folder.write(place, pictures, problems)
    return [Text(words), *picture_blocks(pictures, titles), *(Note(problem) for problem in problems)]


def lesion_blocks(
    cfg: CfgNode,
    result: DatasetResult,
    records: list[dict[str, Any]] | str,
    folder: PictureFolder,
    place: str,
    again: str,
) -> list[Block]:
    """Lesions with the windows that are classified.

    Args:
        records, folder, place: see ``localization_blocks``.
        again: the command that repeats the evaluation.
    """
    try:
        if result.lesions is None:
            command = f"{again} DATASETS.TEST \"['{result.name}']\""
            raise ValueError(f"there is no {LESION_SCORES_FILE}; {command} writes it")
        if isinstance(records, str):
            raise ValueError(records)
        pictures, problems = lesion_pictures(records, result.lesions, cfg.TEST.LESION.PICTURES)
    except ValueError as error:
        folder.none_of(place, str(error))
        return [Note(f"No pictures: {error}")]
    words = (
        "Malignant lesions, then benign ones, each from the highest malignancy to the lowest, evenly spread over all "
        "lesions. A picture shows one view; the metrics use a lesion's mean over its views. The lesion is framed in "
        f"green. At most {MAX_WINDOWS} of its windows are drawn, from the least malignant to the most."
    )
    titles = {"malignant": "Malignant lesions", "benign": "Benign lesions"}
    folder.write(place, pictures, problems)
    return [Text(words), *picture_blocks(pictures, titles), *(Note(problem) for problem in problems)]


def _operating_point(result: DatasetResult, name: str, default: float) -> tuple[float, str]:
    """Lowest accepted score of a class, and where it is from: the reported rate nearest to ``_GALLERY_RATE`` at which
    any box is accepted."""
    numbers = result.tasks["froc"].numbers if "froc" in result.tasks else {}
    start = f"{name}/threshold@"
    at_rate = {float(key.removeprefix(start)): value for key, value in numbers.items() if key.startswith(start)}
    usable = [rate for rate, value in at_rate.items() if math.isfinite(value)]
    if not usable:
        return default, "TEST.PATIENT.THRESHOLD"
    rate = min(usable, key=lambda rate: abs(rate - _GALLERY_RATE))
    return at_rate[rate], f"the threshold at {rate:g} false positives per image"
