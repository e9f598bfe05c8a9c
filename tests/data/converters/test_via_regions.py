import json
import math

import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.via_regions import via_region


def region(**attributes):
    return via_region(json.dumps(attributes), "t.csv, line 2")


def test_shapes():
    box, polygons = region(name="polyline", all_points_x=[10, 20, 15], all_points_y=[5, 5, 8])
    assert (box, polygons) == ((10, 5, 11, 4), [[10.5, 5.5, 20.5, 5.5, 15.5, 8.5]])
    assert region(name="rect", x=1, y=2, width=3, height=4) == ((1, 2, 3, 4), [])
    box, polygons = region(name="circle", cx=10, cy=20, r=5)
    assert (box, polygons[0][:2]) == ((5.5, 15.5, 10, 10), [15.5, 20.5])


def test_a_turned_ellipse():
    box, polygons = region(name="ellipse", cx=100, cy=50, rx=20, ry=10, theta=math.pi / 2)
    assert box == pytest.approx((90.5, 30.5, 20, 40))
    assert polygons[0][:2] == [100.5, 70.5]


@pytest.mark.parametrize(
    "attributes",
    [{"name": "point", "cx": 1, "cy": 2}, {"name": "circle", "cx": 1, "cy": 2, "r": 0},
     {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [3, 4]},
     {"name": "rect", "x": 1, "y": 2, "width": 0, "height": 4}],
)  # fmt: skip
def test_without_an_area(attributes):
    assert region(**attributes) is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"name": "circle", "cx": 1}', '{"name": "cloud"}',
     '{"name": "circle", "cx": 1, "cy": NaN, "r": 2}',
     '{"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [3, 4]}', "[" * 5000],
)  # fmt: skip
def test_what_is_no_shape(text):
    with pytest.raises(ConverterError, match=r"t\.csv, line 2: region_shape_attributes .* is no shape of the VGG"):
        via_region(text, "t.csv, line 2")
