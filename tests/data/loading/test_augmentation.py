"""Every augmentation on boxes and pixels: by hand, then that both go the same way."""

import numpy as np
import pytest

from mammo_d2.data.loading.affine import transform_boxes, visible_boxes
from mammo_d2.data.loading.augmentation import Augmentation, adjust_intensity

HEIGHT, WIDTH = 60, 100
BOX = np.array([[10.0, 20.0, 30.0, 50.0]])  # centre (20, 35), half sides (10, 15)


def bounds(image, level):
    rows, columns = np.nonzero(image > level)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_boxes_follow_a_bright_square():
    augmentation = Augmentation(
        flip_horizontal=0.5, flip_vertical=0.5, shift=0.15, scale=(0.7, 1.4), cutout_size=0, min_visible=0.0
    )
    rng = np.random.default_rng(3)
    for _ in range(50):
        x, y, side = rng.integers(20, 60), rng.integers(10, 30), rng.integers(8, 20)
        image = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
        image[y : y + side, x : x + side] = 200.0
        moved, geometry = augmentation(image, np.array([[x, y, x + side, y + side]]), rng)
        assert len(geometry.kept) == 1
        np.testing.assert_allclose(geometry.boxes[0], bounds(moved, 100.0), atol=1.0)


def test_boxes_follow_a_bright_ellipse_under_rotation():
    augmentation = Augmentation(flip_horizontal=0.5, shift=0.05, rotation=45.0, scale=(0.8, 1.2), min_visible=0.0)
    rng = np.random.default_rng(4)
    yy, xx = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    for _ in range(50):
        half_x, half_y = rng.uniform(6, 14, 2)
        x, y = rng.uniform(30, 70), rng.uniform(24, 36)
        distance = np.hypot((xx - x) / half_x, (yy - y) / half_y)
        image = np.where(distance <= 1.0, 200.0, 0.0).astype(np.float32)
        box = np.array([[x - half_x, y - half_y, x + half_x, y + half_y]])
        moved, geometry = augmentation(image, box, rng)
        assert len(geometry.kept) == 1
        np.testing.assert_allclose(geometry.boxes[0], bounds(moved, 100.0), atol=1.0)


def test_nothing_is_random_when_everything_is_off():
    image = np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32)
    for seed in range(5):
        same, geometry = Augmentation()(image, BOX, np.random.default_rng(seed))
        np.testing.assert_array_equal(same, image)
        np.testing.assert_array_equal(geometry.boxes, BOX)
        np.testing.assert_array_equal(geometry.kept, [0])


def test_same_generator_state_same_result_and_the_input_stays():
    augmentation = Augmentation(
        flip_horizontal=0.5, shift=0.1, rotation=30.0, scale=(0.9, 1.1), cutout_size=10, brightness=0.2, contrast=0.2,
        gamma=0.2,
    )  # fmt: skip
    image = np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32)
    before = image.copy()
    first, first_geometry = augmentation(image, BOX, np.random.default_rng(8))
    second, second_geometry = augmentation(image, BOX, np.random.default_rng(8))
    other, _ = augmentation(image, BOX, np.random.default_rng(9))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first_geometry.boxes, second_geometry.boxes)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(image, before)


def test_switching_one_augmentation_on_does_not_change_the_others():
    plain = Augmentation(flip_horizontal=0.5, shift=0.1)
    more = Augmentation(flip_horizontal=0.5, shift=0.1, cutout_size=4, brightness=0.3)
    for seed in range(10):
        first = plain.draw_matrix(HEIGHT, WIDTH, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, more.draw_matrix(HEIGHT, WIDTH, np.random.default_rng(seed)))


def test_flip_probability():
    augmentation = Augmentation(flip_horizontal=0.25)
    rng = np.random.default_rng(0)
    flips = sum(augmentation.draw_matrix(HEIGHT, WIDTH, rng)[0, 0] < 0 for _ in range(2000))
    assert 440 <= flips <= 560  # 500 expected, standard deviation 19


def test_draws_stay_in_their_ranges():
    augmentation = Augmentation(shift=0.1, rotation=20.0, scale=(0.5, 0.8))
    rng = np.random.default_rng(0)
    centre = np.array([WIDTH / 2, HEIGHT / 2, 1.0])
    shifts, angles, factors = [], [], []
    for _ in range(500):
        matrix = augmentation.draw_matrix(HEIGHT, WIDTH, rng)
        shifts.append(np.abs(matrix @ centre - centre[:2]) / (WIDTH, HEIGHT))
        factors.append(np.sqrt(np.linalg.det(matrix[:, :2])))
        angles.append(abs(np.rad2deg(np.arctan2(matrix[0, 1], matrix[0, 0]))))
    assert 0.09 < np.max(shifts) <= 0.1
    assert 18.0 < np.max(angles) <= 20.0
    assert 0.5 <= np.min(factors) < 0.52
    assert 0.78 < np.max(factors) <= 0.8


def test_cutout_is_a_square_of_zeros_inside_the_image():
    augmentation = Augmentation(cutout_size=15, cutout_prob=1.0)
    image = np.full((HEIGHT, WIDTH), 9.0, dtype=np.float32)
    corners = set()
    for seed in range(200):
        cut, _ = augmentation(image, np.zeros((0, 4)), np.random.default_rng(seed))
        x0, y0, x1, y1 = bounds(9.0 - cut, 0.0)
        assert (x1 - x0, y1 - y0) == (15, 15)
        assert (cut == 0).sum() == 225
        corners.add((x0, y0))
    assert len(corners) > 100
    assert (Augmentation(cutout_size=15, cutout_prob=0.0)(image, BOX, np.random.default_rng(0))[0] == 9.0).all()


