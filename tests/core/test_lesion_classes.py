import pytest

from mammo_d2.core.lesion_classes import BENIGN, CATEGORIES, MALIGNANT, PATCH_CLASSES, lesion_pathology


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({"pathology": "MALIGNANT", "category_id": 0}, "malignant"),
        ({"pathology": "BENIGN_WITHOUT_CALLBACK", "category_id": 1}, "benign"),
        ({"pathology": None, "category_id": 1}, "malignant"),
        ({"category_id": 2}, None),
        ({"pathology": "unknown", "category_id": 1}, None),
    ],
)
def test_pathology_wins_over_the_category(annotation, expected):
    assert lesion_pathology(annotation, ["benign", "malignant", "lymph node"]) == expected


def test_numbers_are_part_of_the_format():
    assert CATEGORIES == ({"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"})
    assert (PATCH_CLASSES[MALIGNANT], PATCH_CLASSES[BENIGN]) == ("malignant", "benign")
