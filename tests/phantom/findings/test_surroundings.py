import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from mammo_d2.phantom import PhantomConfig, generate_patient
from mammo_d2.phantom import patient as patient_module
from mammo_d2.phantom.findings.surroundings import disturb

# A fifth of the patients have a mass of either pathology, half of those in the same breast.
CONFIG = PhantomConfig(
    n_patients=80, seed=5, rows=320, cols=256, marker_share=0.0, share_malignant=0.4, share_benign=0.4, share_both=0.2,
    share_calcification_malignant=0.0, share_calcification_benign=0.0, context_malignancy=1.0,
)  # fmt: skip


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


def radial_share(image: np.ndarray, ring: np.ndarray, centre: tuple[float, float]) -> float:
    """Share of the gradient energy in a ring that runs along the radius; ``centre`` (x, y) in pixels."""
    gx, gy = cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1)
    rows, cols = np.indices(image.shape)
    x, y = cols + 0.5 - centre[0], rows + 0.5 - centre[1]
    along = (gx * x + gy * y) / np.hypot(x, y)
    return float((along[ring] ** 2).sum() / (gx[ring] ** 2 + gy[ring] ** 2).sum())


def test_the_strands_point_to_the_mass():
    before, after, distance, _ = disturbed()
    ring = (distance > 20) & (distance < 30)
    # About half of an undirected pattern's gradient runs along the radius, none of a radial line's.
    assert 0.4 < radial_share(before, ring, (120, 120)) < 0.6
    assert radial_share(after, ring, (120, 120)) < 0.25


def test_another_finding_is_spared():
    spacing, centre, radius, other, size = 0.5, (60.0, 60.0), 8.0, (85.0, 60.0), 6.0
    image = np.random.default_rng(0).random((240, 240), np.float32)
    free, spared = image.copy(), image.copy()
    disturb(free, spacing, centre, radius, 0.1, 1, 0)
    disturb(spared, spacing, centre, radius, 0.1, 1, 0, [(other, size)])
    rows, cols = (np.indices(image.shape) + 0.5) * spacing
    near = np.hypot(cols - other[0], rows - other[1]) < 2 * size - spacing
    assert np.abs(free - image)[near].max() > 0.1
    np.testing.assert_allclose(spared[near], image[near], atol=2e-5)
    np.testing.assert_array_equal(spared[:, :120], free[:, :120])  # away from the other finding nothing changes


def test_no_close_crop_changes_with_its_surroundings(monkeypatch):
    """All masses of a patient with and without the disturbance, to the last grey level of 4095."""
    disturbed_views = [generate_patient(CONFIG, i) for i in range(25)]
    pairs = sum(len(view.findings) == 2 for views in disturbed_views for view in views)
    assert pairs >= 2
    monkeypatch.setattr(patient_module, "disturb", lambda *args: None)
    changed = 0
    for index, views in enumerate(disturbed_views):
        for told, plain in zip(views, generate_patient(CONFIG, index), strict=True):
            changed += not np.array_equal(told.image, plain.image)
            for finding in told.findings:
                x, y, width, height = finding.bbox
                crop = slice(y, y + height), slice(x, x + width)
                assert np.abs(told.image[crop].astype(int) - plain.image[crop]).max() <= 1
    assert changed >= 20


def test_the_surroundings_tell_and_the_close_crop_does_not():
    truth, measured = [], []
    for index in range(CONFIG.n_patients):
        for view in generate_patient(CONFIG, index):
            image = view.image.astype(np.float32) / 4095
            smooth = cv2.GaussianBlur(image, (0, 0), 0.8 / CONFIG.spacing_mm)
            rows, cols = np.indices(image.shape)
            for finding in view.findings:
                x, y, width, height = finding.bbox
                crop = slice(y, y + height), slice(x, x + width)
                radius = finding.radius_mm / CONFIG.spacing_mm
                distance = np.hypot(cols + 0.5 - finding.centre[0], rows + 0.5 - finding.centre[1])
                ring = (distance > 2.5 * radius) & (distance < 4.5 * radius) & view.breast_mask
                truth.append(finding.pathology == "malignant")
                measured.append(
                    {
                        "brightness": image[crop].mean(),
                        "contrast": image[crop].std(),
                        "detail": (image - smooth)[crop].std(),
                        "strands": -radial_share(smooth, ring, finding.centre),
                    }
                )
    assert len(truth) >= 150
    auc = {name: roc_auc_score(truth, [one[name] for one in measured]) for name in measured[0]}
    for name in ("brightness", "contrast", "detail"):
        assert 0.42 <= auc[name] <= 0.58, f"{name} of the close crop has AUC {auc[name]:.2f}"
    assert auc["strands"] > 0.65


def test_nothing_beyond_its_reach_and_no_error_at_the_image_border():
    before, after, distance, _ = disturbed(centre=(5.0, 110.0))
    far = distance > 5 * 8.0 + 1
    np.testing.assert_array_equal(after[far], before[far])
    assert np.isfinite(after).all()
