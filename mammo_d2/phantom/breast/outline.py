"""Outline of the compressed breast, nipple and pectoral muscle in one view, and their rasters.

Coordinates: millimetres, x from the chest wall (image's left edge) towards the nipple, y downwards; a right breast is
drawn like a left one and mirrored at the very end. A pixel (row, col) has its centre at ((col + 0.5) s, (row + 0.5) s)
with pixel side s.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammo_d2.phantom.breast.anatomy import Breast
from mammo_d2.phantom.settings import PhantomConfig


@dataclass(frozen=True)
class ViewGeometry:
    """The breast in one view.

    Attributes:
        view: "CC" or "MLO".
        spacing: pixel side, mm.
        shape: (rows, work columns): the left part of the image that holds the breast and a margin.
        outline: (n, 2) float, the skin line in mm, from the top to the bottom of the chest wall.
        nipple: (x, y) in mm.
        axis: unit vector from the nipple to the chest wall (perpendicular to the pectoral edge in MLO).
        lateral: unit vector perpendicular to ``axis``, towards the lateral (CC) or upper (MLO) side.
        mask: (rows, work columns) bool, breast including the pectoral muscle and the nipple.
        skin_distance: (rows, work columns) float32, mm to the skin; 0 outside.
        pectoral: (n, 2) float polygon of the muscle in mm, or None in CC.
        pectoral_soft: float32 coverage 0..1 of the muscle (edge blurred), or None in CC.
    """

    view: str
    spacing: float
    shape: tuple[int, int]
    outline: np.ndarray
    nipple: tuple[float, float]
    axis: tuple[float, float]
    lateral: tuple[float, float]
    mask: np.ndarray
    skin_distance: np.ndarray
    pectoral: np.ndarray | None
    pectoral_soft: np.ndarray | None

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixel centres in mm: x (1, cols) and y (rows, 1), float32."""
        rows, cols = self.shape
        x = (np.arange(cols, dtype=np.float32) + 0.5) * np.float32(self.spacing)
        y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(self.spacing)
        return x[None, :], y[:, None]

    def to_pixel(self, x: float, y: float) -> tuple[int, int]:
        """(row, col) of the pixel that holds the point (x, y) in mm."""
        return int(y / self.spacing), int(x / self.spacing)


