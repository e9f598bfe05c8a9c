"""One patient's four views: anatomy, findings, look-alikes, pixels and truth; a function of seed and index."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from mammo_d2.phantom.breast.anatomy import Breast, Patient, draw_patient
from mammo_d2.phantom.breast.background import add_marker, film_background
from mammo_d2.phantom.breast.outline import ViewGeometry, view_geometry
from mammo_d2.phantom.breast.tissue import MAX_VALUE, finish, make_tissue
from mammo_d2.phantom.findings.calcifications import Cluster, draw_cluster, render_cluster
from mammo_d2.phantom.findings.lesions import Mass, Rendered, draw_mass, render_mass
from mammo_d2.phantom.findings.placement import ViewPlan, place
from mammo_d2.phantom.findings.surroundings import disturb
from mammo_d2.phantom.settings import PhantomConfig
from mammo_d2.phantom.streams import assign_classes, assign_share, stream
from mammo_d2.phantom.views import PHANTOM_VIEWS, SIDES, PhantomFinding, PhantomView


@dataclass(frozen=True)
class _Lesion:
    lesion_id: str
    side: str
    item: Mass | Cluster
    pathology: str
    decided_by: str = "look"


@dataclass
class _Drawn:
    """A rendered finding in work coordinates (chest wall left)."""

    rendered: Rendered
    centre: tuple[float, float]
    lesion: _Lesion


@dataclass
class _Canvas:
    """A view under construction."""

    plan: ViewPlan
    findings: list[_Drawn] = field(default_factory=list)
    distractors: list[_Drawn] = field(default_factory=list)


def generate_patient(config: PhantomConfig, index: int) -> list[PhantomView]:
    """The views of one patient: L-CC, L-MLO, R-CC, R-MLO; without healthy breasts if the config leaves them out.

    Pure: depends on ``config`` and ``index`` only.

    Args:
        config: settings.
        index: 0 <= index < config.n_patients.

    Raises:
        IndexError: no such patient.
    """
    if not 0 <= index < config.n_patients:
        raise IndexError(f"patient index {index} is outside 0..{config.n_patients - 1}; raise PhantomConfig.n_patients")
    classes, films, inverted = _assignments(config)
    patient = draw_patient(config, index, classes[index], bool(films[index]), bool(inverted[index]))
    lesions = _draw_lesions(config, patient)
    views = []
    for s, side in enumerate(SIDES):
        own_lesions = [lesion for lesion in lesions if lesion.side == side]
        if config.positive_breasts_only and lesions and not own_lesions:
            continue
        breast = patient.breasts[side]
        canvases = {}
        for v, view in enumerate(PHANTOM_VIEWS):
            geometry = view_geometry(config, breast, view, stream(config, index, "outline", s, v))
            tissue = make_tissue(geometry, patient, breast, stream(config, index, "tissue", s, v))
            canvases[view] = _Canvas(ViewPlan(geometry, tissue))
        rng = stream(config, index, "place", s)
        _put_lesions(canvases, breast, own_lesions, rng)
        rate = config.distractor_rate_positive if own_lesions else config.distractor_rate
        for v, view in enumerate(PHANTOM_VIEWS):
            rng = stream(config, index, "distractor", s, v)
            _put_distractors(config, canvases, view, breast, rate, rng, f"{patient.patient_id}-{side}-{view}")
            views.append(_complete(config, patient, canvases[view], s, v))
    return views


@lru_cache(maxsize=8)
def _assignments(config: PhantomConfig) -> tuple[list[str], np.ndarray, np.ndarray]:
    return (
        assign_classes(config),
        assign_share(config, config.film_share, 2),
        assign_share(config, config.monochrome1_share, 3),
    )


def _draw_lesions(config: PhantomConfig, patient: Patient) -> list[_Lesion]:
    """The lesions of a patient's class."""
    rng = stream(config, patient.index, "finding")
    side = SIDES[int(rng.integers(2))]
    other = SIDES[int(rng.integers(2))]
    kinds = {
        "malignant": [("mass", "malignant", side)],
        "benign": [("mass", "benign", side)],
        "both": [("mass", "malignant", side), ("mass", "benign", other)],
        "calcification_malignant": [("calcification", "malignant", side)],
        "calcification_benign": [("calcification", "benign", side)],
        "healthy": [],
    }[patient.patient_class]
    lesions = []
    for number, (kind, pathology, where) in enumerate(kinds, start=1):
        name = f"{patient.patient_id}-{number}"
        if kind == "calcification":
            item: Mass | Cluster = draw_cluster(pathology == "malignant", config.contrast_scale, rng)
            lesions.append(_Lesion(name, where, item, pathology))
            continue
        by_context = bool(rng.random() < config.context_malignancy)
        look = "intermediate" if by_context else pathology
        item = draw_mass(look, config.lesion_size_mm, config.contrast_scale, rng)
        lesions.append(_Lesion(name, where, item, pathology, "surroundings" if by_context else "look"))
    return lesions


