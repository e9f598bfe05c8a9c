import os
import signal
from contextlib import closing

import pytest

from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.workers import run_images
from tests.data.toy_source import ToySource, write_breasts

KEYS = [f"p{n}" for n in range(8)]


class CrashingSource(ToySource):
    """Reading p1 and p6 ends the process, as a decoder does that reads outside of its memory."""

    def read(self, image):
        if image.key in ("p1", "p6"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().read(image)


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "source").mkdir()
    write_breasts(tmp_path / "source", KEYS)
    return CrashingSource(tmp_path / "source", [(key, key, []) for key in KEYS])


def test_a_crash_costs_one_image_and_names_its_file(sources, tmp_path):
    options = PrepareOptions(workers=2, progress=False)
    with closing(run_images(sources, list(sources.images()), options, tmp_path / "out")) as running:
        outcomes = list(running)
    assert [outcome.key for outcome in outcomes] == KEYS
    assert [outcome.key for outcome in outcomes if outcome.image is None] == ["p1", "p6"]
    (issue,) = outcomes[1].issues
    assert (issue.level, issue.key) == ("error", "p1")
    assert "p1.png: the process that prepared this image ended without a message" in issue.problem
