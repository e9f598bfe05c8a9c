"""Pictures of lesions: which are chosen, what part is shown, and where boxes and windows lie in it."""

import cv2
import numpy as np
import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.pictures.drawing import CLASS_COLORS, REGION_COLOR, TRUTH_COLOR
from mammo_d2.report.lesion_pictures import (
    choose_lesions,
    crop_around,
    lesion_picture,
    lesion_pictures,
    window_color,
)

BOX = np.array([40.0, 60.0, 60.0, 90.0])
WINDOWS = np.array([[30.0, 50.0, 50.0, 70.0], [50.0, 80.0, 70.0, 100.0]])


def columns_of(picture, color, row):
    """First and last column of a colour in a row."""
    where = np.flatnonzero((picture[row] == np.array(color, np.uint8)).all(axis=-1))
    return (int(where[0]), int(where[-1])) if len(where) else None


def test_colors_of_windows():
    malignant, benign = CLASS_COLORS[:2]
    assert (window_color(0.0), window_color(1.0)) == (benign, malignant)
    assert window_color(0.5) == (170, 165, 132)  # half-way between (86, 180, 233) and (255, 150, 30)


def test_crop_is_a_square_around_everything_inside_the_image():
    # Box and windows cover x 30..70 and y 50..100: 50 pixels, centred on x 50.
    assert crop_around(BOX, WINDOWS, (400, 300)) == (25, 50, 75, 100)
    assert crop_around(BOX, WINDOWS, (100, 60)) == (10, 50, 60, 100)  # moved to the left
    assert crop_around(BOX, WINDOWS, (110, 40)) == (0, 50, 40, 100)  # as wide as the image
    assert crop_around(np.array([2.5, 1.0, 7.2, 5.0]), np.zeros((0, 4)), (50, 50)) == (2, 0, 8, 6)


def test_picture_has_the_image_the_crop_and_the_windows():
    pixels = np.zeros((400, 300), np.float32)
    scores = np.array([1.0, 0.0])
    picture = lesion_picture(pixels, BOX, WINDOWS, scores, malignancy=0.5, truth="benign", side=200)
    # Panels of 150, 200 and 200 pixels, 8 pixels apart and around; 400 pixels became 200, the crop's 50 became 200.
    assert picture.shape[1] == 150 + 200 + 200 + 4 * 8
    whole, crop, judged = (picture[8:208, left : left + width] for left, width in ((8, 150), (166, 200), (374, 200)))
    assert columns_of(whole, TRUTH_COLOR, 40) == (20, 29)  # the box's columns 40..59
    assert columns_of(whole, REGION_COLOR, 47) == (12, 37)  # the crop's columns 25..74, below the box
    assert columns_of(crop, TRUTH_COLOR, 60) == (60, 139)
    assert columns_of(judged, TRUTH_COLOR, 100) == (60, 139)
    assert columns_of(judged, CLASS_COLORS[0], 79) == (20, 99)  # the malignant window, 30..50
    assert columns_of(judged, CLASS_COLORS[1], 199) == (100, 179)  # the benign one, 50..70
    assert columns_of(crop, CLASS_COLORS[0], 79) is None


def test_windows_are_drawn_from_the_least_to_the_most_malignant():
    """Of nine windows in a row, five are drawn."""
    windows = np.array([[20.0 * n, 0.0, 20.0 * n + 10, 10.0] for n in range(9)])
    scores = np.linspace(0, 1, 9)
    box = np.array([0.0, 100.0, 20.0, 120.0])
    picture = lesion_picture(np.zeros((180, 180)), box, windows, scores, malignancy=0.5, truth="benign", side=180)
    judged = picture[8:188, -188:-8]
    drawn = [n for n, score in enumerate(scores) if columns_of(judged, window_color(float(score)), 9) is not None]
    assert drawn == [0, 2, 4, 6, 8]


def test_lesions_are_chosen_over_the_whole_ranking():
    values = [(1, 0.2), (0, 0.6), (1, 0.9), (None, 0.5), (1, 0.5), (0, 0.7), (1, 0.6), (1, 0.1)]
    entries = [{"truth": truth, "malignancy": value} for truth, value in values]
    assert choose_lesions(entries, 3) == [("malignant", [2, 4, 7]), ("benign", [5, 1])]


def test_pictures_of_a_data_set(tmp_path):
    records = []
    for number in ("a", "b/c"):
        path = tmp_path / f"{number[0]}.png"
        if number == "a":
            cv2.imwrite(str(path), np.arange(6400, dtype=np.uint16).reshape(80, 80))
        records.append({"image_id": number, "file_name": str(path), "laterality": "L", "view": "CC"})
    window = {"bbox": [10, 10, 20, 20], "malignancy": 0.25}
    entries = [
        {"image_id": "a", "annotation_id": 7, "bbox": [12, 12, 9, 9], "malignancy": 0.25, "truth": 0},
        {"image_id": "a", "bbox": [40, 40, 9, 9], "malignancy": 0.75, "truth": 1},
        {"image_id": "b/c", "bbox": [40, 40, 9, 9], "malignancy": 0.5, "truth": 1},
    ]
    entries = [{**entry, "windows": [window] if entry["truth"] == 0 else []} for entry in entries]
    pictures, problems = lesion_pictures(records, entries)
    assert [(one.group, one.name, one.caption) for one in pictures] == [
        ("malignant", "malignant_a_1.png", "image a, L CC: malignant, malignancy 0.75"),
        ("benign", "benign_a_7.png", "image a, L CC: benign, malignancy 0.25, its 1 windows from 0.25 to 0.25"),
    ]
    assert len(problems) == 1
    assert problems[0].startswith("a lesion of image b/c left out: ")
    with pytest.raises(ResultsError, match=r"entry 2: image_id 'b/c' is not in the data set.*evaluate again"):
        lesion_pictures(records[:1], entries)
