from itertools import islice

import pytest

from mammo_d2.data.loading.exam_sampler import ExamSampler, share_breast_labels
from mammo_d2.data.loading.samplers import split_pools

# Exams 0 and 1 have a finding (two and four images), 2 to 6 have none (one to five images).
WITH = [[0, 1], [2, 3, 4, 5]]
WITHOUT = [[10], [20, 21], [30, 31, 32], [40, 41, 42, 43], [50, 51, 52, 53, 54]]
EXAM_OF = {index: number for number, exam in enumerate(WITH + WITHOUT) for index in exam}


def sampler(**share):
    return ExamSampler(WITH, WITHOUT, seed=3, **share)


def test_an_epoch_has_every_finding_and_as_many_other_exams_whole():
    drawn = set()
    for number in range(12):
        epoch = sampler().epoch(number).tolist()
        exams = {EXAM_OF[index] for index in epoch}
        assert exams >= {0, 1}
        assert len(exams) == 4
        assert sorted(epoch) == sorted(index for exam in exams for index in (WITH + WITHOUT)[exam])
        drawn.add(frozenset(exams))
    assert len(drawn) > 3  # new ones every epoch


def test_the_stream_is_the_epochs_one_after_the_other():
    one = sampler()
    expected = [int(index) for number in range(4) for index in one.epoch(number)]
    assert list(islice(sampler(), len(expected))) == expected
    # in any order of asking
    assert [one.index_at(p) for p in reversed(range(len(expected)))] == expected[::-1]


def test_resume_and_ranks_share_one_stream():
    whole = list(islice(sampler(), 60))
    assert list(islice(sampler(start=17), 43)) == whole[17:]
    shares = [list(islice(sampler(rank=rank, world_size=3), 20)) for rank in range(3)]
    assert [index for step in zip(*shares, strict=True) for index in step] == whole


def test_length_of_an_epoch():
    lengths = [len(sampler().epoch(number)) for number in range(300)]
    assert sampler().epoch_images == 6 + 2 * 3  # exams without a finding have three images in the mean
    assert sum(lengths) / 300 == pytest.approx(12, abs=0.3)
    assert ExamSampler(WITH, [[10]], seed=0).epoch_images == 7
    assert ExamSampler(WITH, [], seed=0).epoch_images == 6


def test_fewer_exams_without_a_finding():
    one = ExamSampler(WITH, [[10]], seed=0)
    assert sorted(one.epoch(0).tolist()) == [0, 1, 2, 3, 4, 5, 10]


def record(image_id, exam=None, patient="p", laterality="L", box=False, **labels):
    annotations = [{"category_id": 0, "bbox": [0, 0, 1, 1]}] if box else []
    return {
        "image_id": image_id, "file_name": f"{image_id}.png", "exam_id": exam, "patient_id": patient,
        "laterality": laterality, "annotations": annotations, "labels": labels,
    }  # fmt: skip


def test_from_records():
    records = [
        record(0, "a", malignant=0),
        record(1, "a", malignant=1),  # a label is enough
        record(2, "b", malignant=0),
        record(3, "c", malignant=0, box=True),
        record(4, "d", malignant=0),
        record(5, "d", malignant=None),
    ]
    pools = split_pools(records, ("malignant",))
    assert list(pools.exams) == [0, 0, 1, 2, 3, 3]
    made = ExamSampler.from_pools(pools, seed=0)
    assert sorted(made.epoch(0).tolist()) == [0, 1, 2, 3, 4, 5]


def test_exams_of_which_nothing_is_known_are_no_negatives():
    records = [
        record(0, "a", malignant=1, benign=0),
        record(1, "b", malignant=None, benign=None),
        record(2, "c", malignant=0, benign=None),  # a data set of cancers knows nothing of benign findings
        record(3, "d"),  # no labels at all: for methods that learn from boxes
    ]
    made = ExamSampler.from_pools(split_pools(records, ("benign", "malignant")), seed=0)
    assert {index for number in range(30) for index in made.epoch(number).tolist()} == {0, 2, 3}


def test_exams_of_different_patients_and_records_without_exam():
    records = [
        record(0, "1", "p"),
        record(1, "1", "q"),
        record(2, None, "r"),
        record(3, None, "r"),
        record(4, None, None),
    ]
    assert list(split_pools(records).exams) == [0, 1, 2, 2, 3]


def test_no_finding_at_all():
    pools = split_pools([record(0, "a", malignant=0)], ("malignant",), source="toy")
    with pytest.raises(ValueError, match="none of the 1 exams of toy has a finding"):
        ExamSampler.from_pools(pools, seed=0)


def test_labels_of_a_breast():
    records = [
        record(0, "a", malignant=0, benign=None),
        record(1, "a", malignant=1, benign=0),
        record(2, "a", laterality="R", malignant=0, benign=0),
        record(3, "b", malignant=0, benign=0),
        {**record(4, "b"), "labels": None},
        record(5, "a", laterality=None, malignant=0),
    ]
    shared = [one["labels"] for one in share_breast_labels(records)]
    assert shared == [
        {"malignant": 1, "benign": None},
        {"malignant": 1, "benign": None},
        {"malignant": 0, "benign": 0},
        {"malignant": 0, "benign": 0},
        None,
        {"malignant": 0},
    ]
    assert records[0]["labels"] == {"malignant": 0, "benign": None}
