import csv

import cv2
import numpy as np
import pytest

from mammo_d2.data.breast.film_artefacts import find_artefacts
from tests.data.breast_images import half_ellipse


def film():
    """A breast (levels 1000 +- 300) on grey film (80), with white edges below and at the chest wall, and a label."""
    image, mask = half_ellipse(background=80.0)
    image[-9:] = 2000
    image[:, :6] = 2000
    image[20:30, 250:285] = 1900
    return image, mask


def test_edges_and_labels_are_found():
    image, _ = film()
    found = find_artefacts(image)
    assert found.edges[395:].all()
    assert found.edges[:, :5].all()
    assert not found.edges[40:380, 20:].any()
    assert 0.03 < found.edge_share < 0.06
    assert found.background == pytest.approx(80)
    (x, y, w, h), *_ = found.labels
    assert abs(np.array([x, y, x + w, y + h]) - [250, 20, 285, 30]).max() <= 3


def test_everything_but_the_breast_becomes_background():
    image, mask = film()
    clean = find_artefacts(image).without(image)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
    inner[:, :12] = False
    np.testing.assert_array_equal(clean[inner], image[inner])
    assert clean[25, 260] == clean[398, 150] == clean[200, 2] == pytest.approx(80)
    assert clean.dtype == image.dtype


def test_a_digital_image_without_artefacts_stays_as_it_is():
    image, _ = half_ellipse()
    found = find_artefacts(image)
    assert not found.edges.any()
    assert found.labels == ()
    np.testing.assert_array_equal(found.without(image), image)


def test_8_bit_files_keep_their_type_and_flat_images_do_not_fail():
    image = (film()[0] / 8).astype(np.uint8)
    assert find_artefacts(image).without(image).dtype == np.uint8
    flat = np.full((40, 30), 9, np.uint8)
    np.testing.assert_array_equal(find_artefacts(flat).without(flat), flat)


@pytest.mark.shared_data
def test_lesions_of_real_films_stay(shared_data):
    """On 12 films of CBIS-DDSM the labels go and the lesions' boxes stay."""
    folder = shared_data / "cbis_ddsm_mass"
    with open(folder / "truth.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))[::110]
    assert len(rows) == 12
    for row in rows:
        film = cv2.imread(str(folder / "images" / row["file"]), cv2.IMREAD_GRAYSCALE)
        film = cv2.resize(film, (480, 800), interpolation=cv2.INTER_AREA)
        kept = find_artefacts(film).kept
        x, y, w, h = (float(row[key]) for key in ("x", "y", "width", "height"))
        part = kept[int(y) : int(y + h), int(0.6 * x) : int(0.6 * (x + w))]
        assert part.mean() > 0.95, row["file"]
        assert 0.1 < kept.mean() < 0.95
