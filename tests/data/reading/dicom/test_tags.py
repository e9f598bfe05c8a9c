import pytest
from pydicom.dataset import Dataset

from mammo_d2.data.reading.dicom.tags import chest_wall_of, laterality_of, lift_frame_attributes, spacing_of, view_of
from tests.data.dicom_files import code


def dataset(**tags):
    out = Dataset()
    for name, value in tags.items():
        setattr(out, name, value)
    return out


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImageLaterality": "L"}, "L"),
        ({"ImageLaterality": "R", "Laterality": "L"}, "R"),
        ({"Laterality": "R"}, "R"),
        ({"ImageLaterality": "", "Laterality": "L"}, "L"),
        ({"ImageLaterality": "B"}, None),
        ({}, None),
    ],
)
def test_laterality(tags, expected):
    assert laterality_of(dataset(**tags)) == expected


def test_laterality_of_tomosynthesis():
    group = dataset(FrameAnatomySequence=[dataset(FrameLaterality="R")])
    assert laterality_of(dataset(SharedFunctionalGroupsSequence=[group])) == "R"


@pytest.mark.parametrize(
    ("position", "expected"),
    [("CC", "CC"), ("mlo", "MLO"), ("LMLO", "MLO"), ("XCCL", "XCCL"), ("ML", "ML"), ("AP", None), ("", None)],
)
def test_view_position(position, expected):
    assert view_of(dataset(ViewPosition=position)) == (expected, ())


@pytest.mark.parametrize(
    ("value", "scheme", "expected"),
    [
        ("399368009", "SCT", "MLO"),
        ("R-10226", "SRT", "MLO"),
        ("R-10242", "99SDM", "CC"),
        ("399260004", "SCT", "ML"),
        ("399192008", "SCT", "XCCL"),
    ],
)
def test_view_code_when_there_is_no_position(value, scheme, expected):
    assert view_of(dataset(ViewPosition="", ViewCodeSequence=[code(value, scheme)]))[0] == expected


def test_view_code_meaning_as_last_resort():
    item = code("X1", "99LOCAL", "medio-lateral oblique")
    assert view_of(dataset(ViewCodeSequence=[item]))[0] == "MLO"


def test_view_modifiers():
    item = code("R-10242", "SRT", ViewModifierCodeSequence=[code("399163009", meaning=""), code("X", meaning="Spot")])
    assert view_of(dataset(ViewCodeSequence=[item])) == ("CC", ("Magnification", "Spot"))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImagerPixelSpacing": [0.07, 0.08]}, ((0.07, 0.08), "ImagerPixelSpacing")),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.07, 0.07]}, ((0.1, 0.1), "PixelSpacing")),
        ({"SpatialResolution": "0.05"}, ((0.05, 0.05), "SpatialResolution")),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.07, 0.07]}, ((0.07, 0.07), "ImagerPixelSpacing")),
        ({}, (None, None)),
    ],
)
def test_spacing(tags, expected):
    assert spacing_of(dataset(**tags)) == expected


@pytest.mark.parametrize(
    ("orientation", "expected"), [(["A", "F"], "left"), (["P", "FL"], "right"), (["R", "F"], None), (None, None)]
)
def test_chest_wall(orientation, expected):
    assert chest_wall_of(dataset(PatientOrientation=orientation) if orientation else dataset()) == expected


def test_attributes_of_enhanced_files_are_lifted():
    def window(center):
        return dataset(FrameVOILUTSequence=[dataset(WindowCenter=center, WindowWidth=100)])

    shared = dataset(
        PixelMeasuresSequence=[dataset(PixelSpacing=[0.1, 0.1])],
        PixelValueTransformationSequence=[dataset(RescaleSlope=2, RescaleIntercept=-5)],
        FrameVOILUTSequence=[dataset(WindowCenter=1, WindowWidth=1)],
    )
    frames = [window(10), window(20)]
    enhanced = dataset(SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames, RescaleSlope=3)
    lift_frame_attributes(enhanced, 1)
    assert spacing_of(enhanced) == ((0.1, 0.1), "PixelSpacing")
    # The frame's own window wins over the shared one, and what is at the top level stays.
    assert (enhanced.WindowCenter, enhanced.WindowWidth, enhanced.RescaleSlope) == (20, 100, 3)
    assert enhanced.RescaleIntercept == -5
