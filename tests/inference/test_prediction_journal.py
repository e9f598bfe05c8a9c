"""The list of predictions as they come: cut-off lines, repeated and merged records, other settings."""

import json
import resource
import subprocess
import sys

import pytest

from mammo_d2.core.files import FileFormatError
from mammo_d2.inference.prediction_journal import (
    JOURNAL_FILE,
    Journal,
    JournalWriter,
    SettingsDifferError,
    journal_file,
    remove_journal,
    stat_of,
)

SETTINGS = {"threshold": 0.5}


def record(number, name="", **more):
    return {"id": number, "file_name": name or f"{number}.png", "boxes": [], "image_scores": {}, **more}


def write(folder, *records, rank=0):
    with JournalWriter(journal_file(folder, rank), SETTINGS) as journal:
        for item in records:
            journal.append(item)


def ids(folder):
    return [item["id"] for item in Journal(folder, SETTINGS).records()]


def test_records_come_back(tmp_path):
    assert list(Journal(tmp_path, SETTINGS).records()) == []
    write(tmp_path, record(1), record(2, "ä \"'<b>.png"))
    before = (tmp_path / JOURNAL_FILE).read_bytes()
    assert list(Journal(tmp_path, SETTINGS).records()) == [record(1), record(2, "ä \"'<b>.png")]
    assert (tmp_path / JOURNAL_FILE).read_bytes() == before  # nothing to mend
    write(tmp_path, record(3))
    assert ids(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("tail", [b'{"id": 3, "file_na', b'{"id": 3, "file_na\n', b"\0" * 40, b"[1]\n", b'{"id": 7}\n'])
def test_damaged_lines_are_left_out_and_removed(tmp_path, tail):
    write(tmp_path, record(1), record(2))
    before = (tmp_path / JOURNAL_FILE).read_bytes()
    (tmp_path / JOURNAL_FILE).write_bytes(before + tail)
    assert ids(tmp_path) == [1, 2]
    assert (tmp_path / JOURNAL_FILE).read_bytes() == before


def test_a_journal_killed_in_its_first_line_is_empty(tmp_path):
    (tmp_path / JOURNAL_FILE).write_bytes(b'{"mammo_d2_pre')
    assert ids(tmp_path) == []
    write(tmp_path, record(1))
    assert ids(tmp_path) == [1]


def test_parts_are_merged_by_id_and_the_last_record_of_an_id_holds(tmp_path):
    write(tmp_path, record(1), record(4), {"id": 2, "file_name": "2.png", "problem": "no memory"})
    write(tmp_path, record(3), record(2, image_scores={"a": 0.5}), rank=1)
    journal = Journal(tmp_path, SETTINGS)
    assert [item["id"] for item in journal.records()] == [1, 2, 3, 4]
    assert journal.failed == set()
    assert journal.ids == {"1.png": 1, "2.png": 2, "3.png": 3, "4.png": 4}
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_FILE]
    # The same bytes as those of one process.
    other = tmp_path / "one"
    other.mkdir()
    write(other, record(1), record(2, image_scores={"a": 0.5}), record(3), record(4))
    assert (other / JOURNAL_FILE).read_bytes() == (tmp_path / JOURNAL_FILE).read_bytes()


def test_failed_and_changed_files_are_not_current(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"12")
    stat = stat_of(file)
    failed = {"id": 2, "file_name": "b", "problem": "?", "stat": stat}
    write(tmp_path, record(1, str(file), stat=stat), failed)
    journal = Journal(tmp_path, SETTINGS)
    assert journal.is_current(str(file), stat)
    assert not journal.is_current("b", stat)
    assert not journal.is_current("c", stat)
    file.write_bytes(b"123")
    assert not journal.is_current(str(file), stat_of(file))
    assert stat_of(tmp_path / "gone") is None


def test_other_settings_and_other_files_are_errors(tmp_path):
    write(tmp_path, record(1))
    with pytest.raises(SettingsDifferError, match=r"threshold 0\.5, now 0\.7: results of both"):
        Journal(tmp_path, {"threshold": 0.7})
    (tmp_path / JOURNAL_FILE).write_text('{"images": []}\n')
    with pytest.raises(FileFormatError, match="is no list of predictions"):
        Journal(tmp_path, SETTINGS)
    remove_journal(tmp_path)
    assert ids(tmp_path) == []


FULL_DISK = """
import resource, sys
from mammo_d2.inference.prediction_journal import JournalWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
with JournalWriter(sys.argv[1], {}) as journal:
    try:
        for number in range(1, 100):
            journal.append({"id": number, "file_name": "x" * 30, "boxes": [], "image_scores": {}})
    except OSError as error:
        print(number, error.filename, error.strerror)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on the size of files")
def test_a_full_disk_leaves_whole_lines_and_is_named(tmp_path):
    """A limit on the size of files stands for the disk: both end a write in its middle."""
    path = tmp_path / JOURNAL_FILE
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    number, name, problem = done.stdout.split(" ", 2)
    assert (name, problem) == (str(path), "File too large\n")
    lines = path.read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines[1:]] == list(range(1, int(number)))
    assert path.read_bytes().endswith(b"\n")
