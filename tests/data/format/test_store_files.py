"""Where a store lies, when it is made again, and what happens where nothing can be written."""

import json
import logging
import multiprocessing
import os

import pytest

from mammo_d2.data.format import store_files
from mammo_d2.data.format.problems import SchemaError
from mammo_d2.data.format.store_files import open_store, store_places, wants_store
from tests.data.toy_dataset import write_dataset


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMMO_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store_files, "_checked", set())


@pytest.fixture
def path(tmp_path):
    return write_dataset(tmp_path, positives=1, negatives=2)


def open_it(path):
    return open_store(path, path.parents[1] / "images")


@pytest.fixture
def parsed(monkeypatch):
    """The annotation files that were read and checked."""
    calls, original = [], store_files.validated_coco
    monkeypatch.setattr(store_files, "validated_coco", lambda *a, **k: calls.append(a[0]) or original(*a, **k))
    return calls


def test_it_is_made_once(path, parsed):
    first, second = open_it(path), open_it(path)
    assert first.path == second.path == path.parent / "train.records"
    assert len(parsed) == 1
    assert [second.entry(row)[0]["file_name"] for row in range(3)] == ["train_0.png", "train_1.png", "train_2.png"]
    assert sorted(os.listdir(path.parent)) == ["train.json", "train.records"]


def test_after_a_change_it_is_made_again(path, parsed):
    open_it(path)
    coco = json.loads(path.read_text())
    coco["images"][0]["patient_id"] = "q0"  # of the same length
    path.write_text(json.dumps(coco, indent=1))
    assert open_it(path).entry(0)[0]["patient_id"] == "q0"
    assert len(parsed) == 2


def test_a_broken_store_is_made_again_with_a_word(path, parsed, caplog):
    store = open_it(path).path
    store.write_bytes(store.read_bytes()[:-5])
    with caplog.at_level(logging.WARNING):
        assert len(open_it(path)) == 3
    assert f"{store}: is no whole record store; it is made again" in caplog.text
    assert len(parsed) == 2


def refuse(monkeypatch, *folders):
    """Make ``mkstemp`` fail in some folders: the tests may run as a user to whom nothing is read-only."""
    original = store_files.tempfile.mkstemp

    def mkstemp(prefix, dir):
        if any(str(dir).startswith(str(folder)) for folder in folders):
            raise PermissionError(13, "Permission denied", str(dir))
        return original(prefix=prefix, dir=dir)

    monkeypatch.setattr(store_files.tempfile, "mkstemp", mkstemp)


def test_a_folder_that_cannot_be_written_leaves_the_cache(path, tmp_path, monkeypatch, parsed):
    refuse(monkeypatch, path.parent)
    store = open_it(path)
    assert store.path == store_places(path)[1]
    assert store.path.parent == tmp_path / "cache" / "records"
    assert len(open_it(path)) == 3
    assert len(parsed) == 1


def test_in_memory_where_nothing_can_be_written(path, tmp_path, monkeypatch, caplog, parsed):
    refuse(monkeypatch, path.parent, tmp_path / "cache")
    with caplog.at_level(logging.WARNING):
        store = open_it(path)
    assert store.path is None
    assert store.entry(2)[0]["patient_id"] == "p2"
    assert "can be kept in no file" in caplog.text
    assert "MAMMO_D2_CACHE" in caplog.text
    open_it(path)
    assert len(parsed) == 2


def test_errors_are_those_of_the_annotation_file(path, tmp_path, monkeypatch):
    open_it(path)
    image = tmp_path / "toy" / "images" / "train_1.png"
    image.unlink()
    open_it(path)  # looked for once in a process
    monkeypatch.setattr(store_files, "_checked", set())
    with pytest.raises(SchemaError, match=r"image 2\.file_name = 'train_1\.png': no such file under"):
        open_it(path)
    path.write_text('{"images": 3}')
    with pytest.raises(SchemaError, match="must be a list"):
        open_it(path)
    assert not [name for name in os.listdir(path.parent) if name.startswith(".")]
    with pytest.raises(FileNotFoundError, match="prepare the data set first"):
        open_store(tmp_path / "none.json", tmp_path)


def test_warnings_are_logged_from_the_store_too(path, monkeypatch, caplog):
    from mammo_d2.data.format import annotations

    coco = json.loads(path.read_text())
    for image in coco["images"]:
        del image["patient_id"]
    path.write_text(json.dumps(coco))
    for _ in range(2):
        monkeypatch.setattr(annotations, "_warned", set())
        caplog.clear()
        open_it(path)
        assert "patient-wise metrics" in caplog.text


def _open_in_process(path, results):
    calls, original = [], store_files.validated_coco
    store_files.validated_coco = lambda *a, **k: calls.append(1) or original(*a, **k)
    store = open_it(path)
    results.put((len(calls), len(store)))


def test_processes_that_start_together_make_it_once(path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_open_in_process, args=(path, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(found) == [(0, 3), (0, 3), (0, 3), (1, 3)]


def test_which_files_have_one(path, monkeypatch):
    assert not wants_store(path, "auto")
    assert wants_store(path, "always")
    monkeypatch.setattr(store_files, "LEAST_STORED_BYTES", 10)
    assert wants_store(path, "auto")
    assert not wants_store(path, "never")
    assert not wants_store(path.with_name("none.json"), "auto")
    with pytest.raises(ValueError, match=r"DATASETS\.RECORD_STORE is 'yes'; use one of auto, always, never"):
        wants_store(path, "yes")