def _render(item: Mass | Cluster, centre: tuple[float, float], spacing: float, view: int) -> Rendered:
    if isinstance(item, Cluster):
        return render_cluster(item, centre, spacing, view)
    return render_mass(item, centre, spacing, view)


def _put_lesions(
    canvases: dict[str, _Canvas], breast: Breast, lesions: list[_Lesion], rng: np.random.Generator
) -> None:
    """Place a breast's lesions in both views, disturb the surroundings of some, and add the lesions to the tissue."""
    centres = []
    for lesion in lesions:
        item = lesion.item
        centres.append(place({v: c.plan for v, c in canvases.items()}, breast, item.radius, item.clearance, rng))
        for view, canvas in canvases.items():
            canvas.plan.taken.append((centres[-1][view], item.clearance))
    for v, view in enumerate(PHANTOM_VIEWS):
        canvas = canvases[view]
        brightness, spacing = canvas.plan.tissue.brightness, canvas.plan.geometry.spacing
        discs = [(centre[view], lesion.item.radius) for centre, lesion in zip(centres, lesions, strict=True)]
        for number, (lesion, disc) in enumerate(zip(lesions, discs, strict=True)):
            if lesion.decided_by == "surroundings" and lesion.pathology == "malignant":
                strength = 0.65 * lesion.item.contrast
                others = discs[:number] + discs[number + 1 :]
                disturb(brightness, spacing, *disc, strength, lesion.item.seed, v, others)
        for lesion, (centre, _) in zip(lesions, discs, strict=True):
            rendered = _render(lesion.item, centre, spacing, v)
            _add(brightness, rendered)
            canvas.findings.append(_Drawn(rendered, centre, lesion))


def _put_distractors(config: PhantomConfig, canvases: dict[str, _Canvas], view: str, breast: Breast,
                     rate: float, rng: np.random.Generator, name: str) -> None:  # fmt: skip
    """Superimpose look-alikes on one view; the other view shows the same tissue apart."""
    count = int(rng.random() < rate)
    count += count * int(rng.random() < config.distractor_second)
    canvas = canvases[view]
    # The other view limits the place, too, so that places are distributed as those of lesions.
    plans = {v: ViewPlan(c.plan.geometry, c.plan.tissue) for v, c in canvases.items()}
    plans[view] = canvas.plan
    for number in range(1, count + 1):
        look = "island" if rng.random() < 0.5 else "crossing"
        mass = draw_mass(look, config.lesion_size_mm, config.contrast_scale, rng, config.distractor_likeness)
        centre = place(plans, breast, mass.radius, mass.clearance, rng)[view]
        rendered = render_mass(mass, centre, canvas.plan.geometry.spacing, PHANTOM_VIEWS.index(view))
        _add(canvas.plan.tissue.brightness, rendered)
        canvas.plan.taken.append((centre, mass.clearance))
        canvas.distractors.append(_Drawn(rendered, centre, _Lesion(f"{name}-d{number}", "", mass, "none")))


def _add(image: np.ndarray, rendered: Rendered) -> None:
    target, source = _overlap(image.shape, rendered)
    image[target] += rendered.pattern[source]


def _overlap(shape: tuple[int, ...], rendered: Rendered):
    """The part of a patch that lies in the image: slices of the image and of the patch."""
    target, source = [], []
    for size, first, length in zip(shape, rendered.origin, rendered.pattern.shape, strict=True):
        start, stop = max(0, first), min(size, first + length)
        target.append(slice(start, stop))
        source.append(slice(start - first, stop - first))
    return tuple(target), tuple(source)


