import cv2
import numpy as np

from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.review.pixel_review import ReviewedImage, SimilarPair
from mammo_d2.data.review.split_facts import split_facts
from mammo_d2.pictures.split_overview import write_overview, write_pairs


def facts(name, spacing):
    builder = CocoBuilder()
    image = builder.add_image("a.png", 40, 30, patient_id="p", view="CC", pixel_spacing=spacing, density="$B")
    builder.add_annotation(image, [1, 2, 10, 20], "malignant")
    return split_facts(name, builder.to_dict())


def test_overview_with_and_without_millimetres(tmp_path):
    write_overview([facts("train", [0.1, 0.1]), facts("test", None)], tmp_path / "a.png")
    write_overview([facts("only", None)], tmp_path / "b.png")
    for name in "ab":
        assert cv2.imread(str(tmp_path / f"{name}.png")).shape == (900, 1300, 3)


def test_pairs_side_by_side(tmp_path):
    for name, value in (("x", 50), ("y", 90)):
        image = np.full((40, 30), value, np.uint8)
        image[:5] = 0
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    first, second = (
        ReviewedImage("train.json", {"id": 1, "file_name": f"{name}.png"}, tmp_path / f"{name}.png") for name in "xy"
    )
    write_pairs([SimilarPair(first, second, 31)] * 3, tmp_path / "pairs.png", most=2)
    picture = cv2.imread(str(tmp_path / "pairs.png"))
    # Two tiles, each of two pictures.
    assert picture.shape[1] > 4 * 30
    assert (picture == 255).any()
