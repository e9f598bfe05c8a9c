"""Files of .safetensors, written by hand."""

import json

import pytest
import torch

from mammo_d2.framework.weights.safetensors_files import read_safetensors


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_tensors_by_name(tmp_path):
    # Little endian: 1.0 and -2.0 as float32, 3 as int64, 1.5 as bfloat16.
    data = bytes.fromhex("0000803f 000000c0 0300000000000000 c03f")
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "count": {"dtype": "I64", "shape": [], "data_offsets": [8, 16]},
        "half": {"dtype": "BF16", "shape": [1], "data_offsets": [16, 18]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [18, 18]},
    }
    found = read_safetensors(write(tmp_path / "a.safetensors", header, data))
    assert {name: value.tolist() for name, value in found.items()} == {
        "a": [[1.0], [-2.0]], "count": 3, "half": [1.5], "none": [],
    }  # fmt: skip
    assert (found["a"].dtype, found["none"].shape) == (torch.float32, (0, 3))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"x" * 4, "its header is no JSON"),
        ([1], "no JSON object"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, r"'a' \[2\] of F32 needs 8 bytes"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [96, 100]}}, "needs 4 bytes"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "no shape or no offsets"),
        ({"a": {"dtype": "object", "shape": [1], "data_offsets": [0, 4]}}, "of the type 'object'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, header, message):
    with pytest.raises(ValueError, match=rf"a\.safetensors.*{message}"):
        read_safetensors(write(tmp_path / "a.safetensors", header, bytes(16)))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "short.safetensors").write_bytes(b"abc")
    (tmp_path / "other.safetensors").write_bytes(b"PK\3\4" + bytes(range(200)))
    for name in ("short", "other"):
        with pytest.raises(ValueError, match="does not fit into the file"):
            read_safetensors(tmp_path / f"{name}.safetensors")
