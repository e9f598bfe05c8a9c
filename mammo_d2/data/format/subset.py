"""A part of a data set with a given number of images of each class, as some papers train and test on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.image_truth import stratum_of

#: Classes of an image (``stratum_of``), in the order in which they are drawn.
CLASSES = ("malignant", "benign", "normal")


def check_numbers(entries: Sequence[Any]) -> dict[str, dict[str, int]]:
    """Read DATASETS.TAKE.

    Args:
        entries: [data set, class, number] triples.

    Returns:
        Per data set {class: number of images}.

    Raises:
        ValueError: an entry that is no such triple, an unknown class, a number below 1, or a class named twice.
    """
    numbers: dict[str, dict[str, int]] = {}
    for entry in entries:
        kinds = [type(item) for item in entry] if isinstance(entry, (list, tuple)) else []
        if kinds != [str, str, int] or entry[1] not in CLASSES or entry[2] < 1:
            raise ValueError(
                f"DATASETS.TAKE: {entry!r} is not a [data set, class, number] triple with one of the classes "
                f"{', '.join(CLASSES)} and a number of at least 1"
            )
        name, label, number = entry
        if label in numbers.setdefault(name, {}):
            raise ValueError(f"DATASETS.TAKE names {label} of {name} twice")
        numbers[name][label] = number
    return numbers


def take_records(records: Sequence[dict], numbers: Mapping[str, int], seed: int, name: str) -> list[dict]:
    """Draw images at random, of different patients as long as there are any.

    The class of an image is that of its ``labels``: malignant, else benign, else normal. Classes without a number are
    left out.

    Args:
        records: of one data set.
        numbers: {class: number of images}.
        seed: of the draw, ≥ 0.
        name: of the data set, for the message.

    Returns:
        The drawn records, in their order.

    Raises:
        ValueError: there are too few images of a class.
    """
    chosen: set[int] = set()
    patients: set[Any] = set()
    for stream, label in enumerate(CLASSES):
        rows = [row for row, record in enumerate(records) if stratum_of(record.get("labels")) == label]
        wanted = numbers.get(label, 0)
        if len(rows) < wanted:
            raise ValueError(
                f"DATASETS.TAKE wants {wanted} {label} images of {name}, which has {len(rows)}; lower the number or "
                "prepare more images"
            )
        order = [int(row) for row in np.random.default_rng([seed, stream]).permutation(rows)]
        fresh: list[int] = []
        others: list[int] = []
        for row in order:
            patient = records[row].get("patient_id") or ("image", row)
            if patient in patients or len(fresh) == wanted:
                others.append(row)
            else:
                fresh.append(row)
                patients.add(patient)
        chosen.update((fresh + others)[:wanted])
    return [record for row, record in enumerate(records) if row in chosen]
