"""What a training predicted on its test images, read back from the files of its evaluation.

Files of ``inference/<data set>``, each as far as it is there: boxes (evaluators "coco" and "froc"), image scores
("image"), best regions ("regions"), saliency numbers per image ("saliency"), lesion scores ("lesion").
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.core.files import read_json
from mammo_d2.core.lesion_classes import lesion_pathology
from mammo_d2.evaluation.files.box_tables import load_image_scores
from mammo_d2.evaluation.files.coco_files import GroundTruth, load_ground_truth
from mammo_d2.evaluation.files.detection_files import load_detections
from mammo_d2.evaluation.files.results import (
    IMAGE_SCORES_FILE,
    LESION_SCORES_FILE,
    REGIONS_FILE,
    RESULTS_FILE,
    ResultsError,
)
from mammo_d2.evaluation.metrics.scores.levels import LevelCases, aggregate_truth, combine_truth
from mammo_d2.evaluation.metrics.tables import DetectionTable, ImageTable, LesionTable, dense_groups
from mammo_d2.framework import CfgNode

SALIENCY_FILE = "saliency.json"
SALIENCY_KEYS = ("precision", "recall", "f1", "pointing")
#: Files of an evaluation that comparisons are made from.
PREDICTION_FILES = (RESULTS_FILE, IMAGE_SCORES_FILE, REGIONS_FILE, SALIENCY_FILE, LESION_SCORES_FILE)


@dataclass(frozen=True)
class Findings:
    """Boxes of the ground truth: ``boxes`` (G, 4) XYXY, ``image`` (G,) rows, ``malignant`` (G,) in {0, 1}."""

    boxes: np.ndarray
    image: np.ndarray
    malignant: np.ndarray


@dataclass(frozen=True)
class Predictions:
    """Test images with what was predicted on them; several folds may be joined.

    Attributes:
        source: the folder, for messages.
        images, lesions: ground truth, N images.
        boxes, regions: detections; None where they were not written.
        image_scores: (N, C); None likewise.
        saliency: by class (4, N) numbers of ``SALIENCY_KEYS``, NaN for images without a finding.
        lesion_cases: given lesions with their malignancy; None likewise.
        fold: (N,) fold of each image.
        findings: all boxes that are known to be benign or malignant, whatever the classes; None where they were not
            asked for.
    """

    source: str
    images: ImageTable
    lesions: LesionTable
    boxes: DetectionTable | None
    regions: DetectionTable | None
    image_scores: np.ndarray | None
    saliency: dict[str, np.ndarray]
    lesion_cases: LevelCases | None
    fold: np.ndarray
    findings: Findings | None = None

    @property
    def patients(self) -> int:
        return int(self.images.patient.max(initial=-1)) + 1

    def strata(self) -> np.ndarray:
        """(M,) stratum of each patient: the fold, and whether any class is shown, not shown or unknown."""
        truth = combine_truth(self.images.truth)
        fold = np.zeros(self.patients, np.int64)
        fold[self.images.patient] = self.fold
        return 3 * fold + np.nan_to_num(aggregate_truth(truth, self.images.patient), nan=2.0)


def part_of_fold(found: Predictions, fold: int) -> Predictions:
    """The images of one fold out of joined ones; patients, exams and breasts keep their numbers."""
    rows = np.flatnonzero(found.fold == fold)
    place = np.full(len(found.images), -1, np.int64)
    place[rows] = np.arange(len(rows))
    images = found.images
    columns = {
        name: getattr(images, name)[rows]
        for name in ("patient", "exam", "breast", "truth", "size", "spacing", "patient_known")
    }

    def moved(table: Any) -> Any:
        """A table of boxes with the rows of the fold's images."""
        if table is None:
            return None
        kept = table.take(place[table.image] >= 0)
        return replace(kept, image=place[kept.image])

    cases, findings = found.lesion_cases, found.findings
    patients = np.unique(columns["patient"])
    if cases is not None:
        mine = np.isin(cases.patient, patients)
        cases = LevelCases(cases.truth[mine], cases.scores[mine], cases.patient[mine], 0)
    if findings is not None:
        here = place[findings.image] >= 0
        findings = Findings(findings.boxes[here], place[findings.image[here]], findings.malignant[here])
    return replace(
        found,
        images=replace(images, ids=tuple(images.ids[row] for row in rows), **columns),
        lesions=moved(found.lesions),
        boxes=moved(found.boxes),
        regions=moved(found.regions),
        image_scores=None if found.image_scores is None else found.image_scores[rows],
        saliency={name: table[:, rows] for name, table in found.saliency.items()},
        lesion_cases=cases,
        fold=found.fold[rows],
        findings=findings,
    )


