import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from mammo_d2.data.reading.dicom.dicom_file import read_dicom, read_dicom_meta
from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.data.reading.raster import read_raster
from mammo_d2.data.reading.size_limits import VARIABLE, allow_megapixels, jpeg_2000_size, jpeg_size, max_megapixels
from tests.data.dicom_files import write_dicom

IMAGE = np.arange(100 * 120, dtype=np.uint16).reshape(100, 120) % 4096
TOO_LARGE = r"a.*: 100 x 120 = 0\.012 million pixels, more than 0\.01 million; leave it out, or .*--max-megapixels 1"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.01")


def encode(suffix, image):
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm", ".jpg"])
def test_raster_files_beyond_the_limit(small, monkeypatch, suffix):
    data = encode(suffix, IMAGE.astype(np.uint8))
    with pytest.raises(ImageReadError, match=TOO_LARGE):
        read_raster("a", data)
    monkeypatch.setenv(VARIABLE, "0.012")
    assert read_raster("a", data)[0].shape == (100, 120)


def test_dicom_beyond_the_limit(small, tmp_path):
    with pytest.raises(ImageReadError, match=TOO_LARGE):
        read_dicom(write_dicom(tmp_path / "a.dcm", IMAGE))


def test_a_png_that_promises_the_most_is_refused_without_decoding():
    data = bytearray(encode(".png", IMAGE))
    data[16:24] = struct.pack(">II", 65535, 65535)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ImageReadError, match="65535 x 65535 = 4295 million pixels, more than 150 million"):
        read_raster("a", bytes(data))


def test_mammograms_of_every_size_are_below_the_default(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    # The largest film scans of DDSM: 6,871 x 5,511 pixels, and twice as many each way with a small margin.
    assert 6871 * 5511 * 3.9 < max_megapixels() * 1e6


def test_deflated_dicom(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", IMAGE, syntax=uid.DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(read_dicom(path)[0], IMAGE)
    zeros = np.zeros((1000, 1000), np.uint16)
    path = write_dicom(tmp_path / "b.dcm", zeros, syntax=uid.DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 10_000
    monkeypatch.setenv(VARIABLE, "0.2")
    for read in (read_dicom, read_dicom_meta):
        with pytest.raises(ImageReadError, match=r"b\.dcm: its \d+ deflated bytes become more than 0\.0016 GB; leave"):
            read(path)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="J2K", reversible=True)),
        (uid.HTJ2KLossless, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.JPEGLosslessSV1, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12)),
        (uid.JPEGExtended12Bit, lambda a: imagecodecs.jpeg8_encode(a, level=95, bitspersample=12)),
    ],
)
def test_a_stream_of_another_size_than_its_header_is_not_decoded(tmp_path, syntax, encode):
    data = bytes(encode(IMAGE))
    size = jpeg_2000_size(data) if "2000" in syntax.name else jpeg_size(data)
    assert size == (100, 120, 1)
    path = write_dicom(tmp_path / "a.dcm", IMAGE[:, :119], encoded=data, syntax=syntax)
    with pytest.raises(ImageReadError, match=r"\(100, 120, 1\), the header says \(100, 119, 1\)"):
        read_dicom(path)


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan"])
def test_a_limit_that_is_none(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=r"MAMMO_D2_MAX_MEGAPIXELS=.* must be a positive number"):
        max_megapixels()


def test_the_option_sets_the_limit(monkeypatch):
    monkeypatch.setenv(VARIABLE, "5")
    allow_megapixels(None)
    assert max_megapixels() == 5
    allow_megapixels(900)
    assert max_megapixels() == 900
    with pytest.raises(ValueError, match="must be a positive number"):
        allow_megapixels(0)