def _complete(config: PhantomConfig, patient: Patient, canvas: _Canvas, s: int, v: int) -> PhantomView:
    """Pixels and truth of one view in the orientation of its side."""
    side, view, geometry = SIDES[s], PHANTOM_VIEWS[v], canvas.plan.geometry
    rng = stream(config, patient.index, "noise", s, v)
    image = np.zeros((config.rows, config.cols), np.float32)
    image[:, : geometry.shape[1]] = finish(geometry, canvas.plan.tissue.brightness, patient.film, rng)
    if patient.film:
        film_background(image, stream(config, patient.index, "film", s, v))
    mask = _full(geometry.mask, (0, 0), config)
    mirror = side == "R"
    if mirror:
        image = np.ascontiguousarray(image[:, ::-1])
        mask = np.ascontiguousarray(mask[:, ::-1])
    marker = stream(config, patient.index, "marker", s, v)
    if marker.random() < config.marker_share:
        add_marker(image, mask, f"{side} {view}", config.spacing_mm, patient.film, marker)
    findings = [_finding(drawn, config, mirror, mask) for drawn in canvas.findings]
    pathologies = {f.pathology for f in findings}
    return PhantomView(
        patient=patient, patient_id=patient.patient_id, exam_id=f"{patient.patient_id}-E1", laterality=side, view=view,
        image=np.round(image * MAX_VALUE).astype(np.uint16),
        photometric="MONOCHROME1" if patient.inverted else "MONOCHROME2",
        pixel_spacing=(config.spacing_mm, config.spacing_mm), findings=findings,
        distractors=[_finding(drawn, config, mirror, mask) for drawn in canvas.distractors],
        labels={label: int(label in pathologies) for label in ("benign", "malignant")},
        breast_mask=mask, breast_box=_extent(mask), pectoral=_pectoral(geometry, config, mirror),
        nipple=_to_image(geometry.nipple, config, mirror),
    )  # fmt: skip


def _finding(drawn: _Drawn, config: PhantomConfig, mirror: bool, breast_mask: np.ndarray) -> PhantomFinding:
    item, lesion = drawn.lesion.item, drawn.lesion
    mask = _full(drawn.rendered.body, drawn.rendered.origin, config)
    if mirror:
        mask = np.ascontiguousarray(mask[:, ::-1])
    mask &= breast_mask
    if isinstance(item, Cluster):
        kind, look = "calcification", "malignant" if item.malignant else "benign"
    else:
        kind, look = "distractor" if lesion.pathology == "none" else "mass", item.look
    return PhantomFinding(
        lesion_id=lesion.lesion_id, kind=kind, look=look, pathology=lesion.pathology, decided_by=lesion.decided_by,
        mask=mask, bbox=_extent(mask), centre=_to_image(drawn.centre, config, mirror),
        radius_mm=float(item.radius), contrast=float(item.contrast),
    )  # fmt: skip


def _full(patch: np.ndarray, origin: tuple[int, int], config: PhantomConfig) -> np.ndarray:
    """Put a bool patch into an image-sized mask."""
    mask = np.zeros((config.rows, config.cols), bool)
    target, source = _overlap(mask.shape, Rendered(patch, patch, origin))
    mask[target] = patch[source]
    return mask


def _extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width, height of the true pixels."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(cols[0]), int(rows[0]), int(cols[-1] - cols[0] + 1), int(rows[-1] - rows[0] + 1))


def _to_image(point: tuple[float, float], config: PhantomConfig, mirror: bool) -> tuple[float, float]:
    """Work coordinates in mm to image pixels (continuous: pixel (0, 0) covers 0..1)."""
    x, y = point[0] / config.spacing_mm, point[1] / config.spacing_mm
    return (float(config.cols - x if mirror else x), float(y))


def _pectoral(geometry: ViewGeometry, config: PhantomConfig, mirror: bool) -> list[list[float]] | None:
    if geometry.pectoral is None:
        return None
    points = np.clip(geometry.pectoral, 0, None)
    return [[round(v, 2) for v in _to_image((float(x), float(y)), config, mirror)] for x, y in points]
