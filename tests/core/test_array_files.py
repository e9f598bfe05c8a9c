import numpy as np
import pytest

from mammo_d2.core.array_files import load_array, load_arrays

REMEDY = "make it again"


def test_arrays_are_read_whole_mapped_and_by_name(tmp_path):
    values = np.arange(6, dtype=np.uint16).reshape(2, 3)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", one=values, two=values + 1)
    np.testing.assert_array_equal(load_array(tmp_path / "a.npy", REMEDY), values)
    mapped = load_array(tmp_path / "a.npy", REMEDY, mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, values)
    assert list(load_arrays(tmp_path / "a.npz", REMEDY)) == ["one", "two"]
    (two,) = load_arrays(tmp_path / "a.npz", REMEDY, ["two", "three"]).values()
    np.testing.assert_array_equal(two, values + 1)
    with pytest.raises(FileNotFoundError):
        load_array(tmp_path / "b.npy", REMEDY)


def test_other_files_are_named(tmp_path):
    array, arrays, text = tmp_path / "a.npy", tmp_path / "a.npz", tmp_path / "text"
    np.save(array, np.zeros((2, 3)))
    np.savez(arrays, one=np.zeros(2))
    text.write_text("no array")
    for path in (arrays, text):
        for mode in (None, "r"):
            with pytest.raises(ValueError, match=rf"{path.name}: damaged or not a \.npy .*; make it again"):
                load_array(path, REMEDY, mmap_mode=mode)
    for path in (array, text):
        with pytest.raises(ValueError, match=rf"{path.name}: damaged or not a \.npz .*; make it again"):
            load_arrays(path, REMEDY)
    for path, load in ((array, load_array), (arrays, load_arrays)):
        for length in (0, 20, path.stat().st_size - 1):
            path.write_bytes(path.read_bytes()[:length])
            with pytest.raises(ValueError, match=rf"{path.name}: damaged"):
                load(path, REMEDY)
