"""Pictures of weak localisation: which regions are drawn, where, in which colour."""

import cv2
import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.pictures.drawing import CLASS_COLORS, PREDICTION_COLOR, TRUTH_COLOR, class_colors
from mammo_d2.report.localization import choose_images, localization_picture, localization_pictures
from mammo_d2.report.shown_images import evaluation_data

BENIGN, MALIGNANT = CLASS_COLORS[1], CLASS_COLORS[0]
NOTHING = (np.zeros((0, 4)), np.zeros(0, np.int64))


def columns_of(picture, color, row):
    """First and last column of a colour in a row."""
    where = np.flatnonzero((picture[row] == np.array(color, np.uint8)).all(axis=-1))
    return (int(where[0]), int(where[-1])) if len(where) else None


def box(left, top, width=60, height=40):
    return [left, top, left + width, top + height]


def test_class_colors():
    assert class_colors(["mass"]) == [PREDICTION_COLOR]
    assert class_colors(["benign", "malignant"]) == [BENIGN, MALIGNANT]
    assert class_colors(["malignant", "benign"]) == [MALIGNANT, BENIGN]
    assert len(set(class_colors(list("abcd")))) == 4


def test_the_best_of_each_class_are_drawn_where_they_are():
    """An image of 800 x 600 is shown at half size; rows are apart so that each box has rows of its own."""
    boxes = np.array([box(100, 100), box(200, 200), box(300, 300), box(400, 400), box(60, 500)], float)
    scores, labels = np.array([0.2, 0.9, 0.4, 0.3, 0.01]), np.array([1, 1, 1, 1, 0])
    pixels = np.zeros((800, 600), np.float32)
    picture = localization_picture(pixels, ["benign", "malignant"], (boxes, scores, labels), NOTHING, top=3, side=400)
    assert picture.shape[1] == 300
    # boxes [200, 260], [300, 360] and [400, 460] of the source in half size; the frame is 2 pixels thick, outward
    for left, top in ((100, 100), (150, 150), (200, 200)):
        assert columns_of(picture, MALIGNANT, top + 10) == (left - 1, left + 30)
    assert columns_of(picture, MALIGNANT, 60) is None  # the fourth best, at 100, 100
    assert columns_of(picture, BENIGN, 260) == (29, 60)  # the only one of its class, however small its score


def test_truth_is_overlaid_and_named_in_the_legend():
    pixels = np.zeros((400, 300), np.float32)
    picture = localization_picture(
        pixels, ["malignant"], (np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)),
        (np.array([box(100, 100)], float), np.array([0])), side=400,
    )  # fmt: skip
    assert columns_of(picture, TRUTH_COLOR, 120) == (99, 160)
    bar = picture[400:]
    squares = [(bar == np.array(color, np.uint8)).all(axis=-1).sum() for color in (TRUTH_COLOR, MALIGNANT)]
    assert squares[0] == squares[1] > 50


def test_response_maps_are_panels_of_their_own():
    pixels = np.full((400, 300), 7.0, np.float32)  # shown black
    response = np.zeros((2, 4, 3), np.float16)
    response[1, 2, 0] = 1.0
    nothing = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    truth = (np.array([box(100, 40)], float), np.array([1]))
    picture = localization_picture(pixels, ["benign", "malignant"], nothing, truth, response, side=400)
    assert picture.shape[1] == 3 * 300
    benign, malignant = picture[:400, 300:600], picture[:400, 600:]
    assert not benign[200:].any()
    # the cell (2, 0) covers rows 200..299 and columns 0..99: dark red (128, 0, 0) at an opacity of 0.6
    lit = malignant[200:].any(axis=-1)
    expected = np.zeros((200, 300), bool)
    expected[:100, :100] = True
    np.testing.assert_array_equal(lit, expected)
    assert malignant[250, 50].tolist() == [77, 0, 0]
    for panel in (benign, malignant):
        assert columns_of(panel, TRUTH_COLOR, 60) == (99, 160)


