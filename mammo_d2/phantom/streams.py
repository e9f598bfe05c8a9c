"""Independent random streams, one for each thing that is drawn.

Every stream is keyed by the set's seed, the patient and the purpose. A setting that adds a lesion or a look-alike
therefore leaves the tissue, and every other patient, as it was.
"""

from __future__ import annotations

import numpy as np

from mammo_d2.phantom.settings import CLASS_SHARES, PhantomConfig

# Purposes; numbers are part of the reproducibility contract: add new ones at the end, never renumber.
_NAMES = "assignment patient outline tissue finding place distractor film marker noise"
_PURPOSES = {name: number for number, name in enumerate(_NAMES.split())}


def stream(config: PhantomConfig, index: int, purpose: str, *keys: int) -> np.random.Generator:
    """The generator for one purpose of one patient.

    Args:
        config: gives the seed.
        index: patient index.
        purpose: one of the fixed purposes ("tissue", "finding", ...).
        keys: further non-negative integers, such as the side and the view.
    """
    return np.random.default_rng([config.seed, index, _PURPOSES[purpose], *keys])


def class_counts(config: PhantomConfig) -> dict[str, int]:
    """Number of patients of every class, healthy last, by largest remainder: they sum to ``n_patients`` exactly."""
    shares = {name: float(getattr(config, field)) for name, field in CLASS_SHARES.items()}
    shares["healthy"] = max(0.0, 1.0 - sum(shares.values()))
    return _largest_remainder(shares, config.n_patients)


def assign_classes(config: PhantomConfig) -> list[str]:
    """Class of every patient index: the counts of ``class_counts`` in a seeded random order."""
    names = [name for name, count in class_counts(config).items() for _ in range(count)]
    order = np.random.default_rng([config.seed, 0, _PURPOSES["assignment"], 1]).permutation(config.n_patients)
    return [names[i] for i in order]


def assign_share(config: PhantomConfig, share: float, purpose: int) -> np.ndarray:
    """A seeded bool array over patients of which exactly ``round(share * n_patients)`` are true.

    ``purpose`` is an integer above 1, different for every property.
    """
    rank = np.random.default_rng([config.seed, 0, _PURPOSES["assignment"], purpose]).permutation(config.n_patients)
    return rank < int(np.floor(share * config.n_patients + 0.5))


def _largest_remainder(shares: dict[str, float], total: int) -> dict[str, int]:
    exact = {name: share * total for name, share in shares.items()}
    counts = {name: int(np.floor(value + 1e-9)) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
