import numpy as np

from mammo_d2.phantom.breast.background import add_marker, film_background


def test_marker_lies_in_the_background_away_from_the_chest_wall():
    for side in ("L", "R"):
        mask = np.zeros((320, 256), bool)
        mask[40:280, :120] = True
        if side == "R":
            mask = mask[:, ::-1]
        image = np.zeros(mask.shape, np.float32)
        assert add_marker(image, mask, f"{side} CC", 0.75, False, np.random.default_rng(0))
        assert not image[mask].any()
        cols = np.flatnonzero(image.any(0))
        assert len(cols) > 10
        assert (cols.min() > 128) == (side == "L")


def test_no_marker_without_room():
    image, mask = np.zeros((320, 256), np.float32), np.ones((320, 256), bool)
    assert not add_marker(image, mask, "L CC", 0.75, True, np.random.default_rng(0))
    assert not image.any()


def test_film_has_fog():
    image = np.zeros((320, 256), np.float32)
    film_background(image, np.random.default_rng(0))
    assert 0.01 < image.mean() < 0.06
    assert image.std() > 0.002
