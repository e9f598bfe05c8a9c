import numpy as np

from mammo_d2.data.review.fingerprint import fingerprint
from tests.data.review.textured_breasts import textured_breast

IMAGE = textured_breast(0)


def test_the_hash_is_of_size_type_and_values():
    same, changed = fingerprint(IMAGE.copy()), IMAGE.copy()
    changed[200, 50] += 1
    assert fingerprint(IMAGE).sha256 == same.sha256
    hashes = {fingerprint(pixels).sha256 for pixels in (IMAGE, changed, IMAGE.T, IMAGE.astype(np.float32))}
    assert len(hashes) == 4


def test_texture_hardly_changes_with_gamma_and_is_its_own():
    texture = fingerprint(IMAGE).texture.astype(np.float64)
    assert abs(np.linalg.norm(texture) - 1) < 1e-3
    gamma = (65535 * (IMAGE / 65535) ** 1.4).astype(np.uint16)
    assert texture @ fingerprint(gamma).texture > 0.9
    assert texture @ fingerprint(textured_breast(1)).texture < 0.8


def test_a_mirrored_image_has_the_same_texture_and_structures():
    # Up to the rounding of the reduced copy.
    mirrored = fingerprint(IMAGE[:, ::-1])
    assert fingerprint(IMAGE).texture @ mirrored.texture.astype(np.float64) > 0.99
    assert mirrored.sha256 != fingerprint(IMAGE).sha256


def test_an_image_without_contrast():
    empty = fingerprint(np.full((40, 30), 7, np.uint8))
    assert not empty.texture.any()
    assert empty.places.shape == (0, 2)
    assert empty.structures.shape == (0, 32)
