"""Layers on images with equal rows or columns (padding, black background): compute them once.

Away from its ends, a run of equal columns stays a run of equal columns in every layer. Before a layer all but a few of
them are removed; in its output as many copies are put back. The results do not change. On a mammogram whose breast
fills half of the window about half of the work is saved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mammo_d2.modeling.layers.receptive_field import Reach

#: A run is shortened if that saves at least this part of the axis; less does not pay for the copies.
WORTHWHILE = 0.1
# Of the pixels of a slice every this many are compared first.
_STRIDE = 64


@dataclass(frozen=True)
class EqualRun:
    """Slices ``start`` to ``stop − 1`` along an axis are equal."""

    start: int
    stop: int

    def after(self, reach: Reach) -> "EqualRun":
        """Slices of the layer's output that are known to be equal; may be empty."""
        start = self.first_output(reach)
        return EqualRun(start, max(start, (self.stop - 1 - reach.after) // reach.stride + 1))

    def first_output(self, reach: Reach) -> int:
        """The first output that sees nothing before the run."""
        return -(-(self.start + reach.before) // reach.stride)

    def removable(self, reach: Reach) -> int:
        """Slices that can be removed so that at least one output sees equal slices only and strides stay in step."""
        spare = self.stop - self.start - (reach.before + reach.after + reach.stride)
        return max(0, spare // reach.stride * reach.stride)


def equal_runs(images: Tensor, axis: int, shortest: int = 16) -> list[EqualRun]:
    """Runs of at least ``shortest`` equal rows (``axis`` 2) or columns (3) of images (N, D, H, W), in order."""
    # A few pixels of each slice rule out most slices of the breast: only the rest is compared whole.
    few = images[..., ::_STRIDE] if axis == 2 else images[..., ::_STRIDE, :]
    runs = []
    for candidate in _runs(_same_as_next(few, axis), shortest):
        part = images.narrow(axis, candidate.start, candidate.stop - candidate.start)
        found = _runs(_same_as_next(part, axis), shortest)
        runs += [EqualRun(run.start + candidate.start, run.stop + candidate.start) for run in found]
    return runs


def _same_as_next(images: Tensor, axis: int) -> list[bool]:
    """Whether each slice but the last equals the next one."""
    count = images.shape[axis]
    same = images.narrow(axis, 1, count - 1) == images.narrow(axis, 0, count - 1)
    return same.all(dim=5 - axis).flatten(0, 1).all(dim=0).tolist()


def _runs(equal: Sequence[bool], shortest: int) -> list[EqualRun]:
    """Runs of at least ``shortest`` slices, from whether each equals the next one."""
    runs, start = [], 0
    for index, is_equal in enumerate([*equal, False], start=1):
        if not is_equal:
            if index - start >= shortest:
                runs.append(EqualRun(start, index))
            start = index
    return runs


#: Runs of rows and of columns, each in order.
AxisRuns = tuple[list[EqualRun], list[EqualRun]]


def apply_shortened(
    layer: Callable[[Tensor], Tensor], x: Tensor, reach: Reach, runs: AxisRuns
) -> tuple[Tensor, AxisRuns]:
    """``layer(x)`` and the runs of its output, computing equal slices once.

    Args:
        layer: of maps (N, D, H, W), seeing the same way along both axes.
        x: its input.
        reach: of the layer.
        runs: of ``x``, of rows and of columns, each in order.
    """
    spared = [
        [count if (count := run.removable(reach)) >= WORTHWHILE * x.shape[axis] else 0 for run in along]
        for axis, along in zip((2, 3), runs, strict=True)
    ]
    for axis, along, counts in zip((2, 3), runs, spared, strict=True):
        x = _without(x, axis, along, counts)
    y = layer(x)
    for axis, along, counts in zip((2, 3), runs, spared, strict=True):
        y = _with_copies(y, axis, along, counts, reach)
    rows, columns = ([run.after(reach) for run in along] for along in runs)
    return y, (rows, columns)


def _without(x: Tensor, axis: int, runs: Sequence[EqualRun], counts: Sequence[int]) -> Tensor:
    """``x`` without the last ``counts`` slices of each run."""
    kept, begin = [], 0
    for run, count in zip(runs, counts, strict=True):
        if count:
            kept.append(x.narrow(axis, begin, run.stop - count - begin))
            begin = run.stop
    return torch.cat([*kept, x.narrow(axis, begin, x.shape[axis] - begin)], dim=axis) if kept else x


def _with_copies(y: Tensor, axis: int, runs: Sequence[EqualRun], counts: Sequence[int], reach: Reach) -> Tensor:
    """``y`` with the removed outputs put back: copies of one that saw equal slices only."""
    parts, begin, gone = [], 0, 0
    for run, count in zip(runs, counts, strict=True):
        if count:
            copies = count // reach.stride
            place = run.first_output(reach) - gone
            shape = list(y.shape)
            shape[axis] = copies
            parts += [y.narrow(axis, begin, place - begin), y.narrow(axis, place, 1).expand(shape)]
            begin, gone = place, gone + copies
    return torch.cat([*parts, y.narrow(axis, begin, y.shape[axis] - begin)], dim=axis) if parts else y
