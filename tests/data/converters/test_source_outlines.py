from pathlib import Path

import numpy as np
import pytest

from mammo_d2.data.converters.converter import SourceAnnotation, SourceImage
from mammo_d2.data.converters.source_outlines import fit_to_file, mask_outlines, pixel_outline, same_shape


def test_an_outline_goes_through_the_centres_of_its_pixels():
    assert pixel_outline([(3, 5), (6, 5), (6, 9)]) == ((3, 5, 4, 5), [[3.5, 5.5, 6.5, 5.5, 6.5, 9.5]])
    # Two points have no area, but their pixels have.
    assert pixel_outline([(3, 5), (4, 5)]) == ((3, 5, 2, 1), [])


def test_each_part_of_a_mask_is_a_lesion():
    mask = np.zeros((20, 30), bool)
    mask[10:14, 20:25] = True
    mask[2:5, 3:9] = True
    mask[5, 9] = True  # touches by a corner
    first, second = mask_outlines(mask)
    assert (first[0], second[0]) == ((3, 2, 7, 4), (20, 10, 5, 4))
    assert second[1] == [[20.5, 10.5, 20.5, 13.5, 24.5, 13.5, 24.5, 10.5]]
    assert mask_outlines(np.zeros((4, 4))) == []


def test_lesions_are_scaled_to_the_file():
    lesion = SourceAnnotation("benign", (10, 20, 30, 40), [[10.0, 20.0, 40.0, 20.0, 40.0, 60.0]])
    image = SourceImage(
        Path("a.png"), "a", "a.png", (lesion,), pixel_spacing=(0.05, 0.05), boxes={"more": [[2, 4, 6, 8]]}
    )
    half = fit_to_file(image, (400, 200), (200, 100))
    assert half.annotations[0].bbox == (5, 10, 15, 20)
    assert half.annotations[0].segmentation == [[5, 10, 20, 10, 20, 30]]
    assert (half.boxes, half.pixel_spacing) == ({"more": [[1, 2, 3, 4]]}, (0.1, 0.1))
    assert fit_to_file(image, (400, 200), (400, 200)) is image
    with pytest.raises(ValueError, match=r"200 x 200 pixels .* drawn on 400 x 200; use the whole image"):
        fit_to_file(image, (400, 200), (200, 200))


def test_shapes_that_differ_by_rounding():
    assert same_shape((3000, 2000), (301, 200))
    assert not same_shape((3000, 2000), (300, 210))
