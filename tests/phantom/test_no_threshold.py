"""Neither brightness nor blob filters tell lesions from look-alikes; structure does (see test_lesions.py)."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mammo_d2.phantom import PhantomConfig, generate_patient

CONFIG = PhantomConfig(
    n_patients=80, seed=5, rows=320, cols=256, marker_share=0.0, share_malignant=0.7, share_benign=0.0, share_both=0.0,
    share_calcification_malignant=0.0, share_calcification_benign=0.0, distractor_rate=1.0,
)  # fmt: skip
SIGMAS_MM = (1.5, 2.4, 4.0, 6.5, 9.0)


def responses(image: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """Largest brightness, blurred brightness and difference of Gaussians (the best scale, too) in a region."""
    blurred = [cv2.GaussianBlur(image, (0, 0), s / CONFIG.spacing_mm) for s in SIGMAS_MM]
    blobs = [float((fine - coarse)[where].max()) for fine, coarse in pairwise(blurred)]
    out = {"max": float(image[where].max()), "mean": float(image[where].mean()), "sd": float(image[where].std())}
    out |= {f"blurred {s} mm": float(level[where].max()) for s, level in zip(SIGMAS_MM, blurred, strict=True)}
    out |= {f"blob {s} mm": value for s, value in zip(SIGMAS_MM, blobs, strict=False)}
    return out | {"best blob": max(blobs)}


@pytest.fixture(scope="module")
def measured():
    """Responses of malignant candidates, look-alike candidates, positive images and negative images."""
    groups: dict[str, list[dict[str, float]]] = {name: [] for name in ("lesion", "distractor", "positive", "negative")}
    for index in range(CONFIG.n_patients):
        for view in generate_patient(CONFIG, index):
            image = view.image.astype(np.float32) / 4095
            for name, findings in (("lesion", view.findings), ("distractor", view.distractors)):
                for finding in findings:
                    x, y, width, height = finding.bbox
                    box = np.zeros(image.shape, bool)
                    box[y : y + height, x : x + width] = True
                    groups[name].append(responses(image, box & view.breast_mask))
            tissue = view.breast_mask.astype(np.uint8)
            if view.pectoral:
                cv2.fillPoly(tissue, [np.round(view.pectoral).astype(np.int32)], 0)
            inside = cv2.erode(tissue, np.ones((9, 9), np.uint8), borderValue=1) > 0
            groups["positive" if view.labels["malignant"] else "negative"].append(responses(image, inside))
    return groups


@pytest.mark.slow
@pytest.mark.parametrize(("positive", "negative"), [("lesion", "distractor"), ("positive", "negative")])
def test_no_threshold_finds_a_lesion(measured, positive, negative):
    first, second = measured[positive], measured[negative]
    assert len(first) >= 100
    assert len(second) >= 200
    truth = [1] * len(first) + [0] * len(second)
    for name in first[0]:
        auc = roc_auc_score(truth, [r[name] for r in first] + [r[name] for r in second])
        assert 0.35 <= auc <= 0.65, f"{positive} against {negative}: {name} has AUC {auc:.2f}"
