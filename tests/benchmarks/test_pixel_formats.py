from argparse import Namespace

import cv2
import numpy as np
import pytest

from benchmarks.pixel_formats import FORMATS, measure, run
from benchmarks.prepare import source_pixels


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_every_format_is_lossless_and_measured(form):
    image = np.random.default_rng(0).integers(0, 4096, (600, 700)).astype(np.uint16)
    encode, decode, window, size = measure(form, image)
    assert min(encode, decode, window) >= 0
    assert size > 600 * 700 * 1.4  # noise of 12 bits has 1.5 bytes a pixel


def test_table(tmp_path, capsys):
    image = source_pixels(None, 900)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    run(Namespace(images=[tmp_path / "a.png"], bits=12, repeats=1, crop=False))
    text = capsys.readouterr().out
    assert "a.png: (832, 640) uint16, stored in 0..4095" in text
    assert text.count("\n| ") == 2 * len(FORMATS) + 3
