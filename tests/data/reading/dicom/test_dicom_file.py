import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid

from mammo_d2.data.reading.dicom.dicom_file import open_dicom, read_dicom, read_dicom_meta
from mammo_d2.data.reading.image_meta import ImageReadError, ReadOptions
from tests.data.dicom_files import make_dataset, write_dicom

RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


def test_plain_file_keeps_its_values(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm", RAMP, ImagerPixelSpacing=[0.07, 0.08], ImageLaterality="L", ViewPosition="CC"
    )
    pixels, meta = read_dicom(path)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, RAMP)
    assert (meta.height, meta.width, meta.bits_stored, meta.max_value) == (16, 16, 12, 4095)
    assert (meta.laterality, meta.view, meta.patient_id, meta.exam_id) == ("L", "CC", "P1", "1.2.3.4")
    assert (meta.pixel_spacing, meta.pixel_spacing_source) == ((0.07, 0.08), "ImagerPixelSpacing")
    assert (meta.voi, meta.transfer_syntax) == ("none", "Explicit VR Little Endian")


def test_meta_without_pixels_is_the_same(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, ImageLaterality="R")
    assert read_dicom_meta(path) == read_dicom(path)[1]


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="J2K", reversible=True)),
        (uid.HTJ2KLossless, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.JPEGLosslessSV1, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12)),
    ],
)
def test_lossless_syntaxes_give_the_stored_values(tmp_path, syntax, encode):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4096, (40, 30), dtype=np.uint16)
    path = write_dicom(tmp_path / "a.dcm", image, encoded=bytes(encode(image)), syntax=syntax)
    np.testing.assert_array_equal(read_dicom(path)[0], image)


def test_rle_and_8_bit_jpeg(tmp_path):
    dataset = make_dataset(RAMP)
    dataset.compress(uid.RLELossless)
    dataset.save_as(tmp_path / "rle.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_dicom(tmp_path / "rle.dcm")[0], RAMP)
    image = np.tile(np.arange(0, 240, 15, dtype=np.uint8), (16, 1))
    encoded = bytes(imagecodecs.jpeg8_encode(image, level=95))
    path = write_dicom(tmp_path / "jpeg.dcm", image, encoded=encoded, syntax=uid.JPEGBaseline8Bit)
    pixels, meta = read_dicom(path)
    assert np.abs(pixels - image).max() <= 3
    assert meta.max_value == 255


def test_lossy_overshoot_is_clipped_not_wrapped(tmp_path):
    # A 12-bit stream whose values exceed the 10 bits that the header declares: white must not become black.
    image = np.full((16, 16), 1030, dtype=np.uint16)
    encoded = bytes(imagecodecs.jpeg8_encode(image, level=98, bitspersample=12))
    path = write_dicom(tmp_path / "a.dcm", image, encoded=encoded, syntax=uid.JPEGExtended12Bit, BitsStored=10)
    np.testing.assert_array_equal(read_dicom(path)[0], np.full((16, 16), 1023))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["J2KR", "JLSL", "JPLL", "RLE"])
def test_real_lossless_encodings_equal_the_reference(shared_data, name):
    reference, _ = read_dicom(shared_data / "nema_wg04" / "RG3_UNC.dcm")
    pixels, meta = read_dicom(shared_data / "nema_wg04" / f"RG3_{name}.dcm")
    np.testing.assert_array_equal(pixels, reference)
    assert meta.photometric == "MONOCHROME1"
    # Hand: MONOCHROME1 inverts, so the stored minimum is the output's maximum.
    stored = pydicom.dcmread(shared_data / "nema_wg04" / "RG3_UNC.dcm").pixel_array
    unwindowed, _ = read_dicom(shared_data / "nema_wg04" / f"RG3_{name}.dcm", ReadOptions(voi="none"))
    np.testing.assert_array_equal(unwindowed, 1023 - stored.astype(np.float32))


