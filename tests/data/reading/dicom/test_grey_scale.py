import numpy as np
import pytest
from pydicom.dataset import Dataset

from mammo_d2.data.reading.dicom.dicom_file import read_dicom
from mammo_d2.data.reading.dicom.grey_scale import grey_table
from mammo_d2.data.reading.image_meta import ReadOptions
from tests.data.dicom_files import make_dataset, write_dicom

STORED = np.array([[0, 1000, 2000, 4095]], dtype=np.uint16)


def table(options=None, **tags):
    return grey_table(make_dataset(STORED, **tags), options or ReadOptions())


def values(options=None, **tags):
    return table(options, **tags).apply(STORED)[0]


def lut_item(entries, first=0, bits=12):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = [int(e) for e in entries]
    item["LUTData"].VR = "US"
    return item


def test_nothing_to_apply():
    np.testing.assert_array_equal(values(), [0, 1000, 2000, 4095])


def test_monochrome1_is_inverted():
    np.testing.assert_array_equal(values(PhotometricInterpretation="MONOCHROME1"), [4095, 3095, 2095, 0])


def test_linear_window_by_hand():
    # PS3.3 C.11.2.1.2: centre 1500, width 1001: at 1000 -> ((1000 - 1499.5) / 1000 + 0.5) * 4095 = 2.0475
    got = values(WindowCenter=1500, WindowWidth=1001)
    np.testing.assert_allclose(got, [0, 2.0475, 4095, 4095], atol=1e-3)


def test_sigmoid_window_by_hand():
    got = values(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID")
    # 4095 / (1 + exp(-4 (x - 2000) / 1000)): half at the centre, 4095 / (1 + e^4) = 73.65 at 1000.
    np.testing.assert_allclose(got[1:3], [73.654, 2047.5], atol=1e-2)


def test_window_comes_before_inversion():
    got = values(WindowCenter=1500, WindowWidth=1001, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(got, [4095, 4095 - 2.0475, 0, 0], atol=1e-3)


def test_second_window_by_index():
    got = values(ReadOptions(voi_index=1), WindowCenter=[1500, 3000], WindowWidth=[1001, 1])
    np.testing.assert_array_equal(got, [0, 0, 0, 4095])


def test_voi_lut_comes_before_the_window():
    lut = lut_item(np.arange(4096) // 2)
    both = {"VOILUTSequence": [lut], "WindowCenter": 1500, "WindowWidth": 1001}
    assert table(**both).voi == "lut"
    np.testing.assert_array_equal(values(**both), [0, 500, 1000, 2047])
    assert table(ReadOptions(voi="window"), **both).voi == "window"
    np.testing.assert_array_equal(values(ReadOptions(voi="none"), **both), [0, 1000, 2000, 4095])


def test_voi_lut_sets_the_full_scale():
    got = table(VOILUTSequence=[lut_item(np.arange(256) * 4, first=0, bits=10)])
    assert got.max_value == 1023
    np.testing.assert_array_equal(got.apply(np.array([[0, 100, 255, 4000]], np.uint16))[0], [0, 400, 1020, 1020])


def test_vendor_policy():
    options = ReadOptions(voi_by_vendor=(("acme", "none"),))
    assert table(options, WindowCenter=1500, WindowWidth=1001).voi == "none"
    assert table(options, WindowCenter=1500, WindowWidth=1001, Manufacturer="Other").voi == "window"


def test_rescale_is_brought_back_to_full_scale():
    got = table(RescaleSlope=2, RescaleIntercept=-100)
    assert got.max_value == 4095
    np.testing.assert_allclose(got.apply(STORED)[0], [0, 1000, 2000, 4095], rtol=1e-6)


def test_window_is_in_rescaled_units():
    # Slope 2: stored 1000 is 2000, the window's centre.
    got = values(RescaleSlope=2, RescaleIntercept=0, WindowCenter=2000.5, WindowWidth=1001)
    np.testing.assert_allclose(got, [0, 2047.5, 4095, 4095], atol=1e-3)


def test_a_window_after_a_negative_slope_is_not_turned_over():
    # -stored in a window around -2000: by PS3.3 what is above the window is white, so stored 0 is.
    got = values(RescaleSlope=-1, RescaleIntercept=0, WindowCenter=-1499.5, WindowWidth=1001)
    np.testing.assert_allclose(got, [4095, 4095, 0, 0], atol=1e-3)


def test_signed_values_start_at_zero():
    stored = np.array([[-2048, 0, 2047]], dtype=np.int16)
    got = grey_table(make_dataset(stored), ReadOptions())
    np.testing.assert_array_equal(got.apply(stored)[0], [0, 2048, 4095])


def test_padding_becomes_background():
    np.testing.assert_array_equal(values(PixelPaddingValue=4095), [0, 1000, 2000, 0])
    got = values(PixelPaddingValue=4095, PixelPaddingRangeLimit=2000, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(got, [4095, 3095, 0, 0])


def test_padding_outside_the_range_is_reported():
    got = table(PixelPaddingValue=60000)
    assert "Pixel Padding Value 60000" in got.warnings[0]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"WindowCenter": 100, "WindowWidth": 0}, "unusable VOI window"),
        ({"WindowCenter": 100, "WindowWidth": 10, "VOILUTFunction": "ODD"}, "unusable VOI window"),
        ({"WindowCenter": 90000, "WindowWidth": 10}, "maps every value to one"),
    ],
)
def test_unusable_window_is_left_out_and_reported(tags, message):
    got = table(**tags)
    assert got.voi == "none"
    assert message in got.warnings[0]
    np.testing.assert_array_equal(got.apply(STORED)[0], STORED[0])


