"""How an image is prepared: which part of it, mirrored or not, at which scale, and the pixels that this gives.

The one path for data sets (``image.py``) and for files that a model predicts on (``recipe.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.breast.burned_in_text import blank_text, find_text, text_warning
from mammo_d2.data.breast.film_artefacts import find_artefacts
from mammo_d2.data.breast.mask import breast_box, breast_mask
from mammo_d2.data.breast.orientation import Orientation, find_orientation
from mammo_d2.data.reading.image_meta import FULL_SCALE_8_BIT, FULL_SCALE_16_BIT, ImageMeta
from mammo_d2.data.reading.tiff_tiles import scale_to_16_bit

# Least part of a lesion's box that cleaning must leave to go without a warning.
_LEAST_KEPT = 0.95


#: Formats of prepared files, and their suffixes.
PIXEL_FORMATS = {"png": ".png", "tiff": ".tif"}


@dataclass(frozen=True)
class ImageOptions:
    """What is done to every image.

    Attributes:
        crop: cut out the breast's box.
        margin: around it, as a fraction of its longer side.
        mask_method: of ``breast_mask``: "auto", "otsu", "triangle".
        flip_to: "left" or "right": mirror images whose chest wall is on the other side; "" leaves them.
        aspect: width / height of the films, for files that someone squashed (for example to a square): the longer
            side is reduced until the whole file has this ratio; 0: files are as they were taken.
        max_side: reduce images whose longer side is larger, in pixels; 0: no limit.
        spacing: scale images to this many mm per pixel (0: no); needs a known pixel spacing.
        clean_film: give everything but the breast (labels, tape, white edges of a film) the grey of the background; for
            whole images, before any crop.
        blank_text: give rows of characters beside the breast the grey of the background.
        keep_files: refer to the source file by a symbolic link instead of writing one; nothing may be changed then.
        pixels: format of the prepared files: "png", or "tiff" in tiles (``tiff_tiles``), with the same values.
        png_level: compression of the PNG, 0..9.
    """

    crop: bool = False
    margin: float = 0.02
    mask_method: str = "auto"
    flip_to: str = ""
    aspect: float = 0.0
    max_side: int = 0
    spacing: float = 0.0
    clean_film: bool = False
    blank_text: bool = False
    keep_files: bool = False
    png_level: int = 1
    pixels: str = "png"

    def __post_init__(self) -> None:
        if self.flip_to not in ("", "left", "right"):
            raise ValueError(f"flip_to {self.flip_to!r} must be left, right or empty")
        if self.pixels not in PIXEL_FORMATS:
            raise ValueError(f"pixels {self.pixels!r} must be one of {', '.join(PIXEL_FORMATS)}")
        if self.aspect and not 0.1 <= self.aspect <= 10:
            raise ValueError(f"aspect {self.aspect} (width / height of the films) must lie between 0.1 and 10, or be 0")
        if self.max_side < 0 or self.spacing < 0 or not 0 <= self.margin < 1 or not 0 <= self.png_level <= 9:
            raise ValueError(
                f"max_side {self.max_side}, spacing {self.spacing} must not be negative, margin {self.margin} lies in "
                f"[0, 1), png_level {self.png_level} in 0..9"
            )
        if self.max_side and self.spacing:
            raise ValueError(f"give max_side ({self.max_side}) or spacing ({self.spacing}), not both")
        if self.aspect and self.spacing:
            raise ValueError(
                f"give aspect ({self.aspect}) or spacing ({self.spacing}), not both: squashed files have no known "
                "pixel spacing"
            )
        changes = (self.crop, self.flip_to, self.aspect, self.max_side, self.spacing, self.clean_film, self.blank_text)
        if self.keep_files and any(changes):
            raise ValueError(
                "keep_files leaves images as they are; drop it, or crop, flip_to, aspect, max_side, spacing, "
                "clean_film and blank_text"
            )


@dataclass(frozen=True)
class PreparedImage:
    """A file read and prepared in memory.

    Attributes:
        source: float32 (H, W), the file's pixels, without text where that is blanked.
        stored: (h, w) uint8 (full scale 255) or uint16 (full scale 65535), the prepared pixels as a data set has them;
            None if the file stays as it is.
        transform: between the two.
        meta: of the file.
        warnings: what a person should look at; those of ``meta`` are not among them.
        breast_box: XYWH of the breast found, in pixels of ``source``; None where it was not looked for.
        orientation: how ``source`` lies; None where it was not looked for.
        text: XYWH boxes of text found beside the breast, in pixels of ``source``.
        film_edges: part of ``source`` that white edges of a film take; None where they were not looked for.
    """

    source: np.ndarray
    stored: np.ndarray | None
    transform: ImageTransform
    meta: ImageMeta
    warnings: tuple[str, ...] = ()
    breast_box: tuple[int, int, int, int] | None = None
    orientation: Orientation | None = None
    text: tuple[tuple[int, int, int, int], ...] = ()
    film_edges: float | None = None

    @cached_property
    def pixels(self) -> np.ndarray:
        """float32 (h, w), the prepared pixels, in [0, ``max_value``]."""
        return self.source if self.stored is None else self.stored.astype(np.float32)

    @property
    def max_value(self) -> float:
        """Full-scale value of ``pixels``."""
        if self.stored is None:
            return self.meta.max_value
        return FULL_SCALE_8_BIT if self.stored.dtype == np.uint8 else FULL_SCALE_16_BIT


def untouched(source: np.ndarray, meta: ImageMeta) -> PreparedImage:
    """An image that stays as it is; nothing is looked for in it."""
    return PreparedImage(source, None, ImageTransform.identity((source.shape[0], source.shape[1])), meta)


def prepare_pixels(
    source: np.ndarray,
    meta: ImageMeta,
    options: ImageOptions,
    lesions: Sequence[Sequence[float]] = (),
    pixel_spacing: tuple[float, float] | None = None,
    laterality: str | None = None,
) -> PreparedImage:
    """Find the breast, and clean, crop, mirror and scale the image.

    Args:
        source: float32 (H, W) as read.
        meta: of the file.
        options: what to do.
        lesions: XYWH boxes in source pixels that a crop must hold.
        pixel_spacing: (row, column) in mm, where known.
        laterality: "L" or "R" where it is known, of the file by default.

    Raises:
        ValueError: a target spacing, but no known spacing.
    """
    warnings: list[str] = []
    mask, pixels, edges = breast_mask(source, options.mask_method), source, None
    if options.clean_film:
        artefacts = find_artefacts(source, options.mask_method)
        pixels, edges = artefacts.without(source), artefacts.edge_share
        mask = breast_mask(pixels, options.mask_method)
        _warn_of_cleaned_lesions(artefacts.kept, lesions, warnings.append)
    orientation = find_orientation(source, mask, laterality or meta.laterality, meta.chest_wall)
    warnings += orientation.doubts
    lines = find_text(pixels, mask)
    if options.blank_text:
        pixels = blank_text(pixels, mask, lines)
        source = blank_text(source, mask, lines)  # nor in pictures
    elif text := text_warning(lines):
        warnings.append(text)
    transform = _choose_transform(mask, orientation, options, warnings.append, lesions, pixel_spacing)
    stored = None if options.keep_files else _stored_pixels(pixels, meta, transform)
    return PreparedImage(
        source, stored, transform, meta, tuple(warnings), breast_box(mask), orientation,
        tuple(line.box for line in lines), edges,
    )  # fmt: skip


def _warn_of_cleaned_lesions(kept: np.ndarray, lesions: Sequence[Sequence[float]], warn: Callable[[str], None]) -> None:
    """Warn of lesions whose boxes lie partly in what was cleaned; they are not kept, as a test image's would not be."""
    for number, (x, y, w, h) in enumerate(lesions, start=1):
        part = kept[max(0, math.floor(y)) : math.ceil(y + h), max(0, math.floor(x)) : math.ceil(x + w)]
        if part.size and part.mean() < _LEAST_KEPT:
            warn(f"lesion {number}: {1 - part.mean():.0%} of its box was cleaned as film; look at this image")


