"""A crash costs one item; results stay in order, and no more of them are made than asked for."""

import itertools
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from mammo_d2.core.processes.crash_safe import CrashSafeMap, WorkerStartError

_offset = 0


def begin(offset):
    global _offset
    if offset < 0:
        os._exit(1)
    _offset = offset


def work(item):
    if item in (1, 6):
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 3:
        raise ValueError("an error of its own")
    return item + _offset


def note(path):
    Path(path).touch()


def crashed(item):
    return f"crashed: {item}"


@pytest.mark.parametrize(
    ("workers", "ahead", "method"), [(1, 0, "fork"), (2, 0, "fork"), (2, 3, "fork"), (1, 1, "spawn")]
)
def test_results_in_order_with_the_crashed_ones_named(workers, ahead, method):
    run = CrashSafeMap(work, crashed, workers, begin, (100,), ahead, method)
    items = [0, 1, 2, 4, 5, 6, 7, 8, 9]
    expected = [100, "crashed: 1", 102, 104, 105, "crashed: 6", 107, 108, 109]
    assert list(run(items)) == expected
    assert list(run([])) == []


def test_an_exception_is_raised_where_its_item_is():
    results = CrashSafeMap(work, crashed, 1, begin, (0,), method="fork")([2, 3])
    assert next(results) == 2
    with pytest.raises(ValueError, match="an error of its own"):
        next(results)


def test_processes_that_cannot_begin():
    with pytest.raises(WorkerStartError, match="end before they have begun"):
        list(CrashSafeMap(work, crashed, 1, begin, (-1,), method="fork")([0]))


def test_no_more_is_worked_on_than_asked_for(tmp_path):
    paths = [tmp_path / str(n) for n in range(20)]
    with closing(CrashSafeMap(note, crashed, 1, begin, (0,), ahead=2, method="fork")(paths)) as results:
        assert list(itertools.islice(results, 3)) == [None] * 3
    assert 3 <= len(list(tmp_path.iterdir())) <= 5
