import cv2
import numpy as np
import pytest

from mammo_d2.phantom.findings.lesions import LOOKS, blob_strength, draw_mass, patch_grid, render_mass

SIZES = (12.0, 20.0)


def draw(look: str, seed: int):
    return draw_mass(look, SIZES, 1.0, np.random.default_rng(seed))


@pytest.mark.parametrize("look", LOOKS)
def test_size_and_contrast_do_not_depend_on_the_look(look):
    drawn, reference = draw(look, 5), draw("malignant", 5)
    assert (drawn.radius, drawn.contrast) == (reference.radius, reference.contrast)
    assert SIZES[0] / 2 <= drawn.radius <= SIZES[1] / 2


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("spacing", [0.75, 0.3])
def test_blob_strength_is_the_contrast(look, spacing):
    mass = draw(look, 8)
    rendered = render_mass(mass, (50.0, 60.0), spacing, 0)
    assert blob_strength(rendered.pattern, spacing) == pytest.approx(mass.contrast, rel=1e-4)


def test_patch_grid_is_centred_on_the_point():
    # 0.5 mm pixels: (10, 20) mm is the corner of pixel (row 40, col 20), whose centre is 0.25 mm further.
    x, y, origin = patch_grid((10.0, 20.0), 2.0, 0.5)
    assert origin == (36, 16)
    assert x.shape == (1, 9)
    assert y.shape == (9, 1)
    assert x[0, 4] == pytest.approx(0.25)
    assert y[4, 0] == pytest.approx(0.25)


@pytest.mark.parametrize("look", ["malignant", "benign", "island"])
def test_body_has_the_drawn_size_and_place(look):
    for seed in range(5):
        mass = draw(look, seed)
        rendered = render_mass(mass, (50.0, 60.0), 0.4, 1)
        diameter = 2 * np.sqrt(rendered.body.sum() * 0.4**2 / np.pi)
        assert diameter == pytest.approx(2 * mass.radius, rel=0.25)
        rows, cols = np.nonzero(rendered.body)
        centre = ((cols.mean() + rendered.origin[1] + 0.5) * 0.4, (rows.mean() + rendered.origin[0] + 0.5) * 0.4)
        assert np.hypot(centre[0] - 50, centre[1] - 60) < 0.4 * mass.radius
        number, _ = cv2.connectedComponents(rendered.body.astype(np.uint8))
        assert number == 2  # background and one piece


def convergence(look: str, seed: int) -> float:
    """How much of the structure around the body points to its centre: radial over all gradient energy.

    Lines that run to the centre have gradients perpendicular to the radius, so 0 is perfect convergence and about 0.5
    is none. Taken between 1.5 and 2 radii.
    """
    mass = draw(look, seed)
    rendered = render_mass(mass, (50.0, 60.0), 0.4, 0)
    gx, gy = cv2.Sobel(rendered.pattern, cv2.CV_32F, 1, 0), cv2.Sobel(rendered.pattern, cv2.CV_32F, 0, 1)
    rows, cols = np.indices(rendered.pattern.shape)
    x = (cols + rendered.origin[1] + 0.5) * 0.4 - 50
    y = (rows + rendered.origin[0] + 0.5) * 0.4 - 60
    distance = np.hypot(x, y)
    ring = (distance > 1.5 * mass.radius) & (distance < 2.0 * mass.radius)
    radial = (gx * x + gy * y) / distance
    return float((radial[ring] ** 2).sum() / (gx[ring] ** 2 + gy[ring] ** 2).sum())


def test_spicules_converge_and_strands_do_not():
    spiculated = np.array([convergence("malignant", seed) for seed in range(20)])
    crossing = np.array([convergence("crossing", seed) for seed in range(20)])
    assert np.median(spiculated) < 0.15
    assert np.median(crossing) > 0.4
    assert (spiculated[:, None] < crossing[None, :]).mean() > 0.95


def edge_width(look: str, seed: int, likeness: float = 0.5) -> float:
    """Median width of the margin in radii: fall from 80 % to 20 % of the inner brightness along a ray."""
    mass = draw_mass(look, SIZES, 1.0, np.random.default_rng(seed), likeness)
    rendered = render_mass(mass, (50.0, 60.0), 0.2, 0)
    cy, cx = 60 / 0.2 - 0.5 - rendered.origin[0], 50 / 0.2 - 0.5 - rendered.origin[1]
    widths = []
    for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
        steps = np.arange(0, 1.9 * mass.radius / 0.2, 0.5)
        ray = cv2.remap(rendered.pattern, (cx + steps * np.cos(angle)).astype(np.float32)[None],
                        (cy + steps * np.sin(angle)).astype(np.float32)[None], cv2.INTER_LINEAR)[0]  # fmt: skip
        inner = np.median(ray[steps * 0.2 < 0.4 * mass.radius])
        low = np.flatnonzero(ray < 0.2 * inner)
        if len(low) and (ray[: low[0]] > 0.8 * inner).any():
            high = np.flatnonzero(ray[: low[0]] > 0.8 * inner)[-1]
            widths.append((low[0] - high) * 0.5 * 0.2 / mass.radius)
    return float(np.median(widths))


def test_look_alikes_have_a_gradual_margin():
    benign = np.mean([edge_width("benign", seed) for seed in range(6)])
    island = np.mean([edge_width("island", seed) for seed in range(6)])
    assert benign < 0.3
    assert island > 2 * benign


def test_likeness_sharpens_look_alikes_and_changes_nothing_else():
    wide, sharp = (np.mean([edge_width("island", seed, likeness) for seed in range(6)]) for likeness in (0.0, 1.0))
    assert wide > 1.3 * sharp
    unlike, like = (draw_mass("crossing", SIZES, 1.0, np.random.default_rng(4), likeness) for likeness in (0.0, 1.0))
    assert unlike.margin > like.margin
    for name in ("radius", "contrast", "lobes", "spicules", "reach", "spicule_strength", "seed"):
        assert getattr(unlike, name) == getattr(like, name)


def test_views_differ_but_share_the_character():
    mass = draw("malignant", 3)
    first, again, other = (render_mass(mass, (50.0, 60.0), 0.4, view).pattern for view in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.2 * mass.contrast


def test_unknown_look():
    with pytest.raises(ValueError, match=r"look 'cyst'.*malignant"):
        draw("cyst", 0)