def _choose_transform(
    mask: np.ndarray,
    orientation: Orientation,
    options: ImageOptions,
    warn: Callable[[str], None],
    lesions: Sequence[Sequence[float]] = (),
    pixel_spacing: tuple[float, float] | None = None,
) -> ImageTransform:
    """Crop, flip and scale of one image.

    Args:
        mask: bool (H, W) of the breast.
        orientation: of the image.
        options: what to do.
        warn: called with what a person should look at.
        lesions: XYWH boxes in source pixels that the crop must hold.
        pixel_spacing: (row, column) in mm, where known.

    Raises:
        ValueError: a target spacing, but no known spacing.
    """
    height, width = mask.shape
    crop = (0, 0, width, height)
    if options.crop:
        crop = breast_box(mask, options.margin)
        crop, grown = _include(crop, lesions)
        if grown:
            warn("a lesion lies outside the detected breast, the crop was widened; look at this image")
    side = orientation.chest_wall
    if options.flip_to and orientation.decided_by != "image":
        by = f"mirrored or not by its {orientation.decided_by}" if side else "not mirrored"
        warn(f"the side of the chest wall was not found; {by}")
    transform = ImageTransform((height, width), crop, bool(options.flip_to and side and side != options.flip_to))
    w, h = crop[2:]
    if options.spacing:
        if pixel_spacing is None:
            raise ValueError("no pixel spacing in the file; leave out the target spacing, or give max_side instead")
        scale_y, scale_x = (s / options.spacing for s in pixel_spacing)
        return transform.with_output_size((max(1, round(h * scale_y)), max(1, round(w * scale_x))))
    scale_y, scale_x = _unsquash((height, width), options.aspect)
    longer = max(h * scale_y, w * scale_x)
    scale = options.max_side / longer if options.max_side and longer > options.max_side else 1.0
    if scale * scale_y == scale * scale_x == 1:
        return transform
    return transform.with_output_size((max(1, round(h * scale_y * scale)), max(1, round(w * scale_x * scale))))


