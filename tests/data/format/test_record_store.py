"""The file of a record store: what goes in comes out; what is not whole is refused."""

import io
import json
import os
import pickle

import numpy as np
import pytest

from mammo_d2.data.format.record_store import BrokenStoreError, RecordStore, SourceState, write_store

STATE = SourceState(10, 20, "x")
CATEGORIES = [{"id": 1, "name": "benign"}, {"id": 5, "name": "malignant"}]


def image(number, **more):
    return {"id": number, "file_name": f"{number}.png", "height": 9, "width": 8, **more}


def annotation(number, image_id, category=5, **more):
    box = {"bbox": [0.1, 1e-17, 3, 2.5], "area": 7.5, "iscrowd": 0}
    return {"id": number, "image_id": image_id, "category_id": category, **box, **more}


COCO = {
    "categories": CATEGORIES,
    # not in order; text beyond ASCII, a lone surrogate, a huge number
    "images": [
        image(7, patient_id="p", exam_id="e", laterality="R", labels={"malignant": 1, "benign": None}),
        image(3, patient_id=4, source={"sha256": "ab"}, note="é\ud800", big=2**70, laterality=None),
        image(5, labels={"other": 0}, laterality="L"),
    ],
    "annotations": [
        annotation(9, 7),
        annotation(2, 7, 1, iscrowd=1),
        annotation(4, 3, ignore=1, segmentation={"size": [9, 8], "counts": "abc"}),
    ],
}


def stored(coco=COCO, **more):
    file = io.BytesIO()
    write_store(file, coco, STATE, **more)
    return file.getvalue()


def opened(content):
    return RecordStore(np.frombuffer(content, np.uint8))


def test_what_goes_in_comes_out():
    store = opened(stored(warnings=["w"], num_warnings=3))
    assert (store.source, store.categories, store.warnings, store.num_warnings) == (STATE, CATEGORIES, ["w"], 3)
    third, fifth, seventh = COCO["images"][1], COCO["images"][2], COCO["images"][0]
    first, second, last = COCO["annotations"]
    assert [store.entry(row) for row in range(len(store))] == [
        (third, [last]), (fifth, []), (seventh, [second, first]),
    ]  # fmt: skip
    assert type(store.entry(2)[1][0]["bbox"][2]) is int
    assert store.image_ids.tolist() == [3, 5, 7]
    assert store.file_names() == ["3.png", "5.png", "7.png"]
    assert store.label_names == ["other", "malignant", "benign"]
    assert store.labels.tolist() == [[-2, -2, -2], [0, -2, -2], [-2, 1, -1]]
    assert store.laterality.tolist() == [0, 1, 2]
    assert store.exams.tolist() == [0, -1, 1]
    assert [json.loads(key) for key in store.exam_keys()] == [["patient", 4], ["exam", "p", "e"]]
    assert store.annotation_ends.tolist() == [1, 1, 3]
    assert store.annotation_categories.tolist() == [5, 1, 5]
    assert store.annotation_flags.tolist() == [2, 1, 0]
    assert (len(store.patient_hashes), len(store.content_hashes)) == (2, 1)


def test_an_empty_file():
    store = opened(stored({"categories": [], "images": [], "annotations": []}))
    assert (len(store), store.file_names(), store.labels.shape) == (0, [], (0, 0))


def test_a_mapped_store_is_opened_again_where_it_is_unpickled(tmp_path):
    path = tmp_path / "train.records"
    path.write_bytes(stored())
    sent = pickle.dumps(RecordStore.map(path))
    assert len(sent) < 500
    assert pickle.loads(sent).entry(1) == (COCO["images"][2], [])
    assert pickle.loads(pickle.dumps(opened(stored()))).entry(1) == (COCO["images"][2], [])


def test_what_is_not_whole_is_refused(tmp_path):
    path = tmp_path / "train.records"
    whole = stored()
    for length in (0, 8, 39, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BrokenStoreError, match=r"train\.records"):
            RecordStore.map(path)
    # A changed byte anywhere behind the records.
    begin = whole.rindex(b"7.png")
    for place in (begin, whole.index(b'"version"'), len(whole) - 30):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        with pytest.raises(BrokenStoreError):
            opened(bytes(damaged))
    damaged = bytearray(whole)
    damaged[whole.index(b'{"id":5')] = 0
    with pytest.raises(BrokenStoreError, match="record 1 is damaged"):
        opened(bytes(damaged)).entry(1)


def test_another_version(monkeypatch):
    content = stored()
    monkeypatch.setattr("mammo_d2.data.format.record_store.STORE_VERSION", 2)
    with pytest.raises(BrokenStoreError, match="format version 1, not 2"):
        opened(content)


def test_the_state_of_a_file(tmp_path):
    path = tmp_path / "train.json"
    path.write_text("{}")
    fresh = SourceState.of(path)
    assert fresh.digest
    assert fresh.is_still_that_of(path)
    # Changed within one tick of the clock, with the same size.
    path.write_text("[]")
    os.utime(path, ns=(fresh.mtime_ns, fresh.mtime_ns))
    assert not fresh.is_still_that_of(path)
    os.utime(path, ns=(10**18, 10**18))
    old = SourceState.of(path)
    assert old == SourceState(2, 10**18, "")
    assert old.is_still_that_of(path)
    path.write_text("[1]")
    os.utime(path, ns=(10**18, 10**18))
    assert not old.is_still_that_of(path)
