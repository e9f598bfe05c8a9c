import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.core.image_transform import ImageTransform

# A source of 100 x 80 (H x W); columns 10..49 and rows 20..79 are kept, mirrored, then halved in y and doubled in x.
TRANSFORM = ImageTransform((100, 80), (10, 20, 40, 60), True, (0.5, 2.0))


def test_prepared_size_is_scaled_crop():
    assert TRANSFORM.prepared_size == (30, 80)


def test_box_to_prepared_by_hand():
    # x: 15 - 10 = 5 and 25 - 10 = 15; mirrored in 40: 35 and 25; times 2: 50..70. y: (30 - 20) / 2 .. (50 - 20) / 2.
    np.testing.assert_allclose(TRANSFORM.boxes_to_prepared([[15, 30, 25, 50]]), [[50, 5, 70, 15]])
    np.testing.assert_allclose(TRANSFORM.boxes_to_source([50, 5, 70, 15]), [15, 30, 25, 50])


def test_points_by_hand():
    np.testing.assert_allclose(TRANSFORM.points_to_prepared([[10, 20], [50, 80]]), [[80, 0], [0, 30]])
    np.testing.assert_allclose(TRANSFORM.points_to_source([[80, 0], [0, 30]]), [[10, 20], [50, 80]])


def test_no_boxes():
    assert TRANSFORM.boxes_to_source(np.zeros((0, 4))).shape == (0, 4)
    assert TRANSFORM.boxes_to_prepared([]).shape == (0, 4)


def test_inputs_are_not_changed():
    boxes = np.array([[15.0, 30.0, 25.0, 50.0]])
    TRANSFORM.boxes_to_prepared(boxes)
    np.testing.assert_array_equal(boxes, [[15, 30, 25, 50]])


@settings(max_examples=50, deadline=None)
@given(
    crop=st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 50), st.integers(1, 70)),
    flip=st.booleans(),
    scale=st.tuples(st.floats(0.1, 8), st.floats(0.1, 8)),
    box=st.tuples(*[st.floats(-100, 200) for _ in range(4)]),
)
def test_boxes_come_back(crop, flip, scale, box):
    transform = ImageTransform((100, 80), crop, flip, scale)
    x1, y1, x2, y2 = box
    ordered = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
    back = transform.boxes_to_source(transform.boxes_to_prepared([ordered]))
    np.testing.assert_allclose(back, [ordered], atol=1e-9)
    assert ImageTransform.from_dict(transform.to_dict()) == transform


def test_crop_and_flip_moves_pixels_as_boxes():
    image = np.zeros((100, 80), np.float32)
    image[30:50, 15:25] = 1
    prepared = ImageTransform((100, 80), (10, 20, 40, 60), True).crop_and_flip(image)
    assert prepared.shape == (60, 40)
    rows, cols = np.nonzero(prepared)
    assert (rows.min(), rows.max() + 1, cols.min(), cols.max() + 1) == (10, 30, 25, 35)


def test_map_to_source_puts_cells_back():
    cells = np.arange(6).reshape(2, 3)  # three columns over 30 pixels, two rows over 20
    transform = ImageTransform((40, 50), (5, 10, 30, 20), True)
    source = transform.map_to_source(cells, fill=-1, nearest=True)
    assert source.shape == (40, 50)
    assert source.dtype == cells.dtype
    assert (source[10:20, 5:15] == 2).all()  # the right cell of the mirrored map is on the source's left
    assert (source[20:30, 25:35] == 3).all()
    source[10:30, 5:35] = -1
    assert (source == -1).all()


def test_map_to_source_linear_by_hand():
    # Two cells over four pixels: centres at 0.25, 0.75, 1.25, 1.75 cells, so -0.25 (clamped to 0), 0.25, 0.75, 1.
    out = ImageTransform.identity((1, 4)).map_to_source(np.array([[0.0, 8.0]]))
    np.testing.assert_allclose(out, [[0, 2, 6, 8]])


def test_map_to_source_of_full_resolution_is_exact():
    rng = np.random.default_rng(0)
    image = rng.random((3, 30, 20))
    transform = ImageTransform((30, 20), (0, 0, 20, 30), True)
    np.testing.assert_array_equal(transform.map_to_source(image)[..., ::-1], image)


def test_from_dict_none_is_identity():
    transform = ImageTransform.from_dict(None, (7, 5))
    assert transform.is_identity
    assert transform.prepared_size == (7, 5)
    with pytest.raises(ValueError, match="needs its size"):
        ImageTransform.from_dict(None)


def test_from_dict_defaults():
    assert ImageTransform.from_dict({"source_size": [7, 5]}) == ImageTransform.identity((7, 5))


def test_with_output_size_is_exact():
    transform = ImageTransform((100, 80), (10, 20, 40, 61)).with_output_size((20, 13))
    assert transform.prepared_size == (20, 13)
    np.testing.assert_allclose(transform.boxes_to_prepared([10, 20, 50, 81]), [0, 0, 13, 20])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be an object"),
        ({}, "source_size None"),
        ({"source_size": [10]}, "source_size"),
        ({"source_size": [10, 10.5]}, "whole numbers"),
        ({"source_size": [0, 10]}, "positive"),
        ({"source_size": [10, 10], "crop": [5, 0, 6, 10]}, "does not lie within"),
        ({"source_size": [10, 10], "crop": [0, 0, 0, 10]}, "does not lie within"),
        ({"source_size": [10, 10], "flip": 1}, "flip 1"),
        ({"source_size": [10, 10], "scale": [0, 1]}, "scale"),
        ({"source_size": [10, 10], "scale": [float("nan"), 1]}, "scale"),
        ({"source_size": [10, 10], "rotate": 90}, "unknown field 'rotate'"),
    ],
)
def test_from_dict_names_the_bad_field(value, message):
    with pytest.raises(ValueError, match=message):
        ImageTransform.from_dict(value)


def test_wrong_image_size_is_an_error():
    with pytest.raises(ValueError, match="height 10 and width 10 does not fit"):
        TRANSFORM.crop_and_flip(np.zeros((10, 10)))
