"""Saliency maps of predicted files."""

import numpy as np
import pytest

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.pictures.saliency_maps import find_saliency, read_saliency, write_saliency

FLIPPED = ImageTransform((8, 6), (2, 0, 4, 8), True, (0.5, 0.5))


def test_maps_come_back_on_the_source(tmp_path):
    maps = np.array([[[0.25, 0.5], [0.75, 1.0]]])
    path = write_saliency(tmp_path, 7, "exam 1/L CC.dcm", maps, ["malignant"], FLIPPED)
    assert path.name == "00007_L_CC.npz"
    assert find_saliency(tmp_path, 7) == path
    assert find_saliency(tmp_path, 8) is None
    read = read_saliency(path)
    assert (read.classes, read.transform) == (("malignant",), FLIPPED)
    on_source = read.on_source()
    assert on_source.shape == (1, 8, 6)
    # The crop is columns 2 to 5, mirrored: its right half is the map's left column.
    np.testing.assert_array_equal(on_source[0, 0], [0, 0, 0.5, 0.5, 0.25, 0.25])
    np.testing.assert_array_equal(on_source[0, 7], [0, 0, 1, 1, 0.75, 0.75])


def test_the_same_maps_give_the_same_file(tmp_path):
    maps = np.random.default_rng(0).random((2, 5, 4))
    files = [write_saliency(tmp_path / n, 1, "a.png", maps, ["a", "b"], FLIPPED) for n in ("1", "2")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_map_per_class(tmp_path):
    with pytest.raises(ValueError, match=r"a.png: saliency of shape \(1, 2, 2\) for 2 classes"):
        write_saliency(tmp_path, 1, "a.png", np.zeros((1, 2, 2)), ["a", "b"], FLIPPED)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"transform": None}, "has no transform"),
        ({"transform": np.array("{}")}, "source_size"),
        ({"saliency": np.zeros((2, 2))}, "not one finite map per class"),
        ({"saliency": np.full((1, 2, 2), np.nan)}, "not one finite map per class"),
    ],
)
def test_a_damaged_file(tmp_path, change, problem):
    path = write_saliency(tmp_path, 1, "a.png", np.zeros((1, 2, 2)), ["a"], FLIPPED)
    with np.load(path) as content:
        arrays = {**content, **change}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=f"{problem}.*predict the file again with --saliency"):
        read_saliency(path)
