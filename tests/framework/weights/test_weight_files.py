"""Damaged weight files; how files of every origin are read is tested in ``test_checkpoint_io``."""

import pickle

import numpy as np
import pytest

from mammo_d2.framework.weights.weight_files import read_weight_file


def test_a_damaged_array_type_is_refused(tmp_path):
    """numpy accepts a state of seven fields, and the process ended when the array was read."""
    data = pickle.dumps({"a": np.arange(3.0)}, protocol=2)
    assert data.count(b"<q") == 1
    start = data.index(b"<q")
    end = data.index(b"NNN", start)
    path = tmp_path / "w.pkl"
    path.write_bytes(data[:start] + b"N" + data[end + 1 :])
    with pytest.raises(ValueError, match=r"w\.pkl: damaged or not a pickle .*array type float64"):
        read_weight_file(str(path))
