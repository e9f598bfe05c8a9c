"""Files of .safetensors: read, written, and refused."""

import struct

import pytest
import torch

from mammo_d2.framework.weights.safetensors_files import read_safetensors, write_safetensors
from mammo_d2.framework.weights.weight_files import read_weight_file

# Little endian: 1.0 and -2.0 as float32, 3 as int64, 1.5 as bfloat16.
DATA = bytes.fromhex("0000803f 000000c0 0300000000000000 c03f")
HEADER = (
    b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},'
    b'"count":{"dtype":"I64","shape":[],"data_offsets":[8,16]},"half":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]}}'
)


def test_a_file_written_by_hand(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(HEADER)) + HEADER + DATA)
    found = read_safetensors(path)
    assert {name: value.tolist() for name, value in found.items()} == {"a": [[1.0], [-2.0]], "count": 3, "half": [1.5]}
    assert found["half"].dtype == torch.bfloat16
    assert read_weight_file(str(path))["model"].keys() == {"a", "count", "half"}


def test_written_as_they_are(tmp_path):
    path = tmp_path / "b.safetensors"
    weights = {"w": torch.arange(6.0).half().reshape(2, 3).T, "n": torch.tensor(5)}
    write_safetensors(path, weights, {"model": "mine"})
    found = read_safetensors(path)
    assert torch.equal(found["w"], weights["w"])
    assert found["w"].dtype == torch.float16
    assert found["n"].item() == 5
    assert b'"__metadata__":{"model":"mine"}' in path.read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"PK\3\4" + bytes(range(200)), struct.pack("<Q", len(HEADER)) + HEADER + DATA[:-1]]
)
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.safetensors: damaged or not a \.safetensors file"):
        read_safetensors(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.safetensors does not exist"):
        read_safetensors(tmp_path / "no.safetensors")
