import cv2
import numpy as np

from mammo_d2.data.phantom.surroundings import disturb


def disturbed(centre=(60.0, 60.0)):
    """A lattice before and after, and the distance of every pixel from the centre in mm."""
    spacing, radius = 0.5, 8.0
    rows, cols = np.indices((240, 240))
    before = (0.3 + 0.05 * np.sin(rows / 6) * np.sin(cols / 6)).astype(np.float32)
    after = before.copy()
    disturb(after, spacing, centre, radius, 0.1, seed=1, view=0)
    distance = np.hypot((cols + 0.5) * spacing - centre[0], (rows + 0.5) * spacing - centre[1])
    return before, after, distance, radius


def test_a_close_crop_is_unchanged():
    before, after, distance, radius = disturbed()
    inside = distance < 2 * radius - 0.5
    # Up to interpolation at unmoved sample points.
    np.testing.assert_allclose(after[inside], before[inside], atol=2e-5)


def test_the_ring_is_denser_and_streaked():
    before, after, distance, _ = disturbed()
    ring = (distance > 22) & (distance < 28)
    assert (after - before)[ring].mean() > 0.02
    assert (after - before)[ring].std() > 0.02


def test_the_strands_point_to_the_mass():
    def radial_share(image: np.ndarray, ring: np.ndarray) -> float:
        gx, gy = cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1)
        rows, cols = np.indices(image.shape)
        x, y = (cols + 0.5) * 0.5 - 60.0, (rows + 0.5) * 0.5 - 60.0
        along = (gx * x + gy * y) / np.hypot(x, y)
        return float((along[ring] ** 2).sum() / (gx[ring] ** 2 + gy[ring] ** 2).sum())

    before, after, distance, _ = disturbed()
    ring = (distance > 20) & (distance < 30)
    # About half of an undirected pattern's gradient runs along the radius, none of a radial line's.
    assert 0.4 < radial_share(before, ring) < 0.6
    assert radial_share(after, ring) < 0.25


def test_nothing_beyond_its_reach_and_no_error_at_the_image_border():
    before, after, distance, _ = disturbed(centre=(5.0, 110.0))
    far = distance > 5 * 8.0 + 1
    np.testing.assert_array_equal(after[far], before[far])
    assert np.isfinite(after).all()
