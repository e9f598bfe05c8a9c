"""Settings of the phantom generator: one frozen, validated dataclass.

All lengths are millimetres in the detector plane. Settings are independent of the image size: a phantom of 416 x 320
pixels shows the same breasts as one of 3328 x 2560, only coarser.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any


class PhantomConfigError(ValueError):
    """A setting of ``PhantomConfig`` is out of range; the message names the field, its value and the remedy."""


# The classes of patients and the field that holds each one's share; the rest of the patients are healthy.
CLASS_SHARES = {
    "malignant": "share_malignant",
    "benign": "share_benign",
    "both": "share_both",
    "calcification_malignant": "share_calcification_malignant",
    "calcification_benign": "share_calcification_benign",
}
PATIENT_CLASSES = (*CLASS_SHARES, "healthy")

_SHARES = (
    *CLASS_SHARES.values(),
    "distractor_rate",
    "distractor_rate_positive",
    "distractor_second",
    "distractor_likeness",
    "context_malignancy",
    "monochrome1_share",
    "film_share",
    "marker_share",
)


@dataclass(frozen=True)
class PhantomConfig:
    """What ``generate_patient`` and ``write_phantom`` make.

    Everything random is decided by ``seed`` and the patient's index; the assignment of classes to indices also depends
    on ``n_patients`` and the shares, because the shares are met exactly (largest remainder) for the whole set.

    Attributes:
        n_patients: number of patients; each has four views (L/R x CC/MLO; but see ``positive_breasts_only``).
        seed: non-negative seed of the whole set.
        rows, cols: image size in pixels.
        field_height_mm: height of the image in the detector plane; pixels are square with side
            ``field_height_mm / rows``.
        share_malignant: share of patients with one malignant-looking mass in one breast.
        share_benign: share of patients with one benign-looking mass in one breast.
        share_both: share of patients with a malignant mass and, in the same or the other breast, a benign one.
        share_calcification_malignant: share of patients with a cluster of fine pleomorphic calcifications.
        share_calcification_benign: share of patients with coarse calcifications. The remaining patients are healthy.
        distractor_rate: probability that a view of a breast without any finding shows look-alikes (superimposed
            tissue). Drawn for each view on its own, as superposition is seen in one projection only.
        distractor_rate_positive: the same for views of breasts that do have a finding. 0 by default: a detector that
            is trained on annotated images only has then never seen a look-alike.
        distractor_second: probability that a view with a look-alike has a second one.
        distractor_likeness: 0..1, how much the body of a look-alike resembles that of a malignant mass. 0: a broad,
            gradual margin; 1: almost as sharp and jagged, so that only the missing spicules tell it apart. Size and
            contrast are the same at any value.
        contrast_scale: factor on the contrast of all findings and look-alikes; below 1 is more subtle.
        positive_breasts_only: of patients with a finding, make only the breasts that have one. Otherwise at least half
            of such a patient's images are normal, and no shares of patients make normal images rare.
        lesion_size_mm: smallest and largest diameter of a mass or look-alike.
        context_malignancy: share of the masses (0..1) whose pathology shows in their surroundings alone. Such a mass
            looks intermediate whatever its pathology; a malignant one pulls in the tissue around it (long strands that
            point to it but stop well short of it, and a dense neighbourhood), a benign one leaves it unchanged.
            The other masses look like what they are, in undisturbed surroundings.
        monochrome1_share: share of patients (met exactly) whose files are stored as MONOCHROME1.
        film_share: share of patients (met exactly) that look like digitised film: grain, fogged background, wider
            tonal range at the edge.
        marker_share: probability that an image carries a burnt-in view marker in the background.
        patient_prefix: start of every patient identifier.
    """

    n_patients: int = 40
    seed: int = 0
    rows: int = 832
    cols: int = 640
    field_height_mm: float = 240.0
    share_malignant: float = 0.35
    share_benign: float = 0.15
    share_both: float = 0.05
    share_calcification_malignant: float = 0.05
    share_calcification_benign: float = 0.05
    distractor_rate: float = 0.8
    distractor_rate_positive: float = 0.0
    distractor_second: float = 0.35
    distractor_likeness: float = 0.5
    contrast_scale: float = 1.0
    positive_breasts_only: bool = False
    lesion_size_mm: tuple[float, float] = (11.0, 24.0)
    context_malignancy: float = 0.0
    monochrome1_share: float = 0.2
    film_share: float = 0.25
    marker_share: float = 0.7
    patient_prefix: str = "PH"

    def __post_init__(self) -> None:
        _require(_is_int(self.n_patients) and self.n_patients >= 1, self, "n_patients", "use an integer of at least 1")
        _require(_is_int(self.seed) and self.seed >= 0, self, "seed", "use a non-negative integer")
        for name in ("rows", "cols"):
            value = getattr(self, name)
            _require(_is_int(value) and 128 <= value <= 8192, self, name, "use an integer from 128 to 8192")
        _require(0.9 <= self.rows / self.cols <= 2.0, self, "rows", "keep rows / cols between 0.9 and 2")
        _require(
            _is_number(self.field_height_mm) and 180 <= self.field_height_mm <= 320,
            self, "field_height_mm", "use a detector height from 180 to 320 mm",
        )  # fmt: skip
        for name in _SHARES:
            value = getattr(self, name)
            _require(_is_number(value) and 0 <= value <= 1, self, name, "use a share from 0 to 1")
        total = sum(getattr(self, name) for name in CLASS_SHARES.values())
        if total > 1 + 1e-9:
            raise PhantomConfigError(
                f"PhantomConfig: the shares {', '.join(CLASS_SHARES.values())} sum to {total:g}; "
                "lower them to at most 1 (what is left are healthy patients)."
            )
        _require(
            _is_number(self.contrast_scale) and 0 < self.contrast_scale <= 3,
            self, "contrast_scale", "use a factor above 0, at most 3",
        )  # fmt: skip
        _require(
            isinstance(self.positive_breasts_only, bool), self, "positive_breasts_only", "use true or false",
        )  # fmt: skip
        sizes = self.lesion_size_mm
        _require(
            isinstance(sizes, (tuple, list)) and len(sizes) == 2 and all(_is_number(s) for s in sizes)
            and 4 <= sizes[0] <= sizes[1] <= 40,
            self, "lesion_size_mm", "use (smallest, largest) diameters with 4 <= smallest <= largest <= 40",
        )  # fmt: skip
        object.__setattr__(self, "lesion_size_mm", (float(sizes[0]), float(sizes[1])))
        _require(
            isinstance(self.patient_prefix, str) and self.patient_prefix.isalnum() and len(self.patient_prefix) <= 16,
            self, "patient_prefix", "use 1 to 16 letters and digits",
        )  # fmt: skip

    @property
    def spacing_mm(self) -> float:
        """Side of a pixel in millimetres."""
        return self.field_height_mm / self.rows

    @property
    def field_width_mm(self) -> float:
        """Width of the image in millimetres."""
        return self.cols * self.spacing_mm

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> PhantomConfig:
        """Build from a plain dict (of a JSON or YAML file); an unknown key raises ``PhantomConfigError``."""
        known = [f.name for f in fields(cls)]
        for name, value in settings.items():
            if name not in known:
                raise PhantomConfigError(
                    f"PhantomConfig: unknown field '{name}' (value {value!r}); use one of {', '.join(known)}."
                )
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """All settings as a JSON-able dict; ``from_dict`` reads it back."""
        return {**asdict(self), "lesion_size_mm": list(self.lesion_size_mm)}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(fits: bool, config: PhantomConfig, field: str, remedy: str) -> None:
    if not fits:
        raise PhantomConfigError(f"PhantomConfig: field '{field}' is {getattr(config, field)!r}; {remedy}.")
