import struct

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import generate_frames

from mammo_d2.data.reading.dicom.dicom_file import read_dicom
from mammo_d2.data.reading.image_meta import ImageReadError
from tests.data.dicom_files import make_dataset, write_dicom

NOISE = np.random.default_rng(0).integers(0, 4096, (40, 30), dtype=np.uint16)


def rle_frame():
    dataset = make_dataset(NOISE)
    dataset.compress(uid.RLELossless)
    return next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))


def write_rle(path, frame):
    return write_dicom(path, NOISE, encoded=frame, syntax=uid.RLELossless)


# These offsets made the decoder read outside of the frame, which ends the process.
@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (1, 0xFFFFFFFF, "segment offsets"),
        (2, 0x7FFFFFFF, "segment offsets"),
        (1, 0, "segment offsets"),
        (2, 64, "segment offsets"),
        (0, 1, "names 1 segments, the image has 2"),
        (0, 15, "names 15 segments, the image has 2"),
        (0, 0xFFFFFFFF, "names 4294967295 segments"),
    ],
)
def test_damaged_rle_header(tmp_path, position, value, message):
    frame = bytearray(rle_frame())
    struct.pack_into("<I", frame, 4 * position, value)
    with pytest.raises(ImageReadError, match=rf"a\.dcm: pixel data \(RLE Lossless\) .*{message}.*; copy the file"):
        read_dicom(write_rle(tmp_path / "a.dcm", bytes(frame)))


def test_rle_frame_without_its_header(tmp_path):
    with pytest.raises(ImageReadError, match="the RLE frame is cut off"):
        read_dicom(write_rle(tmp_path / "a.dcm", rle_frame()[:40]))


def test_one_wrong_byte_in_the_rle_header_is_an_error_or_harmless(tmp_path):
    frame = rle_frame()
    rng = np.random.default_rng(0)
    problems = 0
    for position in range(12):
        damaged = bytearray(frame)
        damaged[position] = (damaged[position] + int(rng.integers(1, 256))) % 256
        try:
            pixels, _ = read_dicom(write_rle(tmp_path / "a.dcm", bytes(damaged)))
        except ImageReadError:
            problems += 1
        else:
            assert pixels.shape == NOISE.shape
    assert problems >= 11
    np.testing.assert_array_equal(read_dicom(write_rle(tmp_path / "a.dcm", frame))[0], NOISE)


SIGNED = np.random.default_rng(0).integers(-2048, 2048, (40, 30)).astype(np.int16)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.JPEGLosslessSV1, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12)),
        (uid.JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="J2K", reversible=True)),
    ],
)
@pytest.mark.parametrize("extended", [False, True])
def test_signed_values_in_a_stream_without_signs(tmp_path, syntax, encode, extended):
    if extended and syntax == uid.JPEGLosslessSV1:
        pytest.skip("its streams of 12 bits hold no more")
    stream = SIGNED.view(np.uint16) if extended else SIGNED.view(np.uint16) & 4095
    path = write_dicom(tmp_path / "a.dcm", SIGNED, encoded=bytes(encode(stream)), syntax=syntax)
    np.testing.assert_array_equal(read_dicom(path)[0], SIGNED + 2048.0)
