"""Windows of the lesion classifier: squares that overlap a lesion, or that keep away from all of them.

Windows are XYXY in whole pixels of the image file. Sides are drawn first, and a window that does not fit is drawn again
with the same side, so that sides stay uniform for any lesion size. Windows lie inside the image; along an axis
that is shorter than the side they cover it all.

Training patches are turned (see ``patch_store.py``), so their tests are about the turned square.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.core.masks import box_of_segmentation, decode_mask, to_rle
from mammo_d2.framework import BoxMode

# Random draws of a place; after these the window is put where it fits.
MAX_WINDOW_DRAWS = 200


@dataclass(frozen=True)
class LesionRegion:
    """Where a lesion is.

    Attributes:
        box: XYXY in whole pixels, inside the image, not empty; of the mask, where there is one.
        mask: bool (y1 - y0, x1 - x0) inside the box; None: the whole box is the lesion.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray | None = None

    def overlaps(self, window: Sequence[int], rotation: float = 0.0) -> bool:
        """Whether a pixel's centre is seen in the patch that ``cut_patch`` makes of the square with this rotation."""
        centre_x, centre_y = (window[0] + window[2]) / 2, (window[1] + window[3]) / 2
        half = (window[2] - window[0]) / 2
        reach = half * _extent(rotation)
        x0, y0, x1, y1 = self.box
        left, right = max(x0, int(np.floor(centre_x - reach))), min(x1, int(np.ceil(centre_x + reach)))
        top, bottom = max(y0, int(np.floor(centre_y - reach))), min(y1, int(np.ceil(centre_y + reach)))
        if left >= right or top >= bottom:
            return False
        if rotation:
            x, y = np.arange(left, right) + 0.5 - centre_x, (np.arange(top, bottom) + 0.5 - centre_y)[:, None]
            angle = np.deg2rad(rotation)
            cos, sin = np.cos(angle), np.sin(angle)
            # On the patch's axes, as in ``cut_patch``: its picture turns counter-clockwise, so the square clockwise.
            shown = (abs(x * cos + y * sin) < half) & (abs(y * cos - x * sin) < half)
        else:
            shown = np.ones((bottom - top, right - left), bool)
        if self.mask is not None:
            shown &= self.mask[top - y0 : bottom - y0, left - x0 : right - x0]
        return bool(shown.any())


def lesion_region(annotation: Mapping[str, Any], image_size: Sequence[int], masks: bool = True) -> LesionRegion:
    """Where the lesion of an annotation is: its segmentation where it has one, else its box.

    Args:
        annotation: of a record; ``segmentation`` as polygons or run-length.
        image_size: (height, width).
        masks: False: the box that holds both.

    Raises:
        ValueError: no pixel of it is inside the image, or a mask of another size.
    """
    height, width = image_size
    segmentation = annotation.get("segmentation")
    try:
        runs = to_rle(segmentation, image_size) if segmentation else None
    except ValueError as error:
        raise ValueError(f"annotation {annotation.get('id')!r}: {error}") from error
    if masks and runs is not None:
        mask = decode_mask(runs, image_size)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
            return LesionRegion((x0, y0, x1, y1), mask[y0:y1, x0:x1].copy())
    x0, y0, x1, y1 = BoxMode.convert(
        list(annotation["bbox"]), annotation.get("bbox_mode", BoxMode.XYWH_ABS), BoxMode.XYXY_ABS
    )
    if runs is not None and (extent := box_of_segmentation(runs, image_size))[2] > 0:
        # The region includes a mask that sticks out of its box; decoding the mask would take far longer.
        left, top, right, bottom = xywh_to_xyxy(extent)
        x0, y0, x1, y1 = min(x0, left), min(y0, top), max(x1, right), max(y1, bottom)
    left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    right, bottom = min(width, int(np.ceil(x1))), min(height, int(np.ceil(y1)))
    if left >= right or top >= bottom:
        raise ValueError(
            f"annotation {annotation.get('id')!r}: the box {list(annotation['bbox'])} has no pixel inside the image of "
            f"{height}x{width} (height x width); correct it or remove the annotation"
        )
    return LesionRegion((left, top, right, bottom))


@dataclass(frozen=True)
class WindowRule:
    """How windows are drawn.

    Attributes:
        sides: smallest and largest side in pixels, both drawn.
        rotation: largest rotation in degrees, to both sides.
    """

    sides: tuple[int, int] = (128, 384)
    rotation: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.sides[0] <= self.sides[1]:
            raise ValueError(f"MODEL.LESION.WINDOW_SIDES is {list(self.sides)}; it must be [smallest, largest] pixels")
        if not 0 <= self.rotation <= 45:
            raise ValueError(f"MODEL.LESION.ROTATION is {self.rotation}; it must be 0..45 degrees")

    def draw(self, rng: np.random.Generator) -> tuple[int, float]:
        """A side in pixels and a rotation in degrees, both uniform. Always two numbers of the generator."""
        side = int(rng.integers(self.sides[0], self.sides[1], endpoint=True))
        return side, float(rng.uniform(-1.0, 1.0) * self.rotation)


