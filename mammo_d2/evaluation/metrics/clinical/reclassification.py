"""Net reclassification: who moves to a higher or lower risk when one model replaces another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mammo_d2.evaluation.metrics.calibration.calibration_error import check_probabilities

#: Printed beside every net reclassification improvement.
NRI_WARNING = (
    "Do not rest a claim on the NRI: a useless marker in a badly calibrated model can raise it, its usual p value "
    "rejects too often, and it weighs cases and non-cases alike whatever the prevalence (Pepe et al. 2015; Hilden & "
    "Gerds 2014; Kerr et al. 2014). Report its two parts with the tables, and the difference in AUC or net benefit."
)


@dataclass(frozen=True)
class Reclassification:
    """Net reclassification improvement (NRI) of a second model over a first.

    Attributes:
        events: part of the positive cases that move up minus the part that moves down.
        nonevents: part of the negative cases that move down minus the part that moves up.
        nri: their sum, from -2 to 2; no proportion.
        error, z, p, low, high: of the NRI, for independent cases; NaN where nobody moves.
        table_events, table_nonevents: (C, C) counts by category of the first (row) and second model (column).
    """

    events: float
    nonevents: float
    nri: float
    error: float
    z: float
    p: float
    low: float
    high: float
    table_events: np.ndarray
    table_nonevents: np.ndarray


def net_reclassification(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    cuts: Sequence[float] = (),
    confidence: float = 0.95,
) -> Reclassification:
    """Net reclassification improvement, with categories or (no cuts) for any change of probability.

    Formula: ``(up - down) / N`` among positives plus ``(down - up) / N`` among negatives; variance under no change
    ``(up + down) / N²`` of each (Pencina et al. 2008), for ``z`` and ``p``; for the limits the multinomial
    ``((up + down) / N - ((up - down) / N)²) / N`` (Pencina et al. 2011). Read ``NRI_WARNING`` first.

    Args:
        truth, first, second: (n,) truth and the probabilities of two models for the same independent cases.
        cuts: probabilities that separate risk categories, rising; a case at a cut belongs to the higher one.
        confidence: of the limits.

    Raises:
        ValueError: no probabilities, cuts that do not rise within (0, 1), or a class without cases.
    """
    y, a = check_probabilities(truth, first)
    _, b = check_probabilities(truth, second)
    edges = np.asarray(cuts, float)
    if len(edges) and (not (np.diff(edges) > 0).all() or edges[0] <= 0 or edges[-1] >= 1):
        raise ValueError(f"reclassification: cuts {', '.join(f'{c:g}' for c in cuts)} must rise within (0, 1)")
    if not y.any() or y.all():
        raise ValueError("reclassification needs positive and negative cases")
    before, after = np.digitize(a, edges), np.digitize(b, edges)
    step = np.sign(after - before) if len(edges) else np.sign(b - a).astype(int)
    shares, null, variance = [], 0.0, 0.0
    for group, sign in ((step[y], 1), (step[~y], -1)):
        n = len(group)
        moved, net = float((group != 0).sum()) / n, sign * float(group.sum()) / n
        shares.append(net)
        null += moved / n
        variance += (moved - net**2) / n
    nri = shares[0] + shares[1]
    z = nri / null**0.5 if null > 0 else float("nan")
    half = float(stats.norm.ppf((1 + confidence) / 2)) * variance**0.5 if null > 0 else float("nan")
    tables = [np.zeros((len(edges) + 1, len(edges) + 1), np.int64) for _ in range(2)]
    for table, chosen in zip(tables, (y, ~y), strict=True):
        np.add.at(table, (before[chosen], after[chosen]), 1)
    return Reclassification(
        shares[0],
        shares[1],
        nri,
        null**0.5 if null > 0 else float("nan"),
        z,
        float(2 * stats.norm.sf(abs(z))),
        nri - half,
        nri + half,
        tables[0],
        tables[1],
    )
