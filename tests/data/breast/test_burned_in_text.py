import cv2
import numpy as np
import pytest

from mammo_d2.data.breast.burned_in_text import blank_text, find_text, text_warning
from tests.data.breast_images import half_ellipse

IMAGE, MASK = half_ellipse(height=800, width=600, background=50.0)


def with_text(*lines):
    """A copy with (text, x, y of the baseline) written in white."""
    ink = np.zeros(IMAGE.shape, np.uint8)
    for text, x, y in lines:
        cv2.putText(ink, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    return np.maximum(IMAGE, ink.astype(np.float32) * 16)


def test_a_name_and_a_date_are_found():
    lines = find_text(with_text(("DOE JANE", 320, 60), ("1961 05 02", 320, 90)), MASK)
    assert [line.characters for line in lines] == [7, 8]
    x, y, w, h = lines[0].box
    assert abs(np.array([x, y + h]) - [320, 60]).max() <= 4
    assert w > 70
    assert "2 lines, up to 8 characters" in text_warning(lines)


def test_a_view_marker_is_no_warning():
    lines = find_text(with_text(("R MLO", 320, 60)), MASK)
    assert [line.characters for line in lines] == [4]
    assert text_warning(lines) is None


def test_no_text_no_lines():
    assert find_text(IMAGE, MASK) == []
    assert text_warning([]) is None
    assert find_text(IMAGE, np.ones_like(MASK)) == []
    noisy = IMAGE + np.random.default_rng(0).normal(0, 20, IMAGE.shape)
    assert find_text(noisy, MASK) == []


def test_blanked_text_leaves_nothing_and_the_breast_stays():
    image = with_text(("DOE JANE", 320, 60), ("R MLO", 400, 700))
    blank = blank_text(image, MASK, find_text(image, MASK))
    np.testing.assert_array_equal(blank[MASK], image[MASK])
    assert blank[~MASK].max() == pytest.approx(50)
    np.testing.assert_array_equal(blank_text(image, MASK, []), image)
