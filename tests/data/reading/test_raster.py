import struct

import cv2
import numpy as np
import pytest

from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.data.reading.raster import raster_format, read_raster

RAMP16 = np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)
RAMP8 = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)


def encode(suffix, image, *options):
    ok, data = cv2.imencode(suffix, image, list(options))
    assert ok
    return data.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
@pytest.mark.parametrize(("image", "full", "bits"), [(RAMP16, 65535, 16), (RAMP8, 255, 8)])
def test_full_depth(suffix, image, full, bits):
    pixels, meta = read_raster("a", encode(suffix, image))
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, image)
    assert (meta.height, meta.width, meta.max_value, meta.bits_stored) == (*image.shape, full, bits)


def test_jpeg():
    flat = np.full((16, 16), 77, np.uint8)
    pixels, meta = read_raster("a", encode(".jpg", flat))
    np.testing.assert_array_equal(pixels, flat)
    assert (meta.format, meta.max_value) == ("jpeg", 255)


def test_grey_stored_as_colour_is_one_channel():
    pixels, _ = read_raster("a", encode(".png", np.dstack([RAMP8] * 3)))
    np.testing.assert_array_equal(pixels, RAMP8)
    opaque = np.dstack([RAMP16] * 3 + [np.full_like(RAMP16, 65535)])
    np.testing.assert_array_equal(read_raster("a", encode(".png", opaque))[0], RAMP16)


def test_colour_is_refused():
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 2] = 200
    with pytest.raises(ImageReadError, match=r"a\.png: colour image of 3 channels; save it as a grey image"):
        read_raster("a.png", encode(".png", colour))


def test_pgm_maxval_is_the_full_scale_and_values_stay():
    data = b"P5\n# a comment\n3 2\n4095\n" + struct.pack(">6H", 0, 1, 2, 4093, 4094, 4095)
    pixels, meta = read_raster("a", data)
    np.testing.assert_array_equal(pixels, [[0, 1, 2], [4093, 4094, 4095]])
    assert (meta.max_value, meta.bits_stored) == (4095, 12)


def test_text_pgm():
    pixels, meta = read_raster("a", b"P2 2 2 100\n0 50\n100 7\n")
    np.testing.assert_array_equal(pixels, [[0, 50], [100, 7]])
    assert meta.max_value == 100


def test_floating_point_tiff():
    image = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    pixels, meta = read_raster("a", encode(".tiff", image))
    np.testing.assert_array_equal(pixels, image)
    assert meta.max_value == 1
    with pytest.raises(ImageReadError, match=r"outside 0\.\.1"):
        read_raster("a", encode(".tiff", image * 2))


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm", ".jpg"])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_truncated_file_is_an_error(suffix, keep):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (64, 64)).astype(np.uint8 if suffix == ".jpg" else np.uint16)
    data = encode(suffix, image)
    with pytest.raises(ImageReadError, match=r"x\.img: .*(truncated|incomplete).*copy the file again"):
        read_raster("x.img", data[: int(keep * len(data))])


def test_damaged_png_is_an_error():
    data = bytearray(encode(".png", RAMP16))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageReadError, match=r"damaged PNG \(checksum of chunk IDAT is wrong\)"):
        read_raster("a", bytes(data))


def test_other_files_are_refused():
    with pytest.raises(ImageReadError, match="not a DICOM, PNG, TIFF, PGM or JPEG file"):
        read_raster("a", b"GIF89a" + b"\0" * 100)


@pytest.mark.parametrize(
    ("head", "expected"),
    [(b"\x89PNG\r\n\x1a\n", "png"), (b"II*\0", "tiff"), (b"MM\0*", "tiff"), (b"P5\n", "pgm"),
     (b"\xff\xd8\xff\xe0", "jpeg"), (b"GIF8", None), (b"", None)],
)  # fmt: skip
def test_format(head, expected):
    assert raster_format(head) == expected


def test_fewer_bits_than_the_file_has():
    pixels, meta = read_raster("a", encode(".png", RAMP16 // 16), bits=12)
    np.testing.assert_array_equal(pixels, RAMP16 // 16)
    assert (meta.max_value, meta.bits_stored) == (4095, 12)
    assert read_raster("a", encode(".png", RAMP8), bits=12)[1].max_value == 255
    with pytest.raises(ImageReadError, match="a: pixels up to 59900, more than 12 bits hold; give the right number"):
        read_raster("a", encode(".png", RAMP16), bits=12)


def test_nan_is_named():
    image = np.full((8, 8), 0.5, np.float32)
    image[1, 2] = np.nan
    with pytest.raises(ImageReadError, match="pixels that are NaN or infinite"):
        read_raster("a", encode(".tiff", image))


@pytest.mark.parametrize("data", [b"P2 2 1 100\n0 101\n", b"P2 2 1 100\n-1 7\n", b"P5 2 1 100\n\x00\x65"])
def test_pgm_beyond_its_maximum_is_an_error(data):
    with pytest.raises(ImageReadError, match=r"a: PGM pixels from .* to .*, its header says 0 to 100; correct"):
        read_raster("a", data)


@pytest.mark.parametrize("pixels", [b"0 x\n", b"0 1.5\n", b"0 " + b"9" * 400, b"0 " + b"9" * 5000])
def test_text_pgm_of_no_numbers_is_an_error(pixels):
    with pytest.raises(ImageReadError, match="a: PGM pixels that are no numbers"):
        read_raster("a", b"P2 2 1 100\n" + pixels)


def test_pgm_header_of_endless_digits_is_an_error():
    with pytest.raises(ImageReadError, match="a: PGM header says"):
        read_raster("a", b"P5 " + b"9" * 5000 + b" 1 255\n0")


def test_12_bits_in_a_file_of_16_are_reported():
    (warning,) = read_raster("a", encode(".png", RAMP16 // 16))[1].warnings
    assert "pixels up to 3743 in a file of 16 bits" in warning
    assert "give their number (--bits 12?)" in warning
    assert read_raster("a", encode(".png", RAMP16 // 16), bits=12)[1].warnings == ()
    assert read_raster("a", encode(".png", RAMP16))[1].warnings == ()
