"""Overlays: where the frames lie, what they cover, what is refused."""

import cv2
import numpy as np
import pytest

from mammo_d2.pictures.drawing import (
    PAPER_COLOR,
    PREDICTION_COLOR,
    REGION_COLOR,
    TRUTH_COLOR,
    contact_sheet,
    draw_boxes,
    encode_png,
    overlay,
    pair_sheet,
    save_picture,
    side_by_side,
    to_display,
    with_caption,
)


def black(height, width):
    return np.zeros((height, width, 3), np.uint8)


def is_color(picture, color):
    return (picture == np.array(color, np.uint8)).all(axis=-1)


def test_frame_covers_the_outermost_pixels_of_the_box():
    drawn = is_color(draw_boxes(black(60, 60), [[10, 20, 30, 45]], TRUTH_COLOR, thickness=1), TRUTH_COLOR)
    expected = np.zeros((60, 60), bool)
    expected[20:45, 10:30] = True
    expected[21:44, 11:29] = False
    np.testing.assert_array_equal(drawn, expected)


def test_thicker_frame_grows_outward_and_is_clipped_at_the_border():
    drawn = is_color(draw_boxes(black(40, 40), [[0, 5, 20, 50]], TRUTH_COLOR, thickness=3), TRUTH_COLOR)
    assert drawn[3:5, :20].all()  # two rows above the box's first
    assert not drawn[2].any()
    assert drawn[:, 19:22][10:].all()
    assert not drawn[6:, 1:19].any()  # the inside stays free, the lower edge lies outside the picture


def test_draw_boxes_leaves_its_input_alone():
    picture = black(20, 20)
    draw_boxes(picture, [[2, 2, 9, 9]], TRUTH_COLOR)
    assert not picture.any()


def test_overlay_scales_boxes_with_the_image():
    image = np.full((1000, 500), 7.0, np.float32)
    picture = overlay(image, truth=[[100, 200, 300, 400]], max_side=250)
    assert picture.shape == (250, 125, 3)
    frame = is_color(picture, TRUTH_COLOR)  # the box is [25, 50, 75, 100] in the picture
    np.testing.assert_array_equal(np.flatnonzero(frame.any(axis=0))[[0, -1]], [25, 74])
    np.testing.assert_array_equal(np.flatnonzero(frame.any(axis=1))[[0, -1]], [50, 99])


def test_best_prediction_is_drawn_last():
    image = np.zeros((100, 100), np.float32)
    boxes = [[20, 20, 60, 60], [40, 20, 80, 60]]
    for scores in ([0.9, 0.1], [0.1, 0.9]):
        picture = overlay(image, predictions=boxes, scores=scores)
        assert is_color(picture, PREDICTION_COLOR)[30, [20, 59, 40, 79]].all()


def test_predictions_cover_truth_and_region():
    image = np.zeros((100, 100), np.float32)
    box = [20, 20, 60, 60]
    assert is_color(overlay(image, truth=[box], region=[10, 10, 90, 90]), REGION_COLOR)[50, 10]
    assert is_color(overlay(image, truth=[box], region=box), TRUTH_COLOR)[50, 20]
    assert is_color(overlay(image, truth=[box], predictions=[box]), PREDICTION_COLOR)[50, 20]


def test_score_tag_stands_above_the_box_or_below_where_there_is_no_room():
    image = np.zeros((300, 300), np.float32)
    tags = is_color(overlay(image, predictions=[[100, 100, 180, 180]], scores=[0.87]), PREDICTION_COLOR)
    assert tags[85:95, 100:130].mean() > 0.4
    assert not tags[190:].any()
    at_top = is_color(overlay(image, predictions=[[100, 0, 180, 60]], scores=[0.87]), PREDICTION_COLOR)
    assert at_top[65:75, 100:130].mean() > 0.4


def test_tags_of_close_boxes_do_not_cover_each_other():
    image = np.zeros((300, 300), np.float32)
    one = is_color(overlay(image, predictions=[[100, 100, 180, 180]], scores=[0.87]), PREDICTION_COLOR)
    both = is_color(
        overlay(image, predictions=[[100, 100, 180, 180], [102, 102, 182, 182]], scores=[0.87, 0.5]), PREDICTION_COLOR
    )
    tag = np.s_[80:97, 90:140]
    np.testing.assert_array_equal(one[tag], both[tag])  # the better one keeps its place
    assert both[186:200, 100:130].mean() > 0.4  # the other went below


