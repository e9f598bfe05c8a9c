"""Items on a local cluster of processes: order, killed workers, errors."""

import os
import signal
from pathlib import Path

import pytest

from mammo_d2.core.processes.cluster_map import ClusterError, ClusterMap


def make_square(folder):
    return Square(folder)


class Square:
    """Squares numbers; "once" kills its process the first time, "always" each time, "error" raises."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def __call__(self, item):
        number, what = item
        (self.folder / f"{os.getpid()}.worker").touch()
        if what == "error":
            raise RuntimeError(f"no {number}")
        flag = self.folder / f"{number}.died"
        if what == "always" or (what == "once" and not flag.exists()):
            flag.open("a").write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


def crashed(item):
    """Tried once more; items that were only queued on a worker that died may come here, too."""
    number, what = item
    return f"crashed {number}" if what == "always" else number * number


def cluster_map(cluster, folder):
    return ClusterMap(cluster, make_square, crashed, (str(folder),), ahead=2)


def test_results_come_in_order_whoever_dies(local_cluster, tmp_path):
    """Also of workers that start later. The scheduler of the tests gives up a task that killed two workers."""
    items = [(number, {4: "once", 7: "always"}.get(number, "")) for number in range(12)]
    found = list(cluster_map(local_cluster, tmp_path)(items))
    assert found == [n * n if n != 7 else "crashed 7" for n in range(12)]
    assert (tmp_path / "4.died").read_text() == "x"
    assert len((tmp_path / "7.died").read_text()) in (1, 2)
    assert len(list(tmp_path.glob("*.worker"))) >= 3


def test_errors_of_the_work_are_raised_and_the_end_may_come_early(local_cluster, tmp_path):
    running = cluster_map(local_cluster, tmp_path)([(1, ""), (2, "error"), (3, "")])
    assert next(running) == 1
    with pytest.raises(RuntimeError, match="no 2"):
        next(running)
    running = cluster_map(local_cluster, tmp_path)([(number, "") for number in range(100)])
    assert next(running) == 0
    running.close()
    assert list(cluster_map(local_cluster, tmp_path)([])) == []


def test_no_scheduler(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("mammo_d2.core.processes.cluster_map._CONNECT", 0.2)
    with pytest.raises(ClusterError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:1 .*dask scheduler"):
        next(cluster_map("tcp://127.0.0.1:1", tmp_path)([(1, "")]))
