"""How a mammogram lies in its file: the side of the chest wall, and what suggests that it was turned or changed.

The image decides; tags are asked where the image says nothing, and contradictions are said. Of 1,225 digitised films of
CBIS-DDSM 325 face the other way than their laterality has it by the usual hanging, so that a tag alone is not enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mammo_d2.data.breast.mask import breast_box, breast_mask, chest_wall_side, laterality_of_side

# Longer side of the reduced copy, in pixels.
_WORKING_SIDE = 128
# Strip at a side of the breast's box, as in ``chest_wall_side``.
_STRIP = 0.04
# The part of the top or bottom that the breast fills, and by how much more than the left and right, if it is rotated.
_ROTATED_REACH, _ROTATED_LEAD = 0.8, 0.15
# A background: pixels that differ from their neighbours by less than this part of the range, within a tenth of the
# range; the part of the image that it covers if the image is inverted, and how often as much as dark flat parts.
_FLAT, _LEVEL, _INVERTED_SHARE, _INVERTED_LEAD = 0.012, 0.1, 0.15, 2.0
# Columns of one value between the border and the chest wall, as a part of the width.
_PADDED = 0.01
# Least part of the image that a breast covers; least correlation of neighbouring pixels.
_LEAST_BREAST, _LEAST_SMOOTH = 0.02, 0.5


@dataclass(frozen=True)
class Orientation:
    """What was decided about one image, in its file's pixels.

    Attributes:
        chest_wall: side of the image that the chest wall is on, "left" or "right"; None if nothing says it.
        decided_by: "image", "PatientOrientation" (tag), "laterality" (left breasts have it on the left), or None.
        mirrored: whether the side contradicts the laterality by the usual hanging; None if one of them is unknown.
        doubts: what a person should look at: contradictions, rotated, inverted, padded, no breast.
    """

    chest_wall: str | None
    decided_by: str | None
    mirrored: bool | None
    doubts: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form in an image's record, without the doubts."""
        return {"chest_wall": self.chest_wall, "decided_by": self.decided_by, "mirrored": self.mirrored}


def find_orientation(
    image: np.ndarray, mask: np.ndarray, laterality: str | None = None, tagged_side: str | None = None
) -> Orientation:
    """Decide how an image lies.

    Args:
        image: (H, W), bright on dark.
        mask: bool (H, W) of the breast.
        laterality: "L" or "R" as stated.
        tagged_side: "left" or "right", where the tag Patient Orientation puts the chest wall.
    """
    problem = presence_problem(image, mask)
    seen = None if problem else chest_wall_side(mask)
    usual = {"L": "left", "R": "right"}.get(laterality or "")
    choices = (("image", seen), ("PatientOrientation", tagged_side), ("laterality", usual))
    decided_by, side = next(((by, where) for by, where in choices if where), (None, None))
    expected = laterality_of_side(seen)
    doubts = [problem] if problem else image_problems(image, seen)
    if seen and tagged_side and tagged_side != seen:
        doubts.append(
            f"Patient Orientation puts the chest wall on the {tagged_side}, in the image it is on the {seen}; the "
            "image was mirrored, or the tag is wrong"
        )
    elif laterality and expected and expected != laterality and not tagged_side:
        doubts.append(
            f"laterality {laterality}, but the chest wall is on the {seen}; check it, or the image is mirrored"
        )
    known = seen is not None and laterality in ("L", "R")
    return Orientation(side, decided_by, expected != laterality if known else None, tuple(doubts))


def image_problems(image: np.ndarray, side: str | None) -> list[str]:
    """What suggests that an image is inverted, rotated or padded.

    Args:
        image: as for ``find_orientation``.
        side: of the chest wall in the image.
    """
    if is_inverted(image):
        return [
            "the background is bright: the image seems inverted (MONOCHROME1 without the tag?); correct Photometric "
            "Interpretation, or invert the file"
        ]
    problems = []
    if is_rotated(image):
        problems.append("the chest wall seems to be at the top or bottom: the image is rotated; turn the file")
    padding = padded_columns(image, side)
    if padding:
        problems.append(
            f"{padding} columns of one value lie between the border and the chest wall: the image was padded; crop it"
        )
    return problems


def presence_problem(image: np.ndarray, mask: np.ndarray) -> str | None:
    """Why an image seems to show no breast, or None."""
    small = _reduced(image)
    # The exact comparison takes its time and is only for images that are as good as constant.
    if np.ptp(small) <= 1e-3 * abs(float(small.max())) and image.min() == image.max():
        return "every pixel has the same value: no breast is seen; leave the image out"
    first, second = small[:, :-1].ravel(), small[:, 1:].ravel()
    if min(first.std(), second.std()) == 0 or np.corrcoef(first, second)[0, 1] < _LEAST_SMOOTH:
        return "neighbouring pixels have nothing in common: noise or a damaged file, no breast is seen; look at it"
    if mask.mean() < _LEAST_BREAST:
        return f"no bright part of more than {_LEAST_BREAST:.0%} of the image: no breast is seen; look at it"
    return None


def is_inverted(image: np.ndarray) -> bool:
    """Whether the flat background is bright."""
    small = _reduced(image)
    low, high = np.percentile(small, (1, 99))
    if high <= low:
        return False
    scaled = ((small - low) / (high - low)).clip(0, 1)
    steps = cv2.dilate(scaled, np.ones((3, 3), np.uint8)) - cv2.erode(scaled, np.ones((3, 3), np.uint8))
    flat = steps < 2 * _FLAT
    bright, dark = (flat & (scaled > 1 - _LEVEL)).mean(), (flat & (scaled < _LEVEL)).mean()
    return bool(bright > _INVERTED_SHARE and bright > _INVERTED_LEAD * dark)


def is_rotated(image: np.ndarray) -> bool:
    """Whether the straight side of the breast is at the top or bottom."""
    # The other methods fill the mask up to a chest wall on the left or right.
    mask = breast_mask(_reduced(image), "otsu")
    x, y, w, h = breast_box(mask)
    inside = mask[y : y + h, x : x + w]
    across, down = max(1, round(_STRIP * w)), max(1, round(_STRIP * h))
    sides = max(inside[:, :across].any(axis=1).mean(), inside[:, -across:].any(axis=1).mean())
    ends = max(inside[:down].any(axis=0).mean(), inside[-down:].any(axis=0).mean())
    return bool(ends >= _ROTATED_REACH and ends > sides + _ROTATED_LEAD)


def padded_columns(image: np.ndarray, side: str | None) -> int:
    """Number of columns of one value at the side of the chest wall; 0 if there are few."""
    if side is None:
        return 0
    facing = image if side == "left" else image[:, ::-1]
    width = facing.shape[1]
    value, columns = facing[0, 0], 0
    while columns < width // 2 and (facing[:, columns] == value).all():
        columns += 1
    return columns if _PADDED * width <= columns < width // 2 else 0


def _reduced(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, _WORKING_SIDE / max(image.shape))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image.astype(np.float32, copy=False), size, interpolation=cv2.INTER_AREA)
