import json
import math
import stat

import pytest

from mammo_d2.core.files import sha256_bytes, sha256_file, write_bytes_atomic, write_json

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
