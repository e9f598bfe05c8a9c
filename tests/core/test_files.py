import json
import math
import stat

import numpy as np
import pytest

from mammo_d2.core.files import (
    FileFormatError,
    atomic_write,
    path_problem,
    read_json,
    sha256_bytes,
    sha256_file,
    write_bytes_atomic,
    write_json,
)

# printf abc | sha256sum
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_bytes(b"abc") == sha256_file(tmp_path / "a") == ABC


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "x" / "y.bin"
    write_bytes_atomic(path, b"1")
    write_bytes_atomic(path, b"2")
    assert path.read_bytes() == b"2"
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def test_failed_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"ä": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": math.nan})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, '{\n "ä": [\n  1,\n  0.5\n ]\n}\n'),
        ({"indent": 2, "nan_as_null": True}, '{\n  "ä": [\n    1,\n    0.5\n  ]\n}\n'),
        ({"indent": None}, '{"ä": [1, 0.5]}\n'),
    ],
)
def test_json_is_written_byte_for_byte(tmp_path, options, expected):
    path = write_json(tmp_path / "a.json", {"ä": (1, 0.5)}, **options)
    assert path.read_bytes() == expected.encode("utf-8")


def test_json_has_null_for_what_is_not_a_number(tmp_path):
    content = {"a": np.float64("nan"), "b": [np.inf, np.int64(3), np.bool_(True)], "c": np.array([0.5, np.nan])}
    path = write_json(tmp_path / "folder" / "x.json", content, nan_as_null=True)
    assert read_json(path) == {"a": None, "b": [None, 3, True], "c": [0.5, None]}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


class OtherError(ValueError):
    pass


def test_unreadable_json_is_named_with_place_and_remedy(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"a":\n [1, }')
    with pytest.raises(FileFormatError, match=r"t\.json: not valid JSON at line 2 column 6 .*; the file may be trunc"):
        read_json(path)
    with pytest.raises(OtherError, match=r"; evaluate again$"):
        read_json(path, remedy="evaluate again", error=OtherError)
    path.write_bytes('"ä"'.encode("latin1"))
    with pytest.raises(FileFormatError, match=r"t\.json: not UTF-8 text"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such file; name another$"):
        read_json(tmp_path / "none.json", if_missing="name another")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "a number has thousands of digits"),
        (b"\x1f\x8b\x08", r"is compressed \(gzip\); unpack it"),
        (b"PK\x03\x04", "is an Excel workbook or a ZIP archive"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        (b'{"a": "\xe4"}', "not UTF-8 text .* at byte 7; is it Latin-1"),
    ],
)
def test_json_in_other_forms_is_a_named_error(tmp_path, content, message):
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"t\.json: .*{message}"):
        read_json(tmp_path / "t.json")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "t.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "t.json") == {"a": 1}


def test_failed_text_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("ä")
    with atomic_write(path, "w") as file:
        file.write("c")
    with pytest.raises(TypeError), atomic_write(path, "w") as file:
        file.write(b"not text")
    assert path.read_bytes() == b"c"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("\\\\server\\x.png", "is an absolute path"),
        ("C:\\x.png", "is an absolute path"),
        ("c:x.png", "is an absolute path"),
        ("../x", "has '..' in it"),
        ("a/../../x", "has '..' in it"),
        ("a\\..\\x", "has '..' in it"),
        ("a/..", "has '..' in it"),
        ("a\0.png", "holds a zero byte"),
    ],
)
def test_paths_that_may_lead_out_of_a_folder(name, problem):
    assert path_problem(name).startswith(problem)


@pytest.mark.parametrize("name", ["a.png", "p1/L_CC.png", "..a/b..c/d..", "./a.png", "a b/ä:1.png", ""])
def test_paths_that_stay_in_a_folder(name):
    assert path_problem(name) is None


def test_a_key_twice_is_an_error(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"images": [{"bbox": [1, 2, 3, 4], "id": 1, "bbox": [5, 6, 7, 8]}]}')
    with pytest.raises(FileFormatError, match=r"t\.json: an object has the key 'bbox' twice; remove one of them"):
        read_json(path)