@pytest.mark.shared_data
def test_real_lossy_encodings_are_close(shared_data):
    reference, _ = read_dicom(shared_data / "nema_wg04" / "RG3_UNC.dcm")
    lossy, _ = read_dicom(shared_data / "nema_wg04" / "RG3_JPLY.dcm")
    assert np.abs(lossy - reference).mean() < 2
    assert np.abs(lossy - reference).max() < 60


@pytest.mark.shared_data
def test_real_film_mammogram(shared_data):
    wavelet, meta = read_dicom(shared_data / "nema_wg04" / "MG1_J2KI.dcm")
    assert wavelet.shape == (4664, 3064)
    assert (meta.laterality, meta.view, meta.chest_wall, meta.modality) == ("L", "MLO", "left", "RG")
    assert (meta.pixel_spacing, meta.pixel_spacing_source) == ((0.05, 0.05), "SpatialResolution")
    cosine, _ = read_dicom(shared_data / "nema_wg04" / "MG1_JPLY.dcm")
    assert np.abs(wavelet - cosine).mean() < 0.01 * meta.max_value


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="J2K", reversible=True)),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
        (uid.JPEGLosslessSV1, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12)),
        (uid.JPEGExtended12Bit, lambda a: imagecodecs.jpeg8_encode(a, level=95, bitspersample=12)),
    ],
)
def test_stream_cut_off_within_a_whole_file(tmp_path, syntax, encode):
    image = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    encoded = bytes(encode(image))
    path = write_dicom(tmp_path / "a.dcm", image, encoded=encoded[: len(encoded) // 4 * 3], syntax=syntax)
    with pytest.raises(ImageReadError, match=r"pixel data .* cannot be decoded"):
        read_dicom(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_values_in_the_upper_bits(tmp_path, dtype):
    # High Bit 15 of 12 bits stored: four unused bits below, here filled.
    values = RAMP.astype(dtype) - (2048 if dtype == np.int16 else 0)
    upper = ((values.astype(np.int64) << 4) | 5).astype(dtype)
    pixels, meta = read_dicom(write_dicom(tmp_path / "a.dcm", upper, HighBit=15))
    np.testing.assert_array_equal(pixels, RAMP)
    assert "High Bit 15 with 12 bits stored: values taken from the upper bits" in meta.warnings[0]


def test_a_wrong_high_bit_over_values_in_the_lowest_bits(tmp_path):
    pixels, meta = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, HighBit=15))
    np.testing.assert_array_equal(pixels, RAMP)
    assert "but the values lie in the lowest bits" in meta.warnings[0]


def test_12_bits_in_a_file_that_says_16_are_reported(tmp_path):
    pixels, meta = read_dicom(write_dicom(tmp_path / "a.dcm", RAMP, BitsStored=16))
    assert (pixels.max(), meta.max_value) == (4080, 65535)
    assert "pixels up to 4080 in a file of 16 bits" in meta.warnings[0]
    assert "correct its Bits Stored (12?)" in meta.warnings[0]
    assert read_dicom(write_dicom(tmp_path / "b.dcm", RAMP * 8, BitsStored=16))[1].warnings == ()


# --- bad input --------------------------------------------------------------------------------------------------------
def test_no_pixel_data(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, PixelData=None)
    with pytest.raises(ImageReadError, match=r"a\.dcm: DICOM file without pixel data .*Digital Mammography.*; leave"):
        read_dicom(path)


def test_object_without_image(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, PixelData=None, Rows=None, Columns=None)
    with pytest.raises(ImageReadError, match="without pixel data"):
        read_dicom(path)
    with pytest.raises(ImageReadError, match="without an image"):
        read_dicom_meta(path)


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_file(tmp_path, keep, compressed):
    image = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    if compressed:
        encoded = bytes(imagecodecs.jpeg2k_encode(image, codecformat="J2K", reversible=True))
        path = write_dicom(tmp_path / "a.dcm", image, encoded=encoded, syntax=uid.JPEG2000Lossless)
    else:
        path = write_dicom(tmp_path / "a.dcm", image)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ImageReadError, match=r"a\.dcm.*copy the file again"):
        read_dicom(path)


