import multiprocessing
import time

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mammo_d2.data.loading.mapped_images import PackedRecords, start_worker, worker_options
from tests.data.prepare.test_workers import alive, wait_until


def test_packed_records():
    records = [{"a": 1}, {"b": [2, {"c": None}]}, {}]
    packed = PackedRecords(records)
    assert list(packed) == records
    packed[1]["b"].append(3)
    assert packed[1] == records[1]
    with pytest.raises(IndexError, match="record 3 of 3"):
        packed[3]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
def test_workers_start_after_the_parent_has_used_opencv_threads():
    # OpenCV's thread pool does not survive a fork, and once its threads sleep a child that waits for them hangs.
    cv2.GaussianBlur(np.zeros((2000, 2000), dtype=np.float32), (9, 9), 3.0)
    time.sleep(0.5)
    for _ in range(3):
        worker = multiprocessing.get_context("fork").Process(target=start_worker, args=(0,))
        worker.start()
        worker.join(timeout=20)
        if worker.is_alive():
            worker.kill()
        assert worker.exitcode == 0


class _Endless(torch.utils.data.Dataset):
    """Samples of a megabyte, so that the queue is full and a worker waits for a taker."""

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return np.zeros(1 << 20, np.uint8)


def _hold(pipe):
    """Starts a loader and waits to be killed."""
    batches = iter(DataLoader(_Endless(), batch_size=1, **worker_options(2)))
    next(batches)
    pipe.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(60)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
def test_workers_end_when_the_run_is_killed():
    parent, child = multiprocessing.Pipe()
    run = multiprocessing.get_context("fork").Process(target=_hold, args=(child,))
    run.start()
    workers = parent.recv()
    time.sleep(0.3)  # let the queue run full
    run.kill()
    run.join()
    assert len(workers) == 2
    assert wait_until(lambda: not any(alive(pid) for pid in workers), 3)
