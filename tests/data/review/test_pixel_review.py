import cv2
import numpy as np
import pytest

from mammo_d2.data.review.pixel_review import images_of, review_pixels
from tests.data.review.textured_breasts import textured_breast


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), textured_breast(seed))
    cv2.imwrite(str(tmp_path / "copy.png"), textured_breast(0))
    cv2.imwrite(str(tmp_path / "dark.png"), textured_breast(0) // 2)
    (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    return tmp_path


def images(folder, file, *records):
    content = {
        "images": [
            {"id": number, "file_name": name, "height": 400, "width": 300, "patient_id": patient}
            for number, (name, patient) in enumerate(records, start=1)
        ]
    }
    return images_of(file, content, folder)


def found(review):
    return [(p.level, p.code, p.file, p.value) for p in review.report.problems]


def test_the_same_pixels(folder):
    train = images(folder, "train.json", ("0.png", "a"), ("1.png", "b"))
    review = review_pixels([*train, *images(folder, "test.json", ("copy.png", "c"), ("2.png", "d"))])
    assert found(review) == [("error", "split-leak", "test.json", "copy.png")]
    assert "the same pixels as '0.png' of train.json" in review.report.problems[0].message
    assert review.read == 4
    within = review_pixels(images(folder, "train.json", ("0.png", "a"), ("copy.png", "b")))
    assert found(within) == [("warning", "same-pixels", "train.json", "copy.png")]


def test_near_duplicates_of_other_patients_or_splits_only(folder):
    train = images(folder, "train.json", ("0.png", "a"), ("1.png", "b"))
    review = review_pixels([*train, *images(folder, "test.json", ("dark.png", "a"))])
    assert found(review) == [("warning", "near-duplicate", "train.json", "0.png")]
    assert review.pairs[0].second.record["file_name"] == "dark.png"
    assert found(review_pixels(images(folder, "t", ("0.png", "a"), ("dark.png", "a")))) == []
    assert found(review_pixels(images(folder, "t", ("0.png", None), ("dark.png", None)))) == [
        ("warning", "near-duplicate", "t", "0.png")
    ]
    assert found(review_pixels([*train, *images(folder, "test.json", ("dark.png", "a"))], near=False)) == []


def test_images_without_breast_and_inverted_ones(folder):
    cv2.imwrite(str(folder / "empty.png"), np.full((400, 300), 9, np.uint16))
    cv2.imwrite(str(folder / "inverted.png"), 60000 - textured_breast(3))
    review = review_pixels(images(folder, "t", ("empty.png", "a"), ("inverted.png", "b"), ("0.png", "c")))
    assert found(review) == [("warning", "odd-image", "t", "empty.png"), ("warning", "odd-image", "t", "inverted.png")]
    messages = [problem.message for problem in review.report.problems]
    assert messages[0] == "every pixel has the same value: no breast is seen"
    assert "seems inverted" in messages[1]


def test_unreadable_files_and_wrong_sizes(folder):
    records = images(folder, "t", ("broken.png", "a"), ("1.png", "b"), ("missing.png", "c"))
    records[1].record["height"] = 5
    review = review_pixels(records, workers=1)
    assert found(review) == [
        ("error", "unreadable-image", "t", "broken.png"),
        ("error", "wrong-size", "t", [5, 300]),
    ]
    assert review.read == 1
