"""Pictures of an evaluation as blocks of the report: weak localisation, lesions; or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mammo_d2.engine.run_files.run_results import DatasetResult
from mammo_d2.evaluation.evaluators.registered import froc_rule_from_config
from mammo_d2.evaluation.files.results import LESION_SCORES_FILE
from mammo_d2.framework import CfgNode, MetadataCatalog
from mammo_d2.report.html import Block, Note, Text
from mammo_d2.report.lesion_pictures import MAX_WINDOWS, lesion_pictures
from mammo_d2.report.localization import localization_pictures
from mammo_d2.report.run_blocks import PictureFolder, groups_of, picture_blocks
from mammo_d2.report.shown_images import evaluation_data


def localization_blocks(
    cfg: CfgNode, result: DatasetResult, records: Sequence[dict[str, Any]] | str, folder: PictureFolder, place: str
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
    records: Sequence[dict[str, Any]] | str,
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