def test_a_map_of_other_classes_is_refused():
    nothing = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match=r"response of shape \(2, 3, 3\) is not one map for each of 1 class"):
        localization_picture(np.zeros((9, 9)), ["malignant"], nothing, NOTHING, np.zeros((2, 3, 3)))


def test_images_are_chosen_evenly_by_what_they_show():
    truth = np.zeros((12, 2), bool)
    truth[[1, 4, 5, 9], 0] = True
    truth[[2, 4], 1] = True
    chosen = choose_images(truth, [0] * 12, 3)
    assert [rows.tolist() for rows in chosen] == [[1, 5, 9], [2, 4], [], [0, 7, 11], []]


def test_positive_without_box_negative_and_unknown_are_three_groups():
    with_box = np.array([[True], [False], [False], [False], [False]])
    chosen = choose_images(with_box, [1, 1, 0, None, 1], 3)
    assert [rows.tolist() for rows in chosen] == [[0], [1, 4], [2], [3]]


def test_a_cancer_known_by_its_label_is_not_filed_as_lesion_free(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.arange(10000, dtype=np.uint16).reshape(100, 100))
    image = {"height": 100, "width": 100, "annotations": [], "file_name": str(path)}
    labels = [{"malignant": 1, "benign": 0}, {"malignant": 0, "benign": 0}, {"malignant": None, "benign": 0}]
    records = [{**image, "image_id": number, "labels": values} for number, values in enumerate(labels)]
    data = evaluation_data(records, ["malignant", "benign"], [], {1: 0, 2: 1})
    pictures, _ = localization_pictures(records, data, HitRule("iom", 0.5))
    assert [(p.group, p.name, p.caption) for p in pictures] == [
        ("positive without box", "positive_without_box_0.png", "image 0, malignant without box"),
        ("without lesion", "without_lesion_1.png", "image 1"),
        ("with unknown label", "with_unknown_label_2.png", "image 2, malignant unknown"),
    ]


def test_pictures_of_a_data_set(tmp_path):
    def record(number, *boxes):
        path = tmp_path / f"{number}.png"
        if number != "c":
            cv2.imwrite(str(path), np.arange(10000, dtype=np.uint16).reshape(100, 100))
        annotations = [{"bbox": list(one), "bbox_mode": 1, "category_id": 0} for one in boxes]
        more = {"height": 100, "width": 100, "annotations": annotations, "file_name": str(path), "view": "CC"}
        return {"image_id": number, **more}

    records = [record("a", (10, 10, 20, 20)), record("b", (10, 10, 20, 20)), record("c"), record("d/e")]
    (tmp_path / "d").mkdir()
    cv2.imwrite(str(tmp_path / "d" / "e.png"), np.arange(10000, dtype=np.uint16).reshape(100, 100))
    entries = [
        {"image_id": "a", "category_id": 2, "bbox": [60, 60, 20, 20], "score": 0.9},
        {"image_id": "a", "category_id": 2, "bbox": [10, 10, 20, 20], "score": 0.8},
        {"image_id": "b", "category_id": 2, "bbox": [60, 60, 20, 20], "score": 0.9},
    ]
    np.savez(tmp_path / "maps.npz", a=np.zeros((1, 5, 5)))
    data = evaluation_data(records, ["malignant"], entries, {2: 0})
    pictures, problems = localization_pictures(records, data, HitRule("iom", 0.5), tmp_path / "maps.npz")
    assert [(one.group, one.name, one.caption) for one in pictures] == [
        ("malignant", "malignant_a.png", "image a, CC, malignant lesion hit by region 2"),
        ("malignant", "malignant_b.png", "image b, CC, malignant lesion not hit"),
        ("without lesion", "without_lesion_d_e.png", "image d/e, CC"),
    ]
    assert [one.picture.shape[1] for one in pictures] == [200, 100, 100]  # only the first has a map
    assert len(problems) == 1
    assert problems[0].startswith("image c left out: ")
