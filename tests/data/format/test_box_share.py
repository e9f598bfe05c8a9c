"""A share of the positive patients keeps its boxes: nested, by patient, the same on every machine."""

import copy
from itertools import pairwise

import pytest

from mammo_d2.core.image_truth import image_truth
from mammo_d2.data.format.box_share import keep_boxes, patients_with_boxes
from mammo_d2.data.loading.samplers import split_pools

CLASSES = ["malignant", "benign"]


def box(category=0, **extra):
    return {"bbox": [0, 0, 1, 1], "category_id": category, **extra}


def patients(count, images=2):
    """``count`` positive patients with boxes on each of their images, and as many without a finding."""
    return [
        {
            "image_id": 10 * number + view,
            "patient_id": f"{kind}{number}",
            "annotations": [box()] if kind == "p" else [],
            "labels": {"malignant": int(kind == "p"), "benign": 0},
        }
        for kind in "pn"
        for number in range(count)
        for view in range(images)
    ]


def kept(records, share, seed=0):
    return set(patients_with_boxes(keep_boxes(records, CLASSES, share, seed)))


@pytest.mark.parametrize(
    ("share", "count"), [(0.0, 0), (0.01, 1), (0.05, 1), (0.1, 2), (0.125, 3), (0.25, 5), (0.5, 10), (1.0, 20)]
)
def test_the_share_counts_patients_and_rounds_halves_up(share, count):
    assert len(kept(patients(20), share)) == count


def test_all_images_of_a_patient_keep_or_lose_their_boxes():
    records = keep_boxes(patients(8, images=3), CLASSES, 0.5, 0)
    with_boxes = [record["patient_id"] for record in records if record["annotations"]]
    assert {with_boxes.count(patient) for patient in with_boxes} == {3}


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_smaller_shares_are_nested_in_larger_ones(seed):
    records = patients(40)
    sets = [kept(records, share, seed) for share in (0.05, 0.1, 0.25, 0.5, 1.0)]
    assert [len(part) for part in sets] == [2, 4, 10, 20, 40]
    assert all(small < large for small, large in pairwise(sets))


def test_the_draw_follows_from_seed_and_patients_alone():
    records = patients(6)
    assert sorted(kept(records, 0.5)) == ["p0", "p1", "p3"]  # as on every machine
    assert kept(list(reversed(records)), 0.5) == kept(records, 0.5)
    assert len({frozenset(kept(records, 0.5, seed)) for seed in range(10)}) > 3


def test_a_share_of_one_changes_nothing():
    records = patients(3)
    assert keep_boxes(records, CLASSES, 1.0, 0) == records


def test_what_the_boxes_showed_is_in_the_labels_and_no_image_becomes_negative():
    records = [
        {"annotations": [box(1)], "labels": None},
        {"annotations": [box(0)], "labels": {"malignant": None, "benign": None, "density": 3}},
        {"annotations": [box(0, ignore=1)], "labels": {"malignant": 0, "benign": 0}},
        {"annotations": [box(0, iscrowd=1), box(1)], "labels": {"malignant": 0, "benign": 0}},
        {"annotations": [], "labels": {"malignant": 0, "benign": None}},
        {"annotations": [], "labels": {"malignant": 0, "benign": 0}},
    ]
    records = [{"image_id": number, "file_name": f"/data/{number}.png", **r} for number, r in enumerate(records)]
    before = copy.deepcopy(records)
    after = keep_boxes(records, CLASSES, 0.0, 0)
    assert records == before
    assert [record["labels"] for record in after] == [
        {"malignant": 0, "benign": 1},
        {"malignant": 1, "benign": None, "density": 3},
        {"malignant": None, "benign": 0},
        {"malignant": 1, "benign": 1},
        {"malignant": 0, "benign": None},
        {"malignant": 0, "benign": 0},
    ]
    assert not any(record["annotations"] for record in after)
    for record, former in zip(after, before, strict=True):
        if not any(annotation.get("ignore") for annotation in former["annotations"]):
            assert image_truth(record, CLASSES) == image_truth(former, CLASSES)
    pools = split_pools(after, CLASSES)
    assert (pools.positives, pools.unlocalized, pools.unknown, pools.negatives) == ([], [0, 1, 3], [2, 4], [5])


def test_images_without_a_patient_are_patients_wherever_the_files_lie():
    records = [{"image_id": n, "file_name": f"/a/{n}.png", "annotations": [box()]} for n in range(9)]
    moved = [{**record, "file_name": f"/elsewhere/{record['image_id']}.png"} for record in records]
    assert len(kept(records, 1 / 3)) == 3
    assert kept(records, 1 / 3) == kept(moved, 1 / 3)


@pytest.mark.parametrize(
    ("share", "seed", "message"),
    [(1.5, 0, "BOXES_FOR is 1.5; it must be a share"), (-0.1, 0, "BOXES_FOR is -0.1"), (0.5, -1, "BOXES_SEED is -1")],
)
def test_bad_values(share, seed, message):
    with pytest.raises(ValueError, match=message):
        keep_boxes(patients(2), CLASSES, share, seed)
