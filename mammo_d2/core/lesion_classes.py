"""What a lesion, an image or a patch can be: benign or malignant, and the patch classes of the lesion classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The labels of an image in the package's format.
LABELS = ("benign", "malignant")

#: COCO's categories in the package's format.
CATEGORIES = tuple({"id": number, "name": name} for number, name in enumerate(LABELS, start=1))

#: The four kinds of training patches, numbered as in Wu et al. 2021 and in the order of the networks' outputs.
PATCH_CLASSES = ("malignant", "benign", "outside", "negative")
MALIGNANT, BENIGN, OUTSIDE, NEGATIVE = range(4)


def lesion_pathology(annotation: Mapping[str, Any], classes: Sequence[str]) -> str | None:
    """ "malignant" or "benign" by an annotation's ``pathology``, else by the name of its category; None if unknown.

    Args:
        annotation: of a dataset record; ``category_id`` is a row of ``classes``. A ``pathology`` may say more than the
            one word ("BENIGN_WITHOUT_CALLBACK").
        classes: the class names.
    """
    word = str(annotation.get("pathology") or classes[annotation["category_id"]]).lower()
    return next((name for name in LABELS if word.startswith(name)), None)