def test_cutout_larger_than_the_image_covers_it():
    cut, _ = Augmentation(cutout_size=99, cutout_prob=1.0)(
        np.ones((6, 8), dtype=np.float32), np.zeros((0, 4)), np.random.default_rng(0)
    )
    assert not cut.any()


def test_a_positive_image_keeps_a_box():
    # A lesion in the corner: most draws of these shifts lose it, and some images would silently become negatives.
    augmentation = Augmentation(shift=0.5, min_visible=0.9)
    corner = np.array([[0.0, 0.0, 10.0, 10.0]])
    image = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    rng = np.random.default_rng(0)
    assert (
        sum(
            len(visible_boxes(transform_boxes(corner, augmentation.draw_matrix(60, 100, rng)), 60, 100, 0.9)[0])
            for _ in range(100)
        )
        < 60
    )
    assert all(len(augmentation(image, corner, np.random.default_rng(seed))[1].boxes) == 1 for seed in range(100))


def test_boxes_do_not_decide_where_labels_are_all_that_is_known():
    """Without ``keep_lesion`` the image is moved as one without boxes, and a lesion may get lost."""
    augmentation = Augmentation(shift=0.5, min_visible=0.9, keep_lesion=False)
    corner = np.array([[0.0, 0.0, 10.0, 10.0]])
    image = np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32)
    left = []
    for seed in range(20):
        moved, geometry = augmentation(image, corner, np.random.default_rng(seed))
        expected, _ = augmentation(image, np.zeros((0, 4)), np.random.default_rng(seed))
        np.testing.assert_array_equal(moved, expected)
        left.append(len(geometry.boxes))
    assert set(left) == {0, 1}


def test_without_any_good_draw_the_geometry_is_left_out():
    augmentation = Augmentation(cutout_size=1000, cutout_prob=1.0)  # covers everything, always
    image = np.full((HEIGHT, WIDTH), 5.0, dtype=np.float32)
    same, geometry = augmentation(image, BOX, np.random.default_rng(0))
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(geometry.matrix, np.eye(2, 3))
    assert geometry.hole is None
    np.testing.assert_array_equal(geometry.boxes, BOX)
    np.testing.assert_array_equal(geometry.kept, [0])


def test_intensity_by_hand():
    image = np.array([[0.0, 51.0, 153.0]], dtype=np.float32)
    np.testing.assert_allclose(adjust_intensity(image, 1.1, 1.0, 1.0), [[0, 56.1, 168.3]], rtol=1e-6)
    # Mean of the tissue 102: distances -51 and 51 grow by a half.
    np.testing.assert_allclose(adjust_intensity(image, 1.0, 1.5, 1.0), [[0, 25.5, 178.5]], rtol=1e-6)
    # 255 * 0.2^2 and 255 * 0.6^2.
    np.testing.assert_allclose(adjust_intensity(image, 1.0, 1.0, 2.0), [[0, 10.2, 91.8]], rtol=1e-5)
    # All three, in the order gamma, contrast, brightness: 10.2, 91.8 -> mean 51 -> -10.2, 112.2 -> clipped, doubled.
    np.testing.assert_allclose(adjust_intensity(image, 2.0, 1.5, 2.0), [[0, 0.0, 224.4]], rtol=1e-5)
    np.testing.assert_allclose(adjust_intensity(image, 2.0, 1.0, 1.0), [[0, 102, 255]], rtol=1e-6)


def test_intensity_of_an_empty_background():
    image = np.zeros((3, 3), dtype=np.float32)
    np.testing.assert_array_equal(adjust_intensity(image, 1.5, 1.5, 0.5), image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip_horizontal": 1.5}, "INPUT.AUG.FLIP_HORIZONTAL is 1.5"),
        ({"shift": -0.1}, "INPUT.AUG.SHIFT is -0.1"),
        ({"rotation": 270.0}, "INPUT.AUG.ROTATION is 270.0"),
        ({"scale": (1.2, 0.8)}, "INPUT.AUG.SCALE"),
        ({"scale": (0.0, 1.0)}, "INPUT.AUG.SCALE"),
        ({"cutout_size": -1}, "INPUT.AUG.CUTOUT_SIZE"),
        ({"gamma": 1.0}, "INPUT.AUG.GAMMA"),
    ],
)
def test_settings_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)


def test_noise_is_drawn_last():
    image = np.linspace(0, 255, 64 * 48, dtype=np.float32).reshape(64, 48)
    plain, _ = Augmentation(rotation=10.0)(image, np.zeros((0, 4)), np.random.default_rng(1))
    noisy, _ = Augmentation(rotation=10.0, noise=0.05)(image, np.zeros((0, 4)), np.random.default_rng(1))
    assert (noisy - plain).std() == pytest.approx(0.05 * plain.std(), rel=0.05)
    with pytest.raises(ValueError, match=r"INPUT\.AUG\.NOISE is -1\.0; it must be not negative"):
        Augmentation(noise=-1.0)
