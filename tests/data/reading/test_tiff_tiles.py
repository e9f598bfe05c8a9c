"""Prepared pixels in tiles: the values of a PNG to the digit, windows, other readers, damage."""

import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest

from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.data.reading.reader import image_size, read_image
from mammo_d2.data.reading.tiff_tiles import (
    TILE,
    TiledPixels,
    encode_tiff_tiles,
    scale_to_16_bit,
    tiff_tags,
    unscaled,
)


def noise(shape, top, dtype=np.uint16, seed=0):
    values = np.random.default_rng(seed).integers(0, top + 1, shape)
    values.flat[:2] = 0, top
    return values.astype(dtype)


def prepared(source, top):
    """A source's whole values as ``prepare`` stores them."""
    return scale_to_16_bit(source.astype(np.float32), top).astype(np.uint16)


def test_the_scale_by_hand():
    # 65535 / 4095 = 16.0037: 1 -> 16, 137 -> 2192.50 -> 2193, 4095 -> 65535.
    np.testing.assert_array_equal(scale_to_16_bit(np.float32([0, 1, 137, 4095]), 4095), [0, 16, 2193, 65535])
    np.testing.assert_array_equal(scale_to_16_bit(np.float32([-1, 0.5, 255.2]), 255), [0, 128, 65535])


@pytest.mark.parametrize("top", [1, 255, 1023, 3456, 4095, 16383, 32767])
def test_all_values_of_a_depth_come_back(tmp_path, top):
    source = np.arange(top + 1, dtype=np.uint16).reshape(1, -1)
    stored = prepared(source, top)
    pixels, found = unscaled(stored, top)
    assert found == top
    np.testing.assert_array_equal(pixels, source)
    path = tmp_path / "a.tif"
    path.write_bytes(encode_tiff_tiles(stored, top))
    read, meta = read_image(path)
    np.testing.assert_array_equal(read, stored)
    assert (read.dtype, meta.max_value, meta.bits_stored, meta.format) == (np.float32, 65535, 16, "tiff")


@pytest.mark.parametrize("max_value", [4095.0, 4095.5, 65535.0, 1.0])
def test_values_that_no_scale_gives_are_stored_as_they_are(max_value):
    stored = noise((20, 30), 65535)
    pixels, top = unscaled(stored, max_value)
    assert top == 65535
    np.testing.assert_array_equal(pixels, stored)
    tiles = TiledPixels.from_content("a.tif", encode_tiff_tiles(stored, max_value))
    np.testing.assert_array_equal(tiles.read(), stored)


def test_one_pixel_in_between_is_noticed():
    stored = prepared(noise((40, 40), 4095), 4095)
    stored[17, 23] = 17  # 1 gives 16, 2 gives 32
    assert unscaled(stored, 4095)[1] == 65535


@pytest.mark.parametrize("shape", [(1, 1), (256, 256), (300, 256), (256, 257), (700, 513)])
@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095)])
def test_the_same_values_as_a_png_and_in_every_other_reader(tmp_path, shape, dtype, top):
    source = noise(shape, top, dtype)
    stored = source if top != 4095 else prepared(source, top)
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    data = encode_tiff_tiles(stored, top)
    (tmp_path / "a.tif").write_bytes(data)
    (expected, png_meta), (pixels, meta) = read_image(tmp_path / "a.png"), read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels, expected)
    assert (pixels.dtype, meta.max_value, meta.warnings) == (np.float32, png_meta.max_value, png_meta.warnings)
    assert image_size(tmp_path / "a.tif") == shape
    # libtiff gives the stored values: those of the source.
    np.testing.assert_array_equal(imagecodecs.tiff_decode(data).reshape(shape), source)
    assert encode_tiff_tiles(stored, top) == data


@pytest.mark.parametrize(
    "window", [(0, 0, 10, 10), (250, 250, 260, 270), (0, 511, 700, 513), (699, 0, 700, 513), (5, 7, 5, 9)]
)
def test_windows(window):
    stored = prepared(noise((700, 513), 4095), 4095)
    tiles = TiledPixels.from_content("a.tif", encode_tiff_tiles(stored, 4095))
    top, left, bottom, right = window
    np.testing.assert_array_equal(tiles.read(*window), stored[top:bottom, left:right])
    assert tiles.shape == (700, 513)


def test_only_the_tiles_of_a_window_are_decoded(tmp_path):
    stored = noise((3 * TILE, 3 * TILE), 65535)
    data = bytearray(encode_tiff_tiles(stored))
    data[tiff_tags(bytes(data))[324][8] + 5] ^= 1  # in the last tile
    (tmp_path / "a.tif").write_bytes(data)
    tiles = TiledPixels.open(tmp_path / "a.tif")
    np.testing.assert_array_equal(tiles.read(0, 0, 2 * TILE, 3 * TILE), stored[: 2 * TILE])
    with pytest.raises(ImageReadError, match=r"a\.tif: damaged TIFF \(tile 8 of 9\); prepare it again"):
        tiles.read()
    with pytest.raises(ImageReadError, match="tile 8 of 9"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"", b"x" * 40, imagecodecs.zstd_encode(bytes(100))])
def test_wrong_data_with_a_right_checksum(content):
    data = bytearray(encode_tiff_tiles(noise((TILE, TILE), 65535)))
    tags = tiff_tags(bytes(data))
    data[tags[324][0] :] = content
    wrong = changed(changed(bytes(data), 325, len(content)), 65433, zlib.crc32(content))
    with pytest.raises(ImageReadError, match="tile 0 of 1"):
        TiledPixels.from_content("a.tif", wrong).read()


def test_a_file_that_is_cut_off(tmp_path):
    data = encode_tiff_tiles(noise((300, 300), 65535))
    for length in (len(data) - 1, len(data) // 2, 200, 100, 9, 5):
        (tmp_path / "a.tif").write_bytes(data[:length])
        with pytest.raises(ImageReadError, match=f"truncated TIFF \\({length} bytes"):
            read_image(tmp_path / "a.tif")


def changed(data, tag, value):
    """The content with another value of a tag that has one."""
    data = bytearray(data)
    for position in range(10, 10 + 12 * struct.unpack_from("<H", data, 8)[0], 12):
        if struct.unpack_from("<H", data, position)[0] == tag:
            struct.pack_into("<I", data, position + 8, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        (256, 100_000, "contradicts itself"),
        (257, 0, "contradicts itself"),
        (258, 32, "contradicts itself"),
        (259, 8, "contradicts itself"),
        (281, 0, "contradicts itself"),
        (322, 128, "contradicts itself"),
        (281, 4000, "pixels beyond its maximum 4000"),
        (256, 2_000_000, "million pixels"),
    ],
)
def test_a_directory_that_is_wrong(tag, value, message):
    data = changed(encode_tiff_tiles(prepared(noise((300, 300), 4095), 4095), 4095), tag, value)
    with pytest.raises(ImageReadError, match=message):
        TiledPixels.from_content("a.tif", data).read()


def test_other_tiffs_are_left_to_the_other_reader(tmp_path):
    image = noise((20, 30), 65535)
    cv2.imwrite(str(tmp_path / "a.tif"), image)
    assert TiledPixels.open(tmp_path / "a.tif") is None
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], image)
    (tmp_path / "b.tif").write_bytes(b"II*\0\x08")
    assert TiledPixels.open(tmp_path / "b.tif") is None


def test_empty_background_costs_next_to_nothing():
    assert len(encode_tiff_tiles(np.zeros((2560, 2560), np.uint16))) < 100 * 60 + 2000
