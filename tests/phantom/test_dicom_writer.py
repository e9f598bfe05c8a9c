import dataclasses
import io

import numpy as np
import pydicom
import pytest

from mammo_d2.phantom.dicom_writer import dicom_bytes, dicom_uid, stored_pixels


@pytest.fixture(scope="module")
def normal_and_inverted(patients):
    chosen = {}
    for views in patients:
        chosen.setdefault(views[0].photometric, views[3])
    return chosen["MONOCHROME2"], chosen["MONOCHROME1"]


def read(config, view) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(dicom_bytes(config, view)))


def test_tags(config, normal_and_inverted):
    view = normal_and_inverted[0]
    ds = read(config, view)
    assert ds.SOPClassUID.name == "Digital Mammography X-Ray Image Storage - For Presentation"
    assert (ds.Modality, ds.PresentationIntentType, ds.BodyPartExamined) == ("MG", "FOR PRESENTATION", "BREAST")
    assert (ds.PatientID, ds.ImageLaterality, ds.ViewPosition) == (view.patient_id, "R", "MLO")
    assert list(ds.PatientOrientation) == ["P", "F"]
    assert [float(v) for v in ds.ImagerPixelSpacing] == pytest.approx([0.75, 0.75])
    assert (ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit) == (320, 256, 16, 12, 11)
    # A linear window over the full range changes nothing: 0 stays lowest and 4095 highest.
    assert (float(ds.WindowCenter), float(ds.WindowWidth)) == (2048.0, 4096.0)
    assert ds.ViewCodeSequence[0].CodeMeaning == "medio-lateral oblique"
    assert ds.PatientIdentityRemoved == "YES"


def test_pixels_come_back(config, normal_and_inverted):
    for view in normal_and_inverted:
        ds = read(config, view)
        pixels = ds.pixel_array
        assert pixels.dtype == np.uint16
        if ds.PhotometricInterpretation == "MONOCHROME1":
            assert ds.PresentationLUTShape == "INVERSE"
            pixels = 4095 - pixels
        else:
            assert ds.PresentationLUTShape == "IDENTITY"
        np.testing.assert_array_equal(pixels, view.image)


def test_monochrome1_has_a_bright_background(normal_and_inverted):
    normal, inverted = (np.median(stored_pixels(v)[~v.breast_mask]) for v in normal_and_inverted)
    assert normal < 300
    assert inverted > 3795


def test_identifiers(config, patients):
    datasets = [read(config, view) for views in patients[:2] for view in views]
    assert len({ds.SOPInstanceUID for ds in datasets}) == 8
    assert len({ds.SeriesInstanceUID for ds in datasets}) == 8
    assert [len({ds.StudyInstanceUID for ds in datasets[k : k + 4]}) for k in (0, 4)] == [1, 1]
    assert datasets[0].StudyInstanceUID != datasets[4].StudyInstanceUID
    for ds in datasets:
        assert ds.SOPInstanceUID.is_valid
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID


def test_uids_depend_on_settings_and_name(config):
    uid = dicom_uid(config, "a")
    assert uid == dicom_uid(config, "a")
    assert uid != dicom_uid(config, "b")
    assert uid != dicom_uid(dataclasses.replace(config, seed=99), "a")
