import contextlib

import imagecodecs
import numpy as np
import pytest

from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.data.reading.pvrg_jpeg import read_pvrg_jpeg
from tests.data.pvrg_files import pvrg_stream

Y, X = np.mgrid[:23, :31]
FILM = (2000 + 900 * np.sin(X / 5.0) + 700 * np.cos(Y / 4.0)).astype(np.uint16)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [12, 16])
def test_every_predictor(predictor, bits):
    pixels = FILM * (1 if bits == 12 else 16)
    decoded = read_pvrg_jpeg("a.LJPEG", pvrg_stream(pixels, bits=bits, predictor=predictor))
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, pixels)


def test_a_decoder_of_the_standard_gives_other_pixels_without_an_error():
    stream = pvrg_stream(FILM, predictor=7)
    assert (imagecodecs.ljpeg_decode(stream) != FILM).mean() > 0.5
    np.testing.assert_array_equal(imagecodecs.ljpeg_decode(pvrg_stream(FILM, predictor=4)), FILM)


def test_height_and_width_exchanged_in_the_header():
    stream = pvrg_stream(FILM, header_size=(31, 23))
    assert read_pvrg_jpeg("a.LJPEG", stream).shape == (31, 23)
    np.testing.assert_array_equal(read_pvrg_jpeg("a.LJPEG", stream, (23, 31)), FILM)


def without_end(stream):
    return stream[:-2]


def of_two_components(stream):
    return stream.replace(b"\x0c\x00\x17\x00\x1f\x01", b"\x0c\x00\x17\x00\x1f\x02")


def with_restarts(stream):
    return stream[:2] + b"\xff\xdd\x00\x04\x00\x08" + stream[2:]


@pytest.mark.parametrize(
    ("stream", "size", "message"),
    [
        (b"\x1f\x8b\x08 a packed file", None, "not a JPEG file; unpack it"),
        (without_end(pvrg_stream(FILM)), None, r"truncated JPEG \(.* no end marker\)"),
        (pvrg_stream(FILM)[:12] + b"\xff\xd9", None, "no JPEG marker|truncated JPEG"),
        (pvrg_stream(FILM), (20, 31), "header says 23 x 31 pixels, the image should have 20 x 31"),
        (of_two_components(pvrg_stream(FILM)), None, "JPEG of 2 components"),
        (with_restarts(pvrg_stream(FILM)), None, "restart intervals; convert it"),
        (pvrg_stream(FILM * 16 + 1, bits=16, predictor=1, categories=-1), None, "code for equal neighbours"),
        (bytes(imagecodecs.jpeg8_encode(FILM.astype(np.uint8))), None, "not a lossless one"),
        (b"\xff\xd8\xff\xd9", None, "no JPEG marker|truncated|without frame header"),
    ],
)
def test_files_that_cannot_be_read(stream, size, message):
    with pytest.raises(ImageReadError, match=rf"a\.LJPEG: .*({message})"):
        read_pvrg_jpeg("a.LJPEG", stream, size)


def test_damaged_bytes_give_an_error_or_an_image():
    stream = pvrg_stream(FILM)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(stream)
        damaged[rng.integers(2, len(stream) - 2)] = rng.integers(0, 256)
        with contextlib.suppress(ImageReadError):
            read_pvrg_jpeg("a.LJPEG", bytes(damaged))


def test_size_limit(monkeypatch):
    monkeypatch.setenv("MAMMO_D2_MAX_MEGAPIXELS", "0.0005")
    with pytest.raises(ImageReadError, match=r"23 x 31 = .* million pixels"):
        read_pvrg_jpeg("a.LJPEG", pvrg_stream(FILM))
