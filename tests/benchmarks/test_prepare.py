from argparse import Namespace

import numpy as np
import pytest

from benchmarks.prepare import SYNTAXES, memory, run, source_pixels, write_source
from mammo_d2.data.reading.reader import read_image


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_each_source_holds_the_pixels(tmp_path, syntax):
    pixels = source_pixels(None, 300)
    read, meta = read_image(write_source(tmp_path, syntax, pixels))
    np.testing.assert_array_equal(read, pixels)
    assert (meta.bits_stored, pixels.max() <= 4095, pixels.shape) == (12, True, (278, 214))


def test_tables(capsys):
    run(Namespace(image=None, repeats=1, images=0, max_side=300))
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines()[3:]]
    assert [tuple(cell.strip() for cell in row) for row in rows] == [
        (syntax, pixels) for syntax in ("raw", "JPEG lossless", "JPEG 2000") for pixels in ("png", "tiff")
    ]


def test_memory_is_flat(tmp_path):
    """An image of 832 x 640 pixels takes 2 MiB as it is read; 36 further ones leave nothing behind."""
    path = write_source(tmp_path, "raw", source_pixels(None, 900))
    rows = memory(path, tmp_path / "out", 48)
    assert [row["images"] for row in rows] == [10, 12, 24, 36, 48]
    assert rows[-1]["resident MiB"] - rows[1]["resident MiB"] < 10
