from collections import Counter

import pytest

from mammo_d2.core.image_truth import stratum_of
from mammo_d2.data.format.subset import check_numbers, take_records


def make_records(patients: int) -> list[dict]:
    """Four images a patient: two malignant, one benign, one normal."""
    labels = [{"malignant": 1, "benign": 1}, {"malignant": 1, "benign": 0}, {"malignant": 0, "benign": 1}, {}]
    return [
        {"image_id": 4 * p + i, "patient_id": f"p{p}", "labels": labels[i]} for p in range(patients) for i in range(4)
    ]


def test_as_many_images_of_each_class_as_asked_for():
    records = make_records(20)
    taken = take_records(records, {"malignant": 7, "benign": 5}, 0, "d")
    assert Counter(stratum_of(record["labels"]) for record in taken) == {"malignant": 7, "benign": 5}
    assert [record["image_id"] for record in taken] == sorted(record["image_id"] for record in taken)
    assert len({record["patient_id"] for record in taken}) == 12  # of different patients: there are enough
    assert taken == take_records(records, {"benign": 5, "malignant": 7}, 0, "d")
    assert taken != take_records(records, {"malignant": 7, "benign": 5}, 1, "d")


def test_patients_are_used_again_only_when_there_are_too_few():
    records = make_records(4)
    taken = take_records(records, {"malignant": 6}, 0, "d")
    assert sorted(Counter(record["patient_id"] for record in taken).values()) == [1, 1, 2, 2]


def test_too_few_images():
    with pytest.raises(ValueError, match=r"DATASETS\.TAKE wants 5 benign images of toy, which has 4"):
        take_records(make_records(4), {"benign": 5}, 0, "toy")


def test_numbers_per_data_set():
    entries = [["a", "malignant", 3], ["b", "malignant", 1], ["a", "normal", 2]]
    assert check_numbers(entries) == {"a": {"malignant": 3, "normal": 2}, "b": {"malignant": 1}}
    assert check_numbers([]) == {}


@pytest.mark.parametrize(
    "entry", [["a", "malignant"], ["a", "cyst", 3], ["a", "benign", 0], ["a", "benign", "3"], "a benign 3"]
)
def test_malformed_entries(entry):
    with pytest.raises(ValueError, match=r"DATASETS\.TAKE: .* is not a \[data set, class, number\] triple"):
        check_numbers([entry])


def test_a_class_named_twice():
    with pytest.raises(ValueError, match="names benign of a twice"):
        check_numbers([["a", "benign", 3], ["a", "benign", 4]])