def test_display_window_is_linear_and_ignores_background():
    image = np.zeros((10, 100), np.float64)
    image[1:] = np.tile(np.arange(100) * 40.0 + 40, (9, 1))  # 40..4000, the background row is 0
    shown = to_display(image)
    assert shown.dtype == np.uint8
    assert (shown[0] == 0).all()
    assert shown[5, 0] == 0
    assert shown[5, 99] == 255
    # Percentiles 0.5 and 99.8 of the foreground are its second lowest and highest value or close to them.
    assert shown[5, 50] == pytest.approx(255 * 50.5 / 100, abs=2)


def test_constant_image_is_black():
    assert not overlay(np.full((50, 40), 3000.0)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float16, np.float64])
def test_any_real_dtype_can_be_shown(dtype):
    image = np.arange(200 * 100).reshape(200, 100) % 200
    shown = to_display(image.astype(dtype), max_side=100)
    assert shown.shape == (100, 50)
    assert shown.max() == 255


def test_images_that_cannot_be_shown_are_refused():
    with pytest.raises(ValueError, match="two dimensions"):
        to_display(np.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="not finite"):
        to_display(np.full((3, 4), np.nan))


def test_scores_must_match_the_boxes():
    with pytest.raises(ValueError, match="predictions: 1 scores for 2 boxes"):
        overlay(np.zeros((9, 9)), predictions=[[0, 0, 1, 1]] * 2, scores=[0.5])


def test_caption_is_a_bar_below_and_long_or_foreign_text_still_fits():
    picture = np.full((50, 120, 3), 200, np.uint8)
    captioned = with_caption(picture, "Größe " * 50)
    assert captioned.shape[1] == 120
    np.testing.assert_array_equal(captioned[:50], picture)
    assert not is_color(captioned[50:], PAPER_COLOR).all()  # something is written
    assert is_color(captioned[50:, -5:], PAPER_COLOR).all()  # and it ends before the edge


def test_contact_sheet_places_tiles_row_by_row():
    tiles = [np.full((10, 20, 3), value, np.uint8) for value in (50, 100, 150)]
    sheet = contact_sheet(tiles, columns=2, gap=4)
    assert sheet.shape == (2 * 10 + 3 * 4, 2 * 20 + 3 * 4, 3)
    assert (sheet[4:14, 4:24] == 50).all()
    assert (sheet[4:14, 28:48] == 100).all()
    assert (sheet[18:28, 4:24] == 150).all()
    assert is_color(sheet[18:28, 28:48], PAPER_COLOR).all()


def test_contact_sheet_centres_smaller_tiles():
    sheet = contact_sheet([np.full((10, 10, 3), 9, np.uint8), np.full((4, 6, 3), 9, np.uint8)], columns=2, gap=0)
    assert (sheet[3:7, 12:18] == 9).all()
    assert is_color(sheet[2, 10:], PAPER_COLOR).all()


def test_side_by_side_aligns_at_the_top():
    row = side_by_side([np.full((6, 10, 3), 9, np.uint8), np.full((4, 5, 3), 7, np.uint8)], gap=2)
    assert row.shape == (10, 21, 3)
    expected = np.zeros((10, 21), int)
    expected[2:8, 2:12] = 9
    expected[2:6, 14:19] = 7
    np.testing.assert_array_equal(np.where(np.isin(row[..., 0], [7, 9]), row[..., 0], 0), expected)


def test_contact_sheet_needs_a_picture():
    with pytest.raises(ValueError, match="0 pictures"):
        contact_sheet([])


def test_pair_sheet_puts_positive_left_of_its_negative():
    positive, negative = np.full((40, 80, 3), 90, np.uint8), np.full((40, 80, 3), 160, np.uint8)
    sheet = pair_sheet([(positive, negative)] * 2, pairs_per_row=1, gap=0)
    assert sheet.shape[1] == 160
    cell = sheet.shape[0] // 2
    for top in (0, cell):
        assert (sheet[top : top + 40, :80] == 90).all()
        assert (sheet[top : top + 40, 80:] == 160).all()


def test_png_keeps_rgb(tmp_path):
    picture = black(4, 4)
    picture[..., 0] = 200
    path = save_picture(tmp_path / "new" / "folder" / "picture.png", picture)
    assert path.read_bytes() == encode_png(picture)
    np.testing.assert_array_equal(cv2.imread(str(path))[0, 0], [0, 0, 200])  # OpenCV reads BGR


def test_labels_of_boxes_as_large_as_the_picture_lie_one_below_the_other():
    image = np.full((200, 160), 77, np.uint8)
    boxes = [[0, 0, 160, 200]] * 3
    one, three = (overlay(image, (), boxes[:n], [0.9, 0.8, 0.7][:n], windowed=True) for n in (1, 3))
    tags = [(picture[:, 20] == PREDICTION_COLOR).all(axis=-1).sum() for picture in (one, three)]
    frame = 2  # rows of the frame in that column
    assert tags[1] - frame > 2 * (tags[0] - frame)
