"""The split of a prepared data set: its own, or drawn by patient; duplicates and leaks are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mammo_d2.core.image_truth import stratum_of
from mammo_d2.data.prepare.image import Issue, Outcome
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.splits import find_duplicates, find_leaks, group_images, split_groups


@dataclass(frozen=True)
class AssignedSplits:
    """Splits of prepared images.

    Attributes:
        splits: of each image.
        duplicates: keys of images with the same pixels.
        warnings: unknown patients, duplicates, and patients that the data set's own split has in several parts.
    """

    splits: list[str]
    duplicates: list[list[str]]
    warnings: list[Issue]


def assign_splits(done: Sequence[Outcome], options: PrepareOptions) -> AssignedSplits:
    """Split prepared images by patient; the data set's own split is kept where it has one."""
    warnings: list[Issue] = []
    images = [outcome.image or {} for outcome in done]
    # Each image without a patient is a group of its own.
    patients = [image["patient_id"] or f"image {outcome.key}" for outcome, image in zip(done, images, strict=True)]
    without_patient = sum(not image["patient_id"] for image in images)
    if without_patient:
        problem = (
            f"{without_patient} of {len(images)} images have no patient_id; each counts as a patient of its own, so "
            "that images of one person may come into different splits: add the patient_id"
        )
        warnings.append(Issue("warning", "", "", problem))
    hashes = [image["source"]["prepared_sha256"] for image in images]
    duplicates = find_duplicates({outcome.key: h for outcome, h in zip(done, hashes, strict=True)})
    for keys in duplicates:
        warnings.append(Issue("warning", keys[0], "", f"same pixels as {', '.join(keys[1:])}"))
    groups = group_images(patients, hashes)
    # A group is named by its first patient in alphabetical order, whichever images were found.
    name_of: dict[int, str] = {}
    for group, patient in zip(groups, patients, strict=True):
        name_of[group] = min(name_of.get(group, str(patient)), str(patient))
    names = [name_of[g] for g in groups]
    strata = [stratum_of(image.get("labels")) for image in images]
    own_splits = [outcome.split for outcome in done]
    if not any(own_splits):
        drawn_splits = split_groups(names, strata, dict(options.fractions), options.seed)
        return AssignedSplits(drawn_splits, duplicates, warnings)
    drawn = iter(_draw(names, strata, own_splits, options))
    splits = [split or next(drawn) for split in own_splits]
    if options.val_from_train and "val" not in splits:
        splits = _carve_val(names, strata, splits, options)
    for name, where in find_leaks(names, splits).items():
        warnings.append(
            Issue("warning", str(name), "", f"patient in {' and '.join(where)} by the data set's own split")
        )
    return AssignedSplits(splits, duplicates, warnings)


def _draw(names: list[str], strata: list[str], own_splits: list[str | None], options: PrepareOptions) -> list[str]:
    """Splits of the images that the data set assigns to none."""
    free = [i for i, split in enumerate(own_splits) if not split]
    if not free:
        return []
    chosen = [names[i] for i in free], [strata[i] for i in free]
    return split_groups(*chosen, dict(options.fractions), options.seed)


def _carve_val(names: list[str], strata: list[str], splits: list[str], options: PrepareOptions) -> list[str]:
    """Move part of the training patients to "val"."""
    train = [i for i, split in enumerate(splits) if split == "train"]
    parts = {"train": 1 - options.val_from_train, "val": options.val_from_train}
    moved = split_groups([names[i] for i in train], [strata[i] for i in train], parts, options.seed)
    splits = list(splits)
    for index, split in zip(train, moved, strict=True):
        splits[index] = split
    return splits
