"""The export: results and their DICOM files to DICOM objects in a folder."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mammo_d2.core.boxes import clip_boxes
from mammo_d2.core.files import atomic_write
from mammo_d2.inference.dicom_export.box_presentation import box_presentation
from mammo_d2.inference.dicom_export.cad_report import cad_report
from mammo_d2.inference.dicom_export.coded_findings import ExportFacts, write_object
from mammo_d2.inference.dicom_export.measurement_report import measurement_report
from mammo_d2.inference.dicom_export.result_images import ResultImage
from mammo_d2.inference.dicom_export.saliency_segmentation import saliency_segmentation
from mammo_d2.inference.dicom_export.source_instances import SourceFinder, SourceInstance
from mammo_d2.inference.result_files import ERROR_COLUMNS, ERROR_FILE
from mammo_d2.pictures.saliency_maps import find_saliency, read_saliency

#: What can be written: measurement report, mammography CAD report, segmentation, presentation state.
KINDS = ("sr", "cad", "seg", "gsps")
OBJECT_FILE = "objects.csv"
OBJECT_COLUMNS = ("object", "kind", "sop_instance_uid", "sources")

Pair = tuple[ResultImage, SourceInstance]


@dataclass
class ExportOutcome:
    """What an export did.

    Attributes:
        written: objects by kind.
        images: images with a source.
        problems: (image, problem) of images without.
        warnings: (image, what a person should know).
    """

    written: Counter[str] = field(default_factory=Counter)
    images: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


def export_objects(
    images: Sequence[ResultImage],
    finder: SourceFinder,
    facts: ExportFacts,
    folder: Path,
    kinds: Sequence[str],
    *,
    saliency: Path | None = None,
    strict: bool = False,
) -> ExportOutcome:
    """Write the DICOM objects of results, ``objects.csv`` and ``errors.csv``.

    A study gives one report (``sr``, ``cad``), an image one presentation state if it has boxes, and one segmentation
    if it has saliency maps.

    Args:
        images: the results.
        finder: of their files.
        facts: who made them, and when.
        folder: where to write.
        kinds: of ``KINDS``.
        saliency: folder of results with saliency maps.
        strict: raise the first image's problem.

    Raises:
        FileNotFoundError, ValueError: with ``strict``, an image without a usable source.
    """
    outcome = ExportOutcome()
    studies: dict[str, list[Pair]] = {}
    for image, source in _with_sources(images, finder, outcome, strict):
        studies.setdefault(source.header.StudyInstanceUID, []).append((image, source))
        outcome.images += 1
    with atomic_write(folder / OBJECT_FILE, "w") as stream:
        table = csv.DictWriter(stream, OBJECT_COLUMNS, lineterminator="\n")
        table.writeheader()
        for number, pairs in enumerate(studies.values(), start=1):
            for row in _study(number, pairs, facts, folder, kinds, saliency, outcome):
                outcome.written[row["kind"]] += 1
                table.writerow(row)
    with atomic_write(folder / ERROR_FILE, "w") as stream:
        errors = csv.writer(stream, lineterminator="\n")
        errors.writerow(ERROR_COLUMNS)
        errors.writerows(("error", *problem) for problem in outcome.problems)
        errors.writerows(("warning", *warning) for warning in outcome.warnings)
    return outcome


def _with_sources(
    images: Sequence[ResultImage], finder: SourceFinder, outcome: ExportOutcome, strict: bool
) -> Iterator[Pair]:
    """Images with their sources, boxes clipped to them; each instance once."""
    names: dict[tuple[str, int | None], str] = {}
    for image in images:
        try:
            source = finder.find(image)
            first = names.setdefault((source.header.SOPInstanceUID, source.frame), image.name)
            if first != image.name:
                raise ValueError(f"{image.name}: is the same image (SOP instance) as {first}; export it once")
        except (OSError, ValueError) as error:
            if strict:
                raise
            outcome.problems.append((image.name, str(error)))
            continue
        yield _clipped(image, source, outcome), source


def _clipped(image: ResultImage, source: SourceInstance, outcome: ExportOutcome) -> ResultImage:
    """DICOM has no points outside of an image."""
    boxes = clip_boxes(image.boxes.reshape(-1, 4), source.size)
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not inside.all():
        count = int((~inside).sum())
        outcome.warnings.append((image.name, f"{count} boxes without an area in the image are left out"))
    labels = tuple(label for label, keep in zip(image.labels, inside, strict=True) if keep)
    return replace(image, boxes=boxes[inside], scores=image.scores[inside], labels=labels)


def _study(
    number: int, pairs: Sequence[Pair], facts: ExportFacts, folder: Path, kinds: Sequence[str],
    saliency: Path | None, outcome: ExportOutcome,
) -> Iterator[Mapping[str, Any]]:  # fmt: skip
    """Write the objects of a study, and yield a row of the table for each."""
    headers = [source.header for _, source in pairs]
    files = [source.path for _, source in pairs]
    reports = {"sr": (measurement_report, "Boxes and scores"), "cad": (cad_report, "CAD")}
    for kind, (make, title) in reports.items():
        if kind in kinds:
            report = make(pairs, facts, number)
            path = folder / f"exam_{number:04d}_{kind}.dcm"
            yield _row(write_object(path, report, facts, headers[0], title), kind, report, files)
    for image, source in pairs:
        name = f"image_{image.number:05d}"
        if "gsps" in kinds and len(image.boxes):
            state = box_presentation(image, source, facts, image.number)
            path = write_object(folder / f"{name}_gsps.dcm", state, facts, source.header, "Boxes")
            yield _row(path, "gsps", state, [source.path])
        maps = find_saliency(saliency, image.number) if "seg" in kinds and saliency is not None else None
        if maps is not None:
            content = read_saliency(maps)
            if content.transform.source_size != source.size:
                outcome.warnings.append((image.name, f"{maps}: is of a file of another size; left out"))
                continue
            result = saliency_segmentation(content.on_source(), content.classes, source, facts, image.number)
            path = write_object(folder / f"{name}_seg.dcm", result, facts, source.header, "Saliency")
            yield _row(path, "seg", result, [source.path])


def _row(path: Path, kind: str, made: Any, sources: Sequence[str]) -> dict[str, Any]:
    uid = made.SOPInstanceUID
    return {"object": path.name, "kind": kind, "sop_instance_uid": uid, "sources": "; ".join(sources)}
