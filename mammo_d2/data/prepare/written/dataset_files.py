"""From prepared images to the files of a data set: COCO annotations per split, error table and manifest."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mammo_d2.core.files import sha256_file, write_bytes_atomic, write_json
from mammo_d2.core.lesion_classes import LABELS
from mammo_d2.data.format.annotations import SPLITS
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.format.store_files import open_store, wants_store
from mammo_d2.data.prepare.dataset_splits import assign_splits
from mammo_d2.data.prepare.image import IMAGE_FOLDER, Issue, Outcome
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.written.manifest import make_manifest


@dataclass
class PrepareResult:
    """What a run did.

    Attributes:
        out: the prepared data set's folder.
        counts: split -> {"images", "patients", "positive", "annotations"}; in a dry run one entry "all", of a shard one
            of its name.
        issues: errors and warnings.
        skipped: (what, why) that the converter left out on purpose.
        reused: images taken from an earlier run.
        duplicates: keys of images with the same content.
        files: annotation files written.
    """

    out: Path
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    reused: int = 0
    duplicates: list[list[str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def errors(self) -> list[Issue]:
        """The images left out."""
        return [issue for issue in self.issues if issue.level == "error"]


def write_dataset(
    outcomes: Sequence[Outcome], options: PrepareOptions, origin: Mapping[str, Any], result: PrepareResult
) -> None:
    """Split the prepared images, write annotations, error table and manifest, and complete the result.

    Args:
        outcomes: of all images, in the data set's order.
        options: of the run.
        origin: what the manifest says about the converter (``describe_origin``).
        result: with the issues of the images and what was skipped.

    Raises:
        PrepareError: no image could be prepared.
    """
    done = [outcome for outcome in outcomes if outcome.image is not None]
    write_issues(result)
    if not done:
        first = result.errors[0].problem if result.errors else result.skipped[-1][1]
        raise PrepareError(
            f"none of {len(outcomes)} images could be prepared; the first: {first}; see {result.out}/errors.csv"
        )
    _look_at_labels(done, result)
    assigned = assign_splits(done, options)
    result.duplicates = assigned.duplicates
    result.issues += assigned.warnings
    _write_annotations(str(origin["dataset"]), done, assigned.splits, result)
    write_issues(result)
    counts = {"counts": result.counts, "errors": len(result.errors), "skipped": len(result.skipped)}
    hashes = {f"annotations/{p.name}": sha256_file(p) for p in result.files}
    results = {**counts, "duplicates": result.duplicates, "files": hashes}
    write_json(result.out / "manifest.json", make_manifest(origin, asdict(options), results))


def write_issues(result: PrepareResult) -> None:
    """Write errors.csv: errors, warnings, and what was skipped."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["level", "key", "file", "problem"])
    for issue in sorted(result.issues, key=lambda i: i.level):
        writer.writerow([issue.level, issue.key, issue.file, issue.problem])
    for what, why in result.skipped:
        writer.writerow(["skipped", "", what, why])
    write_bytes_atomic(result.out / "errors.csv", text.getvalue().encode("utf-8"))


def _look_at_labels(done: Sequence[Outcome], result: PrepareResult) -> None:
    """Warn of a class with positive images but no known negative one."""
    labels = [outcome.image.get("labels", {}) for outcome in done if outcome.image is not None]
    for name in LABELS:
        values = [image_labels.get(name) for image_labels in labels]
        if 1 in values and 0 not in values:
            problem = (
                f"{values.count(1)} images are labelled {name}, none has the label 0, "
                f"{values.count(None)} are unknown: a method that learns from image labels would learn that every "
                f"image is {name}, and patient metrics have no negatives; label the others in the truth (an image "
                "without a lesion is not yet known to be healthy)"
            )
            result.issues.append(Issue("warning", "", "", problem))


def _write_annotations(name: str, done: Sequence[Outcome], splits: Sequence[str], result: PrepareResult) -> None:
    folder = result.out / "annotations"
    builders: dict[Path, CocoBuilder] = {}
    for split in SPLITS:
        builder = CocoBuilder(info={"description": f"{name}, prepared by mammo_d2", "split": split})
        patients, positive = set(), 0
        for outcome, where in zip(done, splits, strict=True):
            if where != split or outcome.image is None:
                continue
            image_id = builder.add_image(**outcome.image)
            for annotation in outcome.annotations:
                builder.add_annotation(image_id, **annotation)
            patients.add(outcome.image["patient_id"] or outcome.key)
            positive += bool(outcome.annotations)
        if not builder.images:
            continue
        builders[folder / f"{split}.json"] = builder
        result.counts[split] = {
            "images": len(builder.images), "patients": len(patients), "positive": positive,
            "annotations": len(builder.annotations),
        }  # fmt: skip
    # An earlier run's files are replaced only when all of the new ones are right.
    for path, builder in builders.items():
        builder.check(path)
    for path, builder in builders.items():
        builder.write(path)
        result.files.append(path)
    # Files of an earlier run with other splits would leak patients.
    for stale in (set(folder.glob("*.json")) - set(builders)) | set(folder.glob("*.records")):
        stale.unlink()
    for path in builders:
        if wants_store(path, "auto"):
            open_store(path, result.out / IMAGE_FOLDER)