def _unsquash(size: tuple[int, int], aspect: float) -> tuple[float, float]:
    """(row, column) scale, at most 1 each, that gives an image of ``size`` (height, width) the ratio width / height."""
    if not aspect:
        return 1.0, 1.0
    stretch = aspect * size[0] / size[1]
    return (1.0, stretch) if stretch <= 1 else (1 / stretch, 1.0)


def _include(
    crop: tuple[int, int, int, int], lesions: Sequence[Sequence[float]]
) -> tuple[tuple[int, int, int, int], bool]:
    """Widen a crop so that it holds every lesion; also whether that was needed."""
    x1, y1, x2, y2 = crop[0], crop[1], crop[0] + crop[2], crop[1] + crop[3]
    for bx, by, bw, bh in lesions:
        x1, y1 = min(x1, math.floor(bx)), min(y1, math.floor(by))
        x2, y2 = max(x2, math.ceil(bx + bw)), max(y2, math.ceil(by + bh))
    wide = (x1, y1, x2 - x1, y2 - y1)
    return wide, wide != crop


def _stored_pixels(pixels: np.ndarray, meta: ImageMeta, transform: ImageTransform) -> np.ndarray:
    """The prepared image as it is stored, (h, w) uint8 (full scale 255) or uint16 (full scale 65535).

    Args:
        pixels: float32 (H, W) as read.
        meta: of the file.
        transform: from ``_choose_transform``.
    """
    image = np.ascontiguousarray(transform.crop_and_flip(pixels))
    height, width = transform.prepared_size
    scaled = (height, width) != image.shape
    if scaled:
        shrink = height * width < image.shape[0] * image.shape[1]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    if meta.max_value == FULL_SCALE_8_BIT and meta.format != "dicom" and not scaled:
        # Pixels of an 8-bit file were only moved, their values are unchanged.
        return image.round().astype(np.uint8)
    return scale_to_16_bit(image, meta.max_value).astype(np.uint16)
