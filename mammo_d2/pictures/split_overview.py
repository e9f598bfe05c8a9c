"""The splits of a data set as bar charts, and pairs of nearly equal images side by side."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mammo_d2.core.files import write_bytes_atomic
from mammo_d2.data.reading.reader import read_image
from mammo_d2.data.review.pixel_review import ReviewedImage, SimilarPair
from mammo_d2.data.review.split_facts import SplitFacts
from mammo_d2.pictures.drawing import contact_sheet, save_picture, side_by_side, to_display, with_caption

# Counters that have a chart: (title, field of ``SplitFacts``).
_CHARTS = (
    ("images by class", "truth"), ("patients by class", "patients_with"), ("view", "views"), ("density", "densities"),
    ("BI-RADS", "birads"), ("vendor", "vendors"),
)  # fmt: skip
# Bars of one chart; the rarest names beyond are left out.
_MOST_BARS = 8


def write_overview(splits: Sequence[SplitFacts], path: str | os.PathLike[str]) -> Path:
    """Draw the shares of each split as bars, and the longer sides of boxes as ranges; writes a PNG.

    Args:
        splits: at least one.
        path: of the PNG.
    """
    figure = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 4).ravel()
    for axis, (title, field) in zip(axes, _CHARTS, strict=False):
        names = list(dict.fromkeys(name for split in splits for name, n in getattr(split, field).items() if n))
        names = names[:_MOST_BARS]
        thickness = 0.8 / len(splits)
        for number, split in enumerate(splits):
            counts = getattr(split, field)
            total = split.patients if field == "patients_with" else split.images
            shares = [100 * counts.get(name, 0) / max(total, 1) for name in names]
            places = np.arange(len(names)) + (number - (len(splits) - 1) / 2) * thickness
            axis.barh(places, shares, thickness, label=f"{split.name} ({split.images} images)")
        axis.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
        axis.invert_yaxis()
        axis.set_title(title)
        axis.set_xlabel("% of the split")
    for axis, unit, field in ((axes[6], "pixels", "pixels"), (axes[7], "mm", "millimetres")):
        _draw_ranges(axis, splits, field)
        axis.set_title("longer side of boxes, 5 to 95 %")
        axis.set_xlabel(unit)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=max(1, len(splits)))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_bytes_atomic(path, buffer.getvalue())
    return Path(path)


def _draw_ranges(axis, splits: Sequence[SplitFacts], field: str) -> None:
    labels: list[str] = []
    for number, split in enumerate(splits):
        for name, sizes in split.box_sizes.items():
            values = getattr(sizes, field)
            if values is None:
                continue
            low, middle, high = values
            axis.errorbar([middle], [len(labels)], xerr=[[middle - low], [high - middle]], fmt="o", capsize=4,
                          color=f"C{number}")  # fmt: skip
            labels.append(f"{name}, {split.name}")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    if not labels:
        axis.text(0.5, 0.5, "not known", ha="center", transform=axis.transAxes)


def write_pairs(pairs: Sequence[SimilarPair], path: str | os.PathLike[str], most: int = 12) -> Path:
    """Draw pairs of images side by side with their files' names; writes a PNG.

    Args:
        pairs: at least one.
        path: of the PNG.
        most: pairs that are drawn.
    """
    tiles = []
    for pair in pairs[:most]:
        both = [with_caption(_picture(image), _caption(image)) for image in (pair.first, pair.second)]
        tiles.append(with_caption(side_by_side(both), f"{pair.shared_structures} structures agree"))
    return save_picture(path, contact_sheet(tiles, 3))


def _picture(image: ReviewedImage) -> np.ndarray:
    grey = to_display(read_image(image.path)[0], 300)
    return np.repeat(grey[..., np.newaxis], 3, axis=2) if grey.ndim == 2 else grey


def _caption(image: ReviewedImage) -> str:
    return f"{Path(image.file).stem}: {Path(str(image.record['file_name'])).name}"
