"""Where findings and look-alikes lie: one place in the breast, seen in both views at the same depth from the nipple."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mammo_d2.phantom.breast.anatomy import Breast
from mammo_d2.phantom.breast.outline import ViewGeometry
from mammo_d2.phantom.breast.tissue import Tissue

_TRIES = 300


@dataclass
class ViewPlan:
    """One view under construction: what is there, and the discs that are taken.

    Attributes:
        geometry: outline and axes.
        tissue: healthy tissue.
        taken: ((x, y), clearance) in mm of everything already placed.
    """

    geometry: ViewGeometry
    tissue: Tissue
    taken: list[tuple[tuple[float, float], float]] = field(default_factory=list)


def place(plans: dict[str, ViewPlan], breast: Breast, radius: float, clearance: float,
          rng: np.random.Generator) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Draw a place that fits in both views; glandular places are preferred, as in patients.

    Findings and look-alikes use this one function, so that their positions do not differ.

    Args:
        plans: the views of one breast by name.
        breast: scale of the draw.
        radius: radius in mm that must lie inside the breast.
        clearance: radius in mm that must not touch what is already there (in the views of ``plans``).
        rng: random stream.

    Returns:
        (x, y) in mm for every view.
    """
    best: tuple[float, dict[str, tuple[float, float]]] | None = None
    for _ in range(_TRIES):
        depth = rng.uniform(0.16, 0.85) * breast.depth
        centres, room, dense = {}, [], []
        for view, plan in plans.items():
            side = (rng.normal(0.0, 0.20) + 0.5 * breast.gland_offset) * breast.chord
            centres[view] = _point(plan.geometry, depth, side)
            space, gland = _room(plan, centres[view], radius, clearance)
            room.append(space)
            dense.append(gland)
        if min(room) >= 0:
            if rng.random() < 0.15 + 0.85 * float(np.mean(dense)):
                return centres
            score = 1000.0
        else:
            score = min(room)
        if best is None or score > best[0]:
            best = (score, centres)
    assert best is not None
    return best[1]


def _point(geometry: ViewGeometry, depth: float, side: float) -> tuple[float, float]:
    nipple, axis, lateral = geometry.nipple, geometry.axis, geometry.lateral
    return (nipple[0] + depth * axis[0] + side * lateral[0], nipple[1] + depth * axis[1] + side * lateral[1])


def _room(plan: ViewPlan, centre: tuple[float, float], radius: float, clearance: float) -> tuple[float, float]:
    """Free space in mm around a point (negative: does not fit) and how glandular it is (0..1)."""
    geometry = plan.geometry
    row, col = geometry.to_pixel(*centre)
    rows, cols = geometry.shape
    if not (0 <= row < rows and 0 <= col < cols):
        return -1e6, 0.0
    space = min(
        float(geometry.skin_distance[row, col]) - 1.25 * radius - 2.0,
        centre[0] - 1.3 * radius,
        centre[1] - 1.3 * radius,
        rows * geometry.spacing - centre[1] - 1.3 * radius,
    )
    if geometry.pectoral_soft is not None and geometry.pectoral_soft[row, col] > 0.3:
        space = min(space, -radius)
    for (x, y), other in plan.taken:
        space = min(space, float(np.hypot(centre[0] - x, centre[1] - y)) - clearance - other)
    return space, float(plan.tissue.gland[row, col])
