import argparse
import json
import mmap

import numpy as np
import pytest

from benchmarks import lesion


def test_figures_of_a_tiny_run(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    lesion.add_arguments(parser)
    tiny = ["--images", "4", "--size", "160", "120", "--epoch", "2", "2", "6", "10", "--sides", "16", "40"]
    tiny += ["--patch", "16", "--windows", "3", "--rounds", "1", "--networks", "resnet18"]
    figures = lesion.run(parser.parse_args([*tiny, "--output", str(tmp_path / "figures.json")]))
    reading, windows = figures["reading"], figures["windows"]["resnet18"]
    assert reading["patches"] == 20
    assert reading["patches_per_cpu_second"] > 0
    assert reading["anonymous_growth_mib"] >= 0
    assert windows["ratio"] == pytest.approx(windows["lesion_s"] / windows["forward_s"])
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert "patches_per_second" in capsys.readouterr().out


def test_anonymous_memory_is_counted():
    before = lesion.resident_mib()
    if np.isnan(before[0]):
        pytest.skip("no /proc")
    # From the system itself: malloc may give what earlier tests have left.
    block = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(block, np.uint8)[:] = 1
    after = lesion.resident_mib()
    assert after[0] - before[0] == pytest.approx(64, abs=4)
    assert after[1] - before[1] == pytest.approx(64, abs=4)
    block.close()


def test_images_are_of_all_classes(tmp_path):
    records = lesion.write_images(tmp_path, 4, (140, 120))
    assert [[a["pathology"] for a in record["annotations"]] for record in records] == [
        ["malignant"],
        ["benign"],
        [],
        [],
    ]
    sources = lesion.patch_sources(records, lesion.CLASSES, smallest=16, source="test")
    assert [len(pool) for pool in sources.pools] == [1, 1, 2, 2]
