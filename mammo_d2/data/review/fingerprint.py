"""What one image is recognised by: its pixels exactly, its coarse texture, and small structures with their places.

Mammograms look alike: of 64-bit perceptual hashes (DCT, of the breast's box) of 1,225 films, two different patients
differed in as few as 2 bits, and copies of a film with another window in up to 32 (median 6). So an image is searched
by its texture, and a pair found is compared structure by structure (see ``near_duplicates``).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammo_d2.core.files import sha256_bytes
from mammo_d2.data.breast.mask import breast_mask, chest_wall_side

# Sides of the texture's grid, and of the copy that it is computed on.
_TEXTURE, _TEXTURE_COPY = 32, 64
# Height of the copy in which structures are found, and how many are kept.
_STRUCTURE_HEIGHT, _STRUCTURES = 256, 300


@dataclass(frozen=True)
class Fingerprint:
    """Of one image; texture and structures of images whose chest wall is on the right are those of the mirrored image.

    Attributes:
        sha256: of size, type and pixel values.
        texture: float16 (1024,), zero mean, norm 1 (0 for an image without contrast): local contrast on a grid.
        places: float16 (n, 2): x, y of structures, in a copy 256 pixels high.
        structures: uint8 (n, 32): their ORB descriptors.
    """

    sha256: str
    texture: np.ndarray
    places: np.ndarray
    structures: np.ndarray


def fingerprint(pixels: np.ndarray) -> Fingerprint:
    """Compute the fingerprint of an image (H, W) of any numeric type, bright on dark; takes some milliseconds."""
    sha256 = sha256_bytes(f"{pixels.shape} {pixels.dtype}".encode() + np.ascontiguousarray(pixels).tobytes())
    height = 2 * _STRUCTURE_HEIGHT
    width = max(8, round(height * pixels.shape[1] / pixels.shape[0]))
    small = cv2.resize(pixels.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, (0.5, 99.5))
    scaled = ((small - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(small)
    image = (255 * scaled).round().astype(np.uint8)
    mask = breast_mask(image)
    if chest_wall_side(mask) == "right":
        image, mask = np.ascontiguousarray(image[:, ::-1]), mask[:, ::-1]
    places, structures = _structures(image, mask)
    return Fingerprint(sha256, _texture(image), places, structures)


def _texture(image: np.ndarray) -> np.ndarray:
    """Band-pass, divided by its local strength, so that gamma and window hardly change it."""
    small = cv2.resize(image, (_TEXTURE_COPY, _TEXTURE_COPY), interpolation=cv2.INTER_AREA).astype(np.float32)
    band = cv2.GaussianBlur(small, (0, 0), 1) - cv2.GaussianBlur(small, (0, 0), 3)
    # Half a grey level: below it there is noise only.
    band /= np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 4)) + 0.5
    values = cv2.resize(band, (_TEXTURE, _TEXTURE), interpolation=cv2.INTER_AREA).ravel()
    values -= values.mean()
    return (values / max(float(np.linalg.norm(values)), 1e-6)).astype(np.float16)


def _structures(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and descriptors of corners in the breast after local equalisation; labels of many films are the same."""
    width = max(8, round(image.shape[1] * _STRUCTURE_HEIGHT / image.shape[0]))
    small = cv2.resize(image, (width, _STRUCTURE_HEIGHT), interpolation=cv2.INTER_AREA)
    equalised = cv2.createCLAHE(clipLimit=4, tileGridSize=(4, 4)).apply(small)
    inside = cv2.resize(mask.astype(np.uint8), (width, _STRUCTURE_HEIGHT), interpolation=cv2.INTER_NEAREST)
    found, descriptors = cv2.ORB.create(_STRUCTURES, fastThreshold=5).detectAndCompute(equalised, inside)
    if descriptors is None:
        return np.zeros((0, 2), np.float16), np.zeros((0, 32), np.uint8)
    return np.array([point.pt for point in found], np.float16).reshape(-1, 2), descriptors
