"""Every kind of DICOM file: the right pixels, or a refusal that says why."""

import re

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder

from mammo_d2.data.reading.dicom.dicom_file import read_dicom
from mammo_d2.data.reading.image_meta import ImageReadError
from tests.data.reading.dicom.zoo import zoo

ZOO = zoo()
# Decoders that share nothing with the package's (imagecodecs): GDCM, CharLS as pyjpegls, OpenJPEG as pylibjpeg.
OTHERS = ("gdcm", "pyjpegls", "pylibjpeg")


def test_there_are_many():
    assert len(ZOO) >= 100
    assert sum(case.pixels is None for case in ZOO) >= 20


@pytest.mark.parametrize("case", ZOO, ids=[case.name for case in ZOO])
def test_right_pixels_or_a_refusal(case, tmp_path):
    path = case.write(tmp_path / "a.dcm")
    if case.pixels is None:
        with pytest.raises(ImageReadError) as caught:
            read_dicom(path, case.options)
        assert re.search(case.refusal, str(caught.value)), str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")
        assert caught.value.remedy
        return
    pixels, meta = read_dicom(path, case.options)
    assert pixels.dtype == np.float32
    assert pixels.shape == (meta.height, meta.width)
    np.testing.assert_allclose(pixels, case.pixels, rtol=0, atol=case.tolerance or 1e-6)
    assert pixels.min() >= 0
    assert pixels.max() <= meta.max_value


def test_independent_decoders_see_the_same_values(tmp_path):
    """What is written is what others read, so that an error of ours in both directions would be seen."""
    asked = 0
    for case in ZOO:
        if case.stored is None:
            continue
        dataset = pydicom.dcmread(case.write(tmp_path / "a.dcm"))
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        for plugin in OTHERS:
            if plugin in decoder.available_plugins:
                values, _ = decoder.as_array(dataset, decoding_plugin=plugin)
                np.testing.assert_array_equal(values, case.stored, err_msg=f"{case.name}, {plugin}")
                asked += 1
    if not asked:
        pytest.skip("none of gdcm, pyjpegls, pylibjpeg is installed")
    assert asked >= 15
