"""What the viewer shows of a run: the images of its evaluations, with boxes, regions, maps and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.engine.run_files.run_results import DatasetResult
from mammo_d2.evaluation.evaluators.registered import froc_rule_from_config
from mammo_d2.evaluation.files.image_scores import read_image_scores
from mammo_d2.framework import CfgNode, MetadataCatalog
from mammo_d2.report.html import Block, Note
from mammo_d2.report.shown_images import evaluation_data
from mammo_d2.report.viewer.viewed_data import MAX_SYSTEMS, SystemOutput, ViewedDataset


def viewed_datasets(
    cfg: CfgNode,
    results: Sequence[tuple[str, DatasetResult]],
    records: Mapping[str, Sequence[dict[str, Any]] | str],
) -> tuple[list[ViewedDataset], list[Block]]:
    """The evaluated data sets of a run, each once, and notes on what is missing.

    Args:
        cfg: the run's.
        results: evaluations, with a name where a data set has several.
        records: of each data set, or why there are none.
    """
    found: dict[str, list[SystemOutput]] = {}
    notes: list[Block] = []
    for name, result in results:
        known = records[result.name]
        if isinstance(known, str):
            notes.append(Note(f"No images of {result.name}: {known}"))
            continue
        systems = found.setdefault(result.name, [])
        try:
            systems += system_outputs(name, result, known)
        except (OSError, ValueError) as error:
            notes.append(Note(f"{result.name} is shown without predictions: {error}"))
    datasets = []
    for dataset, systems in found.items():
        if len(systems) > MAX_SYSTEMS:
            left_out = ", ".join(system.name for system in systems[MAX_SYSTEMS:])
            notes.append(Note(f"{dataset} is shown without {left_out}: at most {MAX_SYSTEMS} fit side by side."))
        classes = MetadataCatalog.get(dataset).thing_classes
        rule, threshold = froc_rule_from_config(cfg), cfg.TEST.PATIENT.THRESHOLD
        shown = [record for record in records[dataset] if isinstance(record, dict)]
        datasets.append(ViewedDataset(dataset, shown, classes, systems[:MAX_SYSTEMS], rule, threshold))
    return datasets, notes


def system_outputs(name: str, result: DatasetResult, records: Sequence[Mapping[str, Any]]) -> list[SystemOutput]:
    """What an evaluation gave: its boxes, best regions and scored lesions; image scores and maps with each.

    Args:
        name: of the evaluation; may be empty.
        result: its files.
        records: of the data set.

    Raises:
        FileNotFoundError, ValueError: damaged files, or those of other images.
    """
    metadata = MetadataCatalog.get(result.name)
    classes, class_of = metadata.thing_classes, metadata.thing_dataset_id_to_contiguous_id
    scores = None
    if result.image_scores is not None:
        scores = scores_of_images(result, records, classes)
    maps = [result.maps] * len(records) if result.maps is not None else []
    kinds = {"boxes": result.predictions, "best regions": result.regions}
    systems = []
    for kind, entries in kinds.items():
        if entries:
            detections = evaluation_data(records, classes, entries, class_of).detections
            systems.append(SystemOutput(f"{name}: {kind}" if name else kind, detections, scores, maps))
    if result.lesions:
        given: dict[Any, list[tuple[list[float], float]]] = {}
        for entry in result.lesions:
            given.setdefault(entry["image_id"], []).append((entry["bbox"], entry["malignancy"]))
        systems.append(SystemOutput(name or "malignancy of lesions", None, scores, maps, given=given))
    if not systems and (scores is not None or maps):
        systems.append(SystemOutput(name or "image scores", None, scores, maps))
    return systems


def run_name(folder: Path) -> str:
    """Name of a run in a comparison: its folder's."""
    return folder.resolve().name


def beside_each_other(
    name: str, datasets: Sequence[ViewedDataset], others: Sequence[tuple[str, Sequence[ViewedDataset]]]
) -> list[ViewedDataset]:
    """Data sets of a run with the systems of other runs, each named by its run. Boxes count by the first run's rule.

    Args:
        name: of the run.
        datasets: its own.
        others: names of other runs and their data sets.

    Raises:
        ValueError: two runs of one name, or a run without one of the data sets, or with other images or classes.
    """
    names = [name, *(other for other, _ in others)]
    if len(set(names)) < len(names):
        raise ValueError(
            f"runs beside each other have one name: {', '.join(names)}; their folders need different names"
        )
    joined = []
    for dataset in datasets:
        systems = _named(name, dataset.systems)
        ids = [record["image_id"] for record in dataset.records]
        for other, of_other in others:
            found = next((candidate for candidate in of_other if candidate.name == dataset.name), None)
            if found is None:
                raise ValueError(f"{other}: no evaluation on {dataset.name}, which {name} has; evaluate it there")
            same = [record["image_id"] for record in found.records] == ids
            if not same or list(found.classes) != list(dataset.classes):
                raise ValueError(f"{other}: other images or classes on {dataset.name} than {name}; compare equal data")
            systems += _named(other, found.systems)
        joined.append(replace(dataset, systems=systems))
    return joined


def _named(run: str, systems: Sequence[SystemOutput]) -> list[SystemOutput]:
    """Systems with their run's name; alone where there is one."""
    return [replace(system, name=run if len(systems) == 1 else f"{run}: {system.name}") for system in systems]


def scores_of_images(
    result: DatasetResult, records: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> np.ndarray | None:
    """(N, C) image scores of the detection classes, NaN of a class without; None if no class has any.

    Raises:
        FileNotFoundError, ResultsError: a damaged file, or one of other images.
    """
    assert result.image_scores is not None
    scores = read_image_scores(result.image_scores)
    known = [name for name in classes if name in scores.classes]
    if not known:
        return None
    table = np.full((len(records), len(classes)), np.nan)
    ids = [record["image_id"] for record in records]
    table[:, [classes.index(name) for name in known]] = scores.arranged(ids, known, result.name)
    return table