def window_on_lesion(
    lesion: LesionRegion,
    image_size: Sequence[int],
    side: int,
    rng: np.random.Generator,
    rotation: float = 0.0,
    others: Sequence[LesionRegion] = (),
) -> tuple[tuple[int, int, int, int], float]:
    """A window that overlaps the lesion, turned or not, uniform among all places where it does.

    Args:
        lesion: the lesion.
        image_size: (height, width).
        side, rotation: of the window.
        rng: source of the place.
        others: lesions of the other pathology, which it should not overlap; where no draw can help it, it may.

    Returns:
        XYXY, and the rotation: 0 where no draw shows a turned lesion (a small one in the image's corner).
    """
    places = _places_touching(lesion.box, image_size, side)
    found = None
    for _ in range(MAX_WINDOW_DRAWS):
        window = _draw_place(*places, side, rng)
        if lesion.overlaps(window) and lesion.overlaps(window, rotation):
            found = window
            if not any(other.overlaps(window, rotation) for other in others):
                return window, rotation
    if found is not None:
        return found, rotation
    return _window_around_pixel(lesion, image_size, side, rng), 0.0


def _window_around_pixel(
    lesion: LesionRegion, image_size: Sequence[int], side: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """For a lesion of so few pixels that no draw has hit it: a window around one of them."""
    x0, y0, x1, y1 = lesion.box
    mask = np.ones((y1 - y0, x1 - x0), bool) if lesion.mask is None else lesion.mask
    rows, columns = np.nonzero(mask)
    pick = int(rng.integers(len(rows)))
    corner = [int(v) - side // 2 for v in (x0 + columns[pick], y0 + rows[pick])]
    low, high = _inside(image_size, side)
    left, top = (min(max(value, a), b) for value, a, b in zip(corner, low, high, strict=True))
    return left, top, left + side, top + side


def window_outside(
    lesions: Sequence[LesionRegion],
    image_size: Sequence[int],
    side: int,
    rng: np.random.Generator,
    rotation: float = 0.0,
    smallest: int = 1,
) -> tuple[tuple[int, int, int, int], float]:
    """A window without any part of the lesions' boxes, turned or not.

    The boxes hold the masks, so nothing of a lesion is seen and no mask has to be decoded.

    Args:
        lesions: all lesions of the image; none: anywhere.
        image_size: (height, width).
        side, rotation: of the window.
        rng: source of the place.
        smallest: side to fall back to (without rotation) where no place is free for ``side``.

    Returns:
        XYXY, and the rotation that it is free at.

    Raises:
        ValueError: no place is free even for the smallest window (see ``has_room_outside``).
    """
    low, high = _inside(image_size, side)
    boxes = np.array([lesion.box for lesion in lesions], np.int64).reshape(-1, 4)
    extra = side / 2 * (_extent(rotation) - 1)
    for _ in range(MAX_WINDOW_DRAWS):
        window = _draw_place(low, high, side, rng)
        grown = np.array(window) + np.array([-extra, -extra, extra, extra])
        if not _hits(boxes, grown):
            return window, rotation
    for fallback in dict.fromkeys((side, smallest)):
        free = _free_corners(boxes, image_size, fallback)
        if free:
            left, top = free[int(rng.integers(len(free)))]
            return (left, top, left + fallback, top + fallback), 0.0
    raise ValueError(
        f"no window of {smallest} pixels fits beside the lesions of an image of {tuple(image_size)} pixels"
    )


def has_room_outside(lesions: Sequence[LesionRegion], image_size: Sequence[int], side: int) -> bool:
    """Whether a window of a side fits into the image beside all lesions' boxes."""
    boxes = np.array([lesion.box for lesion in lesions], np.int64).reshape(-1, 4)
    return bool(_free_corners(boxes, image_size, side))


def _free_corners(boxes: np.ndarray, image_size: Sequence[int], side: int) -> list[tuple[int, int]]:
    """Free places among the candidates: a window that is free can be pushed up and left until it meets something."""
    low, high = _inside(image_size, side)
    across = [x for x in {low[0], *boxes[:, 2].tolist()} if low[0] <= x <= high[0]]
    down = [y for y in {low[1], *boxes[:, 3].tolist()} if low[1] <= y <= high[1]]
    return sorted((x, y) for x in across for y in down if not _hits(boxes, np.array([x, y, x + side, y + side])))


def _hits(boxes: np.ndarray, window: np.ndarray) -> bool:
    return bool(((boxes[:, :2] < window[2:]) & (boxes[:, 2:] > window[:2])).all(axis=1).any())


def _extent(rotation: float) -> float:
    """Side of the upright square around a turned one of side 1."""
    angle = np.deg2rad(rotation)
    return float(abs(np.cos(angle)) + abs(np.sin(angle)))


def _inside(image_size: Sequence[int], side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest (x, y) of a window's corner inside the image, or so that it covers a shorter axis."""
    height, width = image_size
    return (min(0, width - side), min(0, height - side)), (max(0, width - side), max(0, height - side))


def _places_touching(
    box: Sequence[int], image_size: Sequence[int], side: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest (x, y) of the corner of a window that overlaps a box."""
    low, high = _inside(image_size, side)
    return (
        (max(low[0], box[0] - side + 1), max(low[1], box[1] - side + 1)),
        (min(high[0], box[2] - 1), min(high[1], box[3] - 1)),
    )


def _draw_place(
    low: Sequence[int], high: Sequence[int], side: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    left, top = (int(rng.integers(a, b, endpoint=True)) for a, b in zip(low, high, strict=True))
    return left, top, left + side, top + side
