"""Comparison of predictions of the benchmark of exported models."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.exported_model import in_turns, largest_difference


def prediction(boxes, scores, labels):
    return SimpleNamespace(file="a.png", boxes=np.array(boxes, float), scores=np.array(scores), labels=np.array(labels))


def test_largest_difference_over_all_files():
    one, none = prediction([[0, 0, 2, 2]], [0.5], [1]), prediction(np.zeros((0, 4)), [], [])
    other = prediction([[0, 0.25, 2, 2]], [0.75], [1])
    assert largest_difference([one, none], [other, none]) == (1, 0.25, 0.25)
    with pytest.raises(ValueError, match=r"a\.png: 1 boxes of the model, 0 of the file"):
        largest_difference([one], [none])


def test_contenders_take_turns():
    order = []
    seconds = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert seconds.keys() == {"a", "b"}