def test_damaged_stream_names_the_syntax(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, encoded=b"\xff\x4f\xff\x51" + b"\0" * 40, syntax=uid.JPEG2000Lossless)
    with pytest.raises(ImageReadError, match=r"pixel data \(JPEG 2000.*\) cannot be decoded"):
        read_dicom(path)


def test_no_decoder_names_syntax_and_package(tmp_path, monkeypatch):
    from pydicom.pixels import get_decoder

    from mammo_d2.data.reading.dicom import codecs

    codecs.register()
    decoder = get_decoder(uid.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    path = write_dicom(tmp_path / "a.dcm", RAMP, encoded=b"\xff\xd8", syntax=uid.JPEGLosslessSV1)
    with pytest.raises(ImageReadError, match=r"no decoder for transfer syntax JPEG Lossless.*pip install imagecodecs"):
        read_dicom(path)


def test_video_syntax_is_refused(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, encoded=b"\0\0", syntax=uid.MPEG2MPML)
    with pytest.raises(ImageReadError, match="MPEG2"):
        read_dicom(path)


def test_multi_frame_needs_a_choice(tmp_path):
    frames = np.stack([RAMP, RAMP[::-1]])
    path = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=2, SOPClassUID="1.2.840.10008.5.1.4.1.1.13.1.3")
    with pytest.raises(ImageReadError, match=r"2 frames .*Tomosynthesis.*--frame"):
        read_dicom(path)
    np.testing.assert_array_equal(read_dicom(path, ReadOptions(frame=1))[0], RAMP[::-1])
    with pytest.raises(ImageReadError, match="frame 2 asked for, but it has 2"):
        read_dicom(path, ReadOptions(frame=2))


def test_for_processing_needs_a_choice(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, PresentationIntentType="FOR PROCESSING")
    with pytest.raises(ImageReadError, match=r"FOR PROCESSING image.*--for-processing"):
        read_dicom(path)
    np.testing.assert_array_equal(read_dicom(path, ReadOptions(for_processing=True))[0], RAMP)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"PhotometricInterpretation": "RGB"}, r"colour image \(RGB\)"),
        ({"SamplesPerPixel": 3}, "colour image"),
        ({"BitsAllocated": 32}, "Bits Allocated 32"),
        ({"BitsStored": 17}, "Bits Stored 17"),
    ],
)
def test_unusual_pixels_are_refused(tmp_path, tags, message):
    path = write_dicom(tmp_path / "a.dcm", RAMP, **tags)
    with pytest.raises(ImageReadError, match=message):
        read_dicom(path)


def test_not_dicom(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(b"just some text that is long enough to be looked at" * 8)
    with pytest.raises(ImageReadError, match=r"a\.dcm: not a DICOM file"):
        open_dicom(path)


def test_file_without_preamble_is_read(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, syntax=uid.ImplicitVRLittleEndian)
    dataset = pydicom.dcmread(path)
    bare = tmp_path / "bare.dcm"
    del dataset.file_meta
    dataset.preamble = None
    pydicom.dcmwrite(bare, dataset, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_dicom(bare)[0], RAMP)


def test_damaged_headers_never_raise_anything_else(tmp_path):
    data = write_dicom(tmp_path / "good.dcm", RAMP, WindowCenter=2000, WindowWidth=4000, ViewPosition="CC").read_bytes()
    rng = np.random.default_rng(0)
    path, messages = tmp_path / "bad.dcm", []
    for _ in range(150):
        damaged = bytearray(data)
        start = int(rng.integers(132, 1000))
        damaged[start : start + 4] = rng.bytes(int(rng.integers(0, 8)))
        path.write_bytes(bytes(damaged))
        for read in (read_dicom, read_dicom_meta):
            try:
                read(path)
            except ImageReadError as error:
                messages.append(str(error))
    assert len(messages) > 50
    assert all("bad.dcm" in message for message in messages)


def test_two_values_of_high_bit(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    dataset.HighBit = [11, 11]
    dataset.save_as(path)
    with pytest.raises(ImageReadError, match=r"a\.dcm: damaged or truncated DICOM file"):
        read_dicom(path)