def has_predictions(folder: Path) -> bool:
    """Whether an evaluation left anything to compare."""
    return any((folder / name).is_file() for name in PREDICTION_FILES)


def read_predictions(folder: Path, annotations: Path, cfg: CfgNode, by_finding: bool = False) -> Predictions:
    """Read the predictions of one evaluation.

    Args:
        folder: ``inference/<data set>``.
        annotations: COCO file of the data set.
        cfg: config of the run; DATASETS.CATEGORIES, DATASETS.MERGE_CATEGORIES and TEST.LESION.AVERAGE are used.
        by_finding: read ``findings``, and take every one of them as a lesion case by itself whatever
            TEST.LESION.AVERAGE is.

    Raises:
        ResultsError: a damaged file, or one about other images; the message names it.
    """
    truth = load_ground_truth(annotations, cfg.DATASETS.CATEGORIES, merge=cfg.DATASETS.MERGE_CATEGORIES)

    def boxes_of(name: str) -> DetectionTable | None:
        return load_detections(folder / name, truth)[0] if (folder / name).is_file() else None

    has_scores = (folder / IMAGE_SCORES_FILE).is_file()
    average = "annotation" if by_finding else cfg.TEST.LESION.AVERAGE
    has_lesions = (folder / LESION_SCORES_FILE).is_file()
    return Predictions(
        str(folder),
        truth.images,
        truth.lesions,
        boxes_of(RESULTS_FILE),
        boxes_of(REGIONS_FILE),
        load_image_scores(folder / IMAGE_SCORES_FILE, truth) if has_scores else None,
        _saliency(folder / SALIENCY_FILE, truth),
        _lesion_cases(folder / LESION_SCORES_FILE, truth, average) if has_lesions else None,
        np.zeros(len(truth.images), np.int64),
        _findings(truth) if by_finding else None,
    )


