"""The fast reader gives what Python's gives, or leaves the file to it."""

import json

import pytest

from mammo_d2.core import fast_json
from mammo_d2.core.fast_json import parse_quickly, parse_strictly
from mammo_d2.core.files import FileFormatError, read_json

pytest.importorskip("orjson")


@pytest.fixture(autouse=True)
def small_files_too(monkeypatch):
    monkeypatch.setattr(fast_json, "LEAST_BYTES", 0)


def test_content_is_that_of_pythons_reader():
    text = (
        '{"a": [1, -0.0, 1e-5, 0.1234567890123456789], "b": {"c": null, "d": "\\u00e4: \\"x\\""}, "e": true, "f": {}}'
    )
    content = parse_strictly(text.encode())
    assert content == json.loads(text)
    assert repr(content) == repr(json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',  # a key twice
        '{"a": 123456789012345678901234567890}',  # would become a float
        '{"a": NaN}',
        '{"a" : 1}',  # keys cannot be counted
        '{"a": "\\":"}',
        '{"a": 1',
        '["\\ud800"]',
    ],
)
def test_what_may_be_read_otherwise_is_left_to_json(text):
    assert parse_strictly(text.encode()) is None


def test_without_orjson_everything_is_left_to_json(monkeypatch):
    monkeypatch.setattr(fast_json, "orjson", None)
    assert parse_strictly(b"[1]") is parse_quickly("[1]") is None


def test_a_large_file_with_a_key_twice_is_still_an_error(tmp_path):
    rows = [{"id": n, "text": "x" * 50} for n in range(6000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows))
    assert read_json(path) == rows
    path.write_text(json.dumps(rows).replace('{"id": 7,', '{"id": 7, "id": 8,'))
    with pytest.raises(FileFormatError, match="has the key 'id' twice"):
        read_json(path)
