"""Which images are shown where not all can be: a choice that does not depend on predictions."""

from __future__ import annotations

import numpy as np


def spread(rows: np.ndarray, limit: int) -> np.ndarray:
    """At most ``limit`` of ``rows``, first and last included, evenly spaced."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(int)]
