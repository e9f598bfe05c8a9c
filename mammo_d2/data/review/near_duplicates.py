"""Images that are nearly the same: the same film or exposure with another window, compression, size, crop, or mirrored.

Two steps: for each image the few others of the most similar texture; of these pairs, those in which many small
structures lie in the same arrangement. Two exposures of one breast are not found: the compression differs.

On 1,225 film mammograms reduced to 512 x 307 pixels, copies of every 25th: the texture finds the original among the
nearest five for all copies with another gamma, window, JPEG quality 60 at half size, or rotated by 2 degrees, and for
48 of 49 that lost 3 % above and below and 5 % at one side; one that lost more (7 to 15 %) is mostly missed (6 of 49).
Such pairs share at least 25 structures; the most similar ones of different films (980 pairs) shared at most 13.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from mammo_d2.data.review.fingerprint import Fingerprint

# Neighbours by texture that are looked at, and the least correlation of textures.
_NEIGHBOURS, _LEAST_CORRELATION = 5, 0.35
#: Least number of structures in the same arrangement.
LEAST_SHARED = 20
# Rows of the matrix of correlations that are computed together.
_BLOCK = 1024
# A structure's match must be better than the second best by this factor (Lowe's ratio).
_RATIO = 0.8
# Distance at which two places are the same, in pixels of a copy 256 pixels high.
_SAME_PLACE = 3.0


def near_duplicates(prints: Sequence[Fingerprint], least: int = LEAST_SHARED) -> list[tuple[int, int, int]]:
    """Pairs of images that are nearly, or exactly, the same.

    The time of the first step grows with the square of the number of images: 0.65 s of one core for 4,000, so 7 minutes
    for 100,000.

    Args:
        prints: of the images.
        least: number of structures that a pair must share.

    Returns:
        (i, j, shared structures) with i < j, most shared first. Images without structure are in no pair.
    """
    found = []
    for i, j in sorted(set(_similar_pairs(prints))):
        shared = shared_structures(prints[i], prints[j])
        if shared >= least:
            found.append((i, j, shared))
    return sorted(found, key=lambda pair: (-pair[2], pair[:2]))


def shared_structures(first: Fingerprint, second: Fingerprint) -> int:
    """Number of structures of two images that lie in the same arrangement, up to shift, rotation and scale."""
    if min(len(first.places), len(second.places)) < 2:
        return 0
    matches = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(first.structures, second.structures, k=2)
    good = [best for best, next_best in matches if best.distance < _RATIO * next_best.distance]
    if len(good) < 6:
        return 0
    source = first.places[[match.queryIdx for match in good]].astype(np.float32)
    target = second.places[[match.trainIdx for match in good]].astype(np.float32)
    cv2.setRNGSeed(0)  # of RANSAC
    arrangement, inside = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=_SAME_PLACE)
    return 0 if arrangement is None else int(inside.sum())


def _similar_pairs(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """(i, j), i < j: each image with its nearest by texture."""
    count = len(prints)
    if count < 2:
        return
    textures = np.stack([one.texture for one in prints]).astype(np.float32)
    nearest = min(_NEIGHBOURS, count - 1)
    for start in range(0, count, _BLOCK):
        correlation = textures[start : start + _BLOCK] @ textures.T
        rows = np.arange(len(correlation))
        correlation[rows, start + rows] = -1
        others = np.argpartition(-correlation, nearest - 1, axis=1)[:, :nearest]
        for row, columns in enumerate(others):
            for column in columns:
                if correlation[row, column] >= _LEAST_CORRELATION:
                    i, j = sorted((start + row, int(column)))
                    yield i, j