def fill_polygon(shape: tuple[int, int], points_mm: np.ndarray, spacing: float) -> np.ndarray:
    """Rasterise a closed polygon given in mm: uint8, 1 in it and where its edge passes a pixel."""
    raster = np.zeros(shape, np.uint8)
    fixed = np.round((points_mm / spacing - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(raster, [fixed[:, None, :]], 1, lineType=cv2.LINE_8, shift=4)
    return raster


def view_geometry(config: PhantomConfig, breast: Breast, view: str, rng: np.random.Generator) -> ViewGeometry:
    """Lay out one view.

    Args:
        config: image size and scale.
        breast: the anatomy.
        view: "CC" or "MLO".
        rng: small differences of positioning between exposures.
    """
    if view == "CC":
        outline, nipple, axis, pectoral = _cranio_caudal(config, breast, rng)
    else:
        outline, nipple, axis, pectoral = _oblique(config, breast, rng)
    lateral = (-axis[1], axis[0])  # a quarter turn: upwards in both views

    spacing = config.spacing_mm
    cols = min(config.cols, int(np.ceil((outline[:, 0].max() + 9.0) / spacing)))
    shape = (config.rows, cols)
    corner = np.array([[-4.0, outline[-1, 1]], [-4.0, outline[0, 1]]])
    raster = fill_polygon(shape, np.vstack([outline, corner]), spacing)
    _add_nipple(raster, nipple, spacing, rng)
    # The precise transform differs in the last bit with the number of OpenCV threads; the 5 x 5 one does not.
    distance = cv2.distanceTransform(raster, cv2.DIST_L2, cv2.DIST_MASK_5) * np.float32(spacing)
    soft: np.ndarray | None = None
    if pectoral is not None:
        soft = fill_polygon(shape, pectoral, spacing).astype(np.float32)
        soft = cv2.GaussianBlur(soft, (0, 0), max(0.6, rng.uniform(0.9, 2.0) / spacing)) * raster
    return ViewGeometry(
        view=view, spacing=spacing, shape=shape, outline=outline, nipple=nipple, axis=axis,
        lateral=(float(lateral[0]), float(lateral[1])), mask=raster.astype(bool), skin_distance=distance,
        pectoral=pectoral, pectoral_soft=soft,
    )  # fmt: skip


def _cranio_caudal(config: PhantomConfig, breast: Breast, rng: np.random.Generator):
    """Half a superellipse on the chest wall; the lateral (upper) half a little fuller."""
    centre = config.field_height_mm * (0.5 + rng.normal(0, 0.015))
    t = np.linspace(-np.pi / 2, np.pi / 2, 181)
    half = np.where(t < 0, 0.52, 0.48) * breast.chord
    x = breast.depth * np.cos(t) ** breast.pointedness
    y = centre + half * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** 1.06 + breast.tilt * breast.chord * np.cos(t) ** 2
    x = x * _wobble(t, rng, 0.008)
    nipple = (float(x[90]), float(y[90]))
    return np.stack([x, y], 1), nipple, (-1.0, 0.0), None


def _oblique(config: PhantomConfig, breast: Breast, rng: np.random.Generator):
    """Axilla at the top, fullest at the nipple, round lower quadrant down to the inframammary fold."""
    height = config.field_height_mm
    nipple_y = height * (breast.nipple_mlo + rng.normal(0, 0.01))
    depth = breast.depth * 1.03
    fold_y = min(nipple_y + 0.47 * breast.chord, 0.955 * height)
    top = breast.axilla * depth
    u = np.linspace(0.0, 1.0, 120)
    rise = np.sin(np.pi / 2 * u) ** rng.uniform(1.35, 1.75)
    fold = rng.uniform(0.03, 0.08) * depth  # the armpit's slight waist
    upper_x = top + (depth - top) * rise - fold * np.sin(np.pi * u) ** 2 * (1 - u) * 1.6
    upper_y = nipple_y * u
    t = np.linspace(0.0, np.pi / 2, 91)[1:]
    lower_x = depth * np.cos(t) ** (0.9 * breast.pointedness)
    lower_y = nipple_y + (fold_y - nipple_y) * np.sin(t) ** 1.08
    x = np.concatenate([upper_x, lower_x])
    y = np.concatenate([upper_y, lower_y])
    x = x * _wobble(np.linspace(-np.pi / 2, np.pi / 2, len(x)), rng, 0.006)
    x[0], y[0] = x[0], -1.0
    nipple = (float(x[119]), float(nipple_y))

    muscle_top = breast.pectoral_width * top
    muscle_bottom = breast.pectoral_height * fold_y
    v = np.linspace(0.0, 1.0, 40)
    bulge = rng.uniform(-0.03, 0.10) * muscle_top
    edge_x = muscle_top * (1 - v) + bulge * np.sin(np.pi * v)
    edge_y = muscle_bottom * v
    pectoral = np.vstack([np.stack([edge_x, edge_y], 1), [[-4.0, muscle_bottom], [-4.0, -4.0], [muscle_top, -4.0]]])
    along = np.hypot(muscle_top, muscle_bottom)
    # Perpendicular to the muscle's edge, pointing from the nipple back to it (up and towards the chest wall).
    axis = (-muscle_bottom / along, -muscle_top / along)
    return np.stack([x, y], 1), nipple, (float(axis[0]), float(axis[1])), pectoral


def _wobble(t: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    factor = np.ones_like(t)
    for k in (2, 3, 5):
        factor += rng.normal(0, size) * np.cos(k * t + rng.uniform(0, 2 * np.pi)) * np.cos(t)
    return factor


def _add_nipple(raster: np.ndarray, nipple: tuple[float, float], spacing: float, rng: np.random.Generator) -> None:
    centre = np.array([nipple[0] + rng.uniform(-3.6, -1.6), nipple[1]]) / spacing - 0.5
    axes = np.array([rng.uniform(4.0, 5.0), rng.uniform(4.0, 5.5)]) / spacing
    fixed = tuple(int(v) for v in np.round(centre * 16))
    cv2.ellipse(raster, fixed, tuple(int(v) for v in np.round(axes * 16)), 0, 0, 360, 1, -1, cv2.LINE_8, 4)