def join_folds(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of all folds as those of one test set; part i is fold i. No patient is in two folds."""
    images = [part.images for part in parts]
    starts = np.cumsum([0, *map(len, images)])[:-1]
    patients = np.cumsum([0, *(part.patients for part in parts)])[:-1]

    def groups(name: str) -> np.ndarray:
        numbers = [getattr(table, name) for table in images]
        firsts = np.cumsum([0, *(int(column.max(initial=-1)) + 1 for column in numbers)])[:-1]
        return np.concatenate([column + first for column, first in zip(numbers, firsts, strict=True)])

    joined = ImageTable(
        tuple(image_id for table in images for image_id in table.ids),
        images[0].classes,
        groups("patient"),
        groups("exam"),
        groups("breast"),
        np.concatenate([table.truth for table in images]),
        np.concatenate([table.size for table in images]),
        np.concatenate([table.spacing for table in images]),
        np.concatenate([table.patient_known for table in images]),
    )
    moved = [replace(p.lesions, image=p.lesions.image + start) for p, start in zip(parts, starts, strict=True)]
    lesions = LesionTable(*(np.concatenate([getattr(table, name) for table in moved]) for name in vars(moved[0])))

    def detections(name: str) -> DetectionTable | None:
        tables = [getattr(part, name) for part in parts]
        if any(table is None for table in tables):
            return None
        shifted = [replace(table, image=table.image + start) for table, start in zip(tables, starts, strict=True)]
        return DetectionTable(*(np.concatenate([getattr(t, column) for t in shifted]) for column in vars(shifted[0])))

    scores = [part.image_scores for part in parts]
    cases = [part.lesion_cases for part in parts]
    known = [case for case in cases if case is not None]
    lesion_cases = None
    if len(known) == len(parts):
        lesion_cases = LevelCases(
            np.concatenate([case.truth for case in known]),
            np.concatenate([case.scores for case in known]),
            np.concatenate([case.patient + first for case, first in zip(known, patients, strict=True)]),
            sum(case.unknown for case in known),
        )
    return Predictions(
        ", ".join(part.source for part in parts),
        joined,
        lesions,
        detections("boxes"),
        detections("regions"),
        None if any(table is None for table in scores) else np.concatenate([s for s in scores if s is not None]),
        {
            name: np.concatenate([part.saliency[name] for part in parts], axis=1)
            for name in parts[0].saliency
            if all(name in part.saliency for part in parts)
        },
        lesion_cases,
        np.repeat(np.arange(len(parts)), list(map(len, images))),
        _joined_findings([part.findings for part in parts], starts),
    )


def _joined_findings(parts: Sequence[Findings | None], starts: np.ndarray) -> Findings | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Findings(
        np.concatenate([part.boxes for part in known]),
        np.concatenate([part.image + start for part, start in zip(known, starts, strict=True)]),
        np.concatenate([part.malignant for part in known]),
    )


def check_same_images(predictions: Sequence[Predictions]) -> None:
    """Check that all predictions are about the same images and patients.

    Raises:
        ResultsError: they are not; two sources are named.
    """
    first = predictions[0]
    for other in predictions[1:]:
        if other.images.ids != first.images.ids or not np.array_equal(other.images.patient, first.images.patient):
            raise ResultsError(
                f"{other.source} is about other images than {first.source}; evaluate all runs on the same data set"
            )


def _saliency(path: Path, truth: GroundTruth) -> dict[str, np.ndarray]:
    """Numbers per image of each class; empty without the file, or where it was written without them."""
    cases = read_json(path, error=ResultsError).get("cases", {}) if path.is_file() else {}
    rows = {image_id: row for row, image_id in enumerate(truth.images.ids)}
    found = {}
    for name, columns in cases.items():
        table = np.full((len(SALIENCY_KEYS), len(rows)), np.nan)
        unknown = [image_id for image_id in columns["image_id"] if image_id not in rows]
        if unknown:
            raise ResultsError(f"{path}: image_id {unknown[0]!r} is not in {truth.path}; evaluate the run again")
        places = [rows[image_id] for image_id in columns["image_id"]]
        table[:, places] = np.array([columns[key] for key in SALIENCY_KEYS], float)
        found[name] = table
    return found


def _findings(truth: GroundTruth) -> Findings:
    """All annotations whose pathology, or else category, is benign or malignant."""
    content = read_json(truth.path, error=ResultsError)
    names = [category["name"] for category in content["categories"]]
    place = {category["id"]: number for number, category in enumerate(content["categories"])}
    rows = {image_id: row for row, image_id in enumerate(truth.images.ids)}
    found = [
        (a["bbox"], rows[a["image_id"]], float(pathology == "malignant"))
        for a in content["annotations"]
        if (pathology := lesion_pathology({**a, "category_id": place[a["category_id"]]}, names)) is not None
    ]
    boxes, image, malignant = zip(*found, strict=True) if found else ((), (), ())
    return Findings(
        xywh_to_xyxy(np.array(boxes, float).reshape(-1, 4)), np.array(image, np.int64), np.array(malignant, float)
    )


def _lesion_cases(path: Path, truth: GroundTruth, average: str) -> LevelCases:
    """Cases as the evaluator "lesion" makes them: mean over the views of a lesion, or every annotation by itself."""
    entries = read_json(path, error=ResultsError)
    rows = {image_id: row for row, image_id in enumerate(truth.images.ids)}
    names = {a.get("id"): a.get("lesion_id") for a in read_json(truth.path, error=ResultsError)["annotations"]}
    owners, patients = [], []
    for number, entry in enumerate(entries):
        if entry["image_id"] not in rows:
            raise ResultsError(f"{path}: entry {number}: image_id {entry['image_id']!r} is not in {truth.path}")
        patient = int(truth.images.patient[rows[entry["image_id"]]])
        lesion = names.get(entry.get("annotation_id")) if average == "lesion" else None
        owners.append((number,) if lesion is None else (patient, lesion))
        patients.append(patient)
    lesion_number = dense_groups(owners)
    count = np.bincount(lesion_number)
    mean = np.bincount(lesion_number, [entry["malignancy"] for entry in entries]) / np.maximum(count, 1)
    case_truth = np.full(len(count), -1.0)
    # As in the evaluator, unknown views count less than known ones, and benign less than malignant.
    np.maximum.at(case_truth, lesion_number, [-1.0 if e["truth"] is None else float(e["truth"]) for e in entries])
    patient_of = np.zeros(len(count), np.int64)
    patient_of[lesion_number] = patients
    known = case_truth >= 0
    return LevelCases(case_truth[known], mean[known], patient_of[known], int((~known).sum()))