def test_asking_for_a_missing_voi_is_reported():
    got = table(ReadOptions(voi="lut"))
    assert (got.voi, got.max_value) == ("none", 4095)
    assert "no VOI lut in the file" in got.warnings[0]


def test_values_beyond_bits_stored_are_clipped():
    np.testing.assert_array_equal(table().apply(np.array([[5000]], np.uint16)), [[4095]])


def test_read_dicom_applies_the_table(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED, PhotometricInterpretation="MONOCHROME1")
    pixels, meta = read_dicom(path)
    np.testing.assert_array_equal(pixels, [[4095, 3095, 2095, 0]])
    assert (meta.photometric, meta.max_value) == ("MONOCHROME1", 4095)


def test_read_options_refuse_unknown_voi():
    with pytest.raises(ValueError, match="voi 'gamma' must be one of"):
        ReadOptions(voi="gamma")
    with pytest.raises(ValueError, match="voi 'x' must be one of"):
        ReadOptions(voi_by_vendor=(("ge", "x"),))


@pytest.mark.parametrize(
    "tags", [{"WindowCenter": "nan", "WindowWidth": 10}, {"WindowCenter": 9, "WindowWidth": "nan"}]
)
def test_a_window_of_nan_is_left_out_and_reported(tags):
    dataset = make_dataset(STORED)
    for keyword, value in tags.items():
        dataset.add_new(keyword, "DS", float(value))
    got = grey_table(dataset, ReadOptions())
    assert "unusable VOI window" in got.warnings[0]
    np.testing.assert_array_equal(got.apply(STORED)[0], STORED[0])


@pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf")])
def test_an_unusable_rescale_is_left_out_and_reported(slope):
    got = table(RescaleSlope=slope, RescaleIntercept=0)
    assert f"unusable Modality LUT (Rescale Slope {slope}" in got.warnings[0]
    np.testing.assert_array_equal(got.apply(STORED)[0], STORED[0])


def test_voi_lut_that_holds_fewer_bits_than_it_says():
    got = table(VOILUTSequence=[lut_item(np.arange(4096), bits=16)])
    assert (got.max_value, got.voi) == (4095, "lut")
    assert "the VOI LUT says 16 bits, but its values have 12" in got.warnings[0]
    np.testing.assert_array_equal(got.apply(STORED)[0], STORED[0])
