import numpy as np
import pytest

from mammo_d2.data.reading.dicom.dicom_file import read_dicom
from mammo_d2.data.reading.dicom.unusual import image_kinds, unusual_facts
from tests.data.dicom_files import make_dataset, write_dicom

PIXELS = np.arange(256, dtype=np.uint16).reshape(16, 16)
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("tags", "fact"),
    [
        ({"BreastImplantPresent": "YES"}, "implant (Breast Implant Present YES)"),
        ({"EstimatedRadiographicMagnificationFactor": 1.8}, "magnification (Estimated Radiographic Magnification Fac"),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]},
            "synthetic 2D image from",
        ),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]},
            "scout or stereotactic image (Image Type STEREO",
        ),
        ({"QualityControlImage": "YES"}, "quality control image of a phantom"),
        ({"BodyPartExamined": "PHANTOM"}, "quality control image of a phantom"),
        ({"SOPClassUID": CAPTURE}, "secondary capture (Conversion Type unknown)"),
        ({"SOPClassUID": CAPTURE, "ConversionType": "SYN"}, "secondary capture (Conversion Type SYN)"),
        ({"BurnedInAnnotation": "YES"}, "text in the pixels, perhaps a name (Burned In Annotation YES)"),
        (
            {"ImageLaterality": "L", "Laterality": "R"},
            "laterality contradicts itself (ImageLaterality L, Laterality R)",
        ),
    ],
)
def test_unusual_images_have_a_field_and_a_warning(tmp_path, tags, fact):
    pixels, meta = read_dicom(write_dicom(tmp_path / "a.dcm", PIXELS, **tags))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert len(meta.unusual) == 1
    assert meta.unusual[0].startswith(fact)
    assert meta.warnings == (f"{meta.unusual[0]}; check whether it belongs to the images",)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"BreastImplantPresent": "NO", "BurnedInAnnotation": "NO", "QualityControlImage": "NO"},
        {"EstimatedRadiographicMagnificationFactor": 1.07},
        {"ImageType": ["DERIVED", "PRIMARY"]},
        {"SOPClassUID": CAPTURE, "ConversionType": "DF"},
        {"ImageLaterality": "L", "Laterality": "L"},
        {"BodyPartExamined": "BREAST", "ImageLaterality": "R"},
    ],
)
def test_ordinary_images_have_none(tags):
    assert unusual_facts(make_dataset(PIXELS, **tags)) == ()


@pytest.mark.shared_data
def test_real_film_scans_are_ordinary(shared_data):
    assert read_dicom(shared_data / "nema_wg04" / "MG1_JPLY.dcm")[1].unusual == ()


@pytest.mark.parametrize(
    ("tags", "kinds"),
    [
        ({}, ()),
        ({"BreastImplantPresent": "YES"}, ("implant",)),
        ({"EstimatedRadiographicMagnificationFactor": "1.8"}, ("magnification",)),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]}, ("synthetic",)),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMO"]}, ("tomosynthesis",)),
        ({"NumberOfFrames": 40}, ("tomosynthesis",)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3"}, ("tomosynthesis",)),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "", "LOW_ENERGY"]}, ("low-energy",)),
        ({"ImageType": ["DERIVED", "PRIMARY", "", "RECOMBINED"]}, ("recombined",)),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO"], "QualityControlImage": "YES"}, ("scout", "phantom")),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, ("secondary-capture",)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "ConversionType": "DF"}, ()),
    ],
)  # fmt: skip
def test_kinds(tags, kinds):
    assert image_kinds(make_dataset(np.zeros((4, 4), np.uint16), **tags), "CC", ()) == kinds


def test_kinds_by_view_and_modifier():
    dataset = make_dataset(np.zeros((4, 4), np.uint16))
    assert image_kinds(dataset, "SPECIMEN", ("Magnification",)) == ("magnification", "specimen")
    assert image_kinds(dataset, "CC", ("Implant displaced", "Spot compression")) == ("implant", "spot")
