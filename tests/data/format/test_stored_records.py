"""Records and columns of a store are those of the list of records, also of many odd random ones."""

import pickle
import random

import numpy as np
import pytest

from mammo_d2.core.files import write_json
from mammo_d2.core.image_truth import image_truth
from mammo_d2.data.format.catalog import load_mammo_coco, stored_mammo_coco
from mammo_d2.data.format.stored_records import StoredRecords, first_appearance
from mammo_d2.data.loading.exam_sampler import share_breast_labels
from mammo_d2.data.loading.loader import _annotated, _counts
from mammo_d2.data.loading.samplers import split_pools

CHOICES = [(("malignant",), ""), (("benign", "malignant"), ""), (("malignant", "benign"), "lesion")]


def odd_coco(seed, images=60, patients=("p", "q", 3, "3", None)):
    """Unknown, missing and empty labels, crowds, ignored boxes, images without patient or exam, extra labels."""
    rng = random.Random(seed)
    records, annotations = [], []
    for number in rng.sample(range(1, 1000), images):
        image = {"id": number, "file_name": f"{number}.png", "height": 50, "width": 40}
        for key, values in (
            ("patient_id", patients),
            ("exam_id", ("a", 1, None)),
            ("laterality", ("L", "R", None)),
        ):
            if rng.random() < 0.8:
                image[key] = rng.choice(values)
        if rng.random() < 0.8:
            names = [name for name in ("benign", "malignant", "lesion") if rng.random() < 0.6]
            image["labels"] = rng.choice([{name: rng.choice([0, 0, 1, None]) for name in names}] * 3 + [None])
        records.append(image)
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": rng.choice([1, 2, 7])}
            entry["bbox"] = [rng.choice([-2.0, 1.5]), 3, 10, 12.25]
            entry |= rng.choice([{}, {}, {"iscrowd": 1}, {"ignore": 1}])
            annotations.append(entry)
    rng.shuffle(annotations)
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}, {"id": 7, "name": "lymph node"}]
    return {"images": records, "annotations": annotations, "categories": categories}


def write(folder, seed, **more):
    coco = odd_coco(seed, **more)
    (folder / "images").mkdir(parents=True)
    for image in coco["images"]:
        (folder / "images" / image["file_name"]).touch()
    return write_json(folder / "annotations" / "train.json", coco, durable=False), folder / "images"


def both(path, image_root, categories, merge):
    stored = stored_mammo_coco(path, image_root, None, categories, merge)
    assert isinstance(stored, StoredRecords)
    return stored, load_mammo_coco(path, image_root, None, categories, merge)


def check_equal(stored, listed, classes):
    assert list(stored) == listed
    columns = stored.sampling_columns(classes)
    truth = [[-1 if value is None else value for value in image_truth(record, classes)] for record in listed]
    assert columns.truth.tolist() == truth
    assert split_pools(stored, classes) == (pools := split_pools(listed, classes))
    assert split_pools(stored, classes).severity == pools.severity
    boxes, labels = _counts(listed, list(classes))
    assert [columns.boxes.tolist()[n] for n in range(len(classes))] == [boxes[name] for name in classes]
    for name, n in _counts(stored, list(classes))[1].items():
        assert [n[1], n[0], n[None]] == [labels[name][1], labels[name][0], labels[name][None]]


@pytest.mark.parametrize(("categories", "merge"), CHOICES)
def test_stored_records_are_the_listed_ones(tmp_path, categories, merge):
    classes = [merge] if merge else list(categories)
    for seed in range(3):
        stored, listed = both(*write(tmp_path / str(seed), seed), categories, merge)
        check_equal(stored, listed, classes)
        shared, shared_list = share_breast_labels(stored), list(share_breast_labels(listed))
        assert isinstance(shared, StoredRecords)
        check_equal(shared, shared_list, classes)
        check_equal(_annotated(shared), _annotated(shared_list), classes)
        # After a choice of images other views no longer count.
        check_equal(share_breast_labels(_annotated(stored)), share_breast_labels(_annotated(listed)), classes)


def test_without_classes_only_boxes_count(tmp_path):
    stored, listed = both(*write(tmp_path, 1), ("malignant",), "")
    assert split_pools(stored) == split_pools(listed)


def test_several_data_sets(tmp_path):
    """Patients and exams of one name are the same in all of them, images without either only where they are one."""
    pairs = [both(*write(tmp_path / name, seed), ("benign", "malignant"), "") for name, seed in (("a", 1), ("b", 2))]
    pairs.append(pairs[0])
    stored = StoredRecords([source for part, _ in pairs for source in part.sources])
    listed = [record for _, part in pairs for record in part]
    check_equal(stored, listed, ["benign", "malignant"])
    check_equal(share_breast_labels(stored), share_breast_labels(listed), ["benign", "malignant"])


def test_it_is_a_sequence(tmp_path):
    stored, listed = both(*write(tmp_path, 4), ("malignant",), "")
    assert len(stored) == len(listed) == 60
    assert stored[-1] == stored[np.int64(59)] == listed[59]
    assert list(stored[5:9]) == listed[5:9]
    assert list(stored[5:30:3][1:]) == listed[5:30:3][1:]
    assert list(stored.take(np.array([7, 2]))) == [listed[7], listed[2]]
    with pytest.raises(IndexError):
        stored[60]
    stored[0]["labels"] = "changed"
    assert list(pickle.loads(pickle.dumps(stored))) == listed
    assert stored[0] == listed[0]


def test_numbers_in_order_of_first_appearance():
    assert first_appearance(np.array([7, 3, 7, 9, 3])).tolist() == [0, 1, 0, 2, 1]
    assert first_appearance(np.zeros(0, np.int64)).tolist() == []
