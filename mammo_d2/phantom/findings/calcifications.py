"""Calcification clusters: fine pleomorphic (malignant) and coarse round (benign)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammo_d2.phantom.findings.lesions import Rendered, patch_grid


@dataclass(frozen=True)
class Cluster:
    """One cluster of calcifications.

    Attributes:
        malignant: pleomorphic (many, fine, angular, some linear) or coarse (few, round, large).
        radius: radius of the cluster, mm.
        count: number of calcifications.
        contrast: brightness of a calcification that fills its pixel, fraction of full scale.
        seed: seed of the details.
    """

    malignant: bool
    radius: float
    count: int
    contrast: float
    seed: int

    @property
    def clearance(self) -> float:
        """Radius in mm of the disc that no other finding's disc may touch."""
        return self.radius * 1.2


def draw_cluster(malignant: bool, contrast_scale: float, rng: np.random.Generator) -> Cluster:
    """Draw one cluster."""
    count = int(rng.integers(12, 31)) if malignant else int(rng.integers(3, 8))
    contrast = rng.uniform(0.35, 0.55) if malignant else rng.uniform(0.18, 0.32)
    return Cluster(malignant, float(rng.uniform(4.0, 9.0)), count, float(contrast) * contrast_scale,
                   int(rng.integers(1 << 31)))  # fmt: skip


def render_cluster(cluster: Cluster, centre: tuple[float, float], spacing: float, view: int) -> Rendered:
    """Render a cluster; ``body`` is the convex hull of its calcifications, dilated by about a millimetre.

    Args:
        cluster: what to render.
        centre: (x, y) in mm.
        spacing: pixel side, mm; a calcification smaller than a pixel is as much weaker (partial volume).
        view: number of the view: the third dimension, so the arrangement differs.
    """
    rng = np.random.default_rng([cluster.seed, view])
    x, y, origin = patch_grid(centre, cluster.radius + 4.0, spacing)
    pattern = np.zeros((y.shape[0], x.shape[1]), np.float32)
    shared = np.random.default_rng([cluster.seed, 1000])  # sizes and shapes are the same in both views
    points = []
    for _ in range(cluster.count):
        # The first coordinate (distance to the nipple) is seen in both views.
        position = np.array([shared.normal(), rng.normal()]) * cluster.radius * 0.5
        position *= min(1.0, cluster.radius / max(1e-6, float(np.hypot(*position))))
        points.append(position)
        if cluster.malignant:
            size = np.array([shared.uniform(0.16, 0.35), 0.0])
            size[1] = size[0] * (shared.uniform(0.25, 0.6) if shared.random() < 0.4 else shared.uniform(0.6, 1.0))
            size[0] *= 1.8 if shared.random() < 0.3 else 1.0
        else:
            size = np.array([shared.uniform(0.5, 1.3)] * 2) * [1.0, shared.uniform(0.8, 1.0)]
        _put(pattern, x, y, position, size, shared.uniform(0, np.pi), shared.uniform(0.6, 1.0), spacing)
    pattern *= np.float32(cluster.contrast)
    corner = np.array([x[0, 0], y[0, 0]])
    hull = cv2.convexHull(((np.array(points) - corner) / spacing).astype(np.float32))
    body = np.zeros(pattern.shape, np.uint8)
    cv2.fillConvexPoly(body, np.round(hull * 16).astype(np.int32), 1, cv2.LINE_8, 4)
    grow = 0.8 if cluster.malignant else 1.4
    distance = cv2.distanceTransform(1 - body, cv2.DIST_L2, cv2.DIST_MASK_5)
    return Rendered(pattern, distance <= max(1.0, grow / spacing), origin)


def _put(pattern: np.ndarray, x: np.ndarray, y: np.ndarray, position: np.ndarray, size: np.ndarray, angle: float,
         level: float, spacing: float) -> None:  # fmt: skip
    """Add one elliptic calcification with half axes ``size`` mm, blurred to the pixel grid with its mass kept."""
    blur = 0.45 * spacing
    half = np.sqrt(size**2 + blur**2)
    level = level * float(np.prod(size) / np.prod(half))
    reach = 3 * float(half.max())
    rows = np.flatnonzero(np.abs(y[:, 0] - position[1]) <= reach)
    cols = np.flatnonzero(np.abs(x[0] - position[0]) <= reach)
    if not len(rows) or not len(cols):
        return
    window = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    dx, dy = x[:, window[1]] - position[0], y[window[0]] - position[1]
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / half[0]
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / half[1]
    shape = np.exp(-np.square(u * u + v * v)).astype(np.float32) * np.float32(level)
    np.maximum(pattern[window], shape, out=pattern[window])
