"""Preparation on a local cluster with a killed worker writes what one process writes, byte for byte."""

import os
import signal

from mammo_d2.data.prepare import workers
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.toy_source import ToySource, write_breasts

KEYS = [f"p{n}" for n in range(6)]
OPTIONS = PrepareOptions(progress=False)


class DyingSource(ToySource):
    """The first reading of p2 ends its worker."""

    def read(self, image):
        flag = self.source / "died"
        if image.key == "p2" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(image)


def contents(folder):
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "manifest.json"}


def test_the_files_are_those_of_one_process(local_cluster, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    write_breasts(folder, KEYS)
    for path in folder.iterdir():  # of files that have just been written, the resume records leave out the time
        os.utime(path, (10**9, 10**9))
    rows = [(key, key, []) for key in KEYS]
    found = prepare(DyingSource(folder, rows), tmp_path / "cluster", OPTIONS, cluster=local_cluster)
    assert (folder / "died").exists()
    expected = prepare(DyingSource(folder, rows), tmp_path / "here", OPTIONS)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "here")
    assert (found.counts, found.issues) == (expected.counts, expected.issues)
    # It goes on from what is there, wherever that was made.
    (tmp_path / "here" / "images" / "p3.png").unlink()
    again = prepare(DyingSource(folder, rows), tmp_path / "here", OPTIONS, cluster=local_cluster)
    assert again.reused == 5
    assert contents(tmp_path / "cluster") == contents(tmp_path / "here")


def test_an_image_that_kills_workers_is_tried_here(tmp_path, monkeypatch):
    """In a process of its own, as on one machine."""
    made = []

    class Here:
        def __init__(self, work, crashed, workers, start, arguments):
            made.append((workers, arguments))

        def __call__(self, items):
            yield from (f"here {source.key}" for source in items)

    class Cluster:
        def __init__(self, address, make, crashed, arguments, ahead):
            self.crashed = crashed
            assert (address, make, ahead) == ("tcp://x:1", workers.prepare_function, 32)

        def __call__(self, items):
            yield from map(self.crashed, items)

    monkeypatch.setattr(workers, "CrashSafeMap", Here)
    monkeypatch.setattr(workers, "ClusterMap", Cluster)
    source = ToySource(tmp_path, [(key, key, []) for key in KEYS[:2]])
    running = workers.run_images(source, list(source.images()), OPTIONS, tmp_path, "tcp://x:1")
    assert list(running) == ["here p0", "here p1"]
    assert made == [(1, (source, OPTIONS.image, tmp_path, False, False))]
