"""Sources of results: found, checked, and what of them gets into DICOM objects."""

import numpy as np
import pydicom
import pytest
from PIL import Image

from mammo_d2.core.identifiers import hashed_identifier
from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.inference.dicom_export.source_instances import SourceFinder
from tests.inference.dicom_export.exams import result, write_view


def test_by_the_path_that_results_name(tmp_path):
    found = SourceFinder([]).find(result(write_view(tmp_path)))
    assert found.header.SOPInstanceUID == "1.2.3.4.5.1"
    assert (found.size, found.laterality, found.view, found.frame) == ((300, 200), "L", "CC", None)


@pytest.mark.parametrize("name", ["elsewhere/exam1/L_CC.dcm", "exam1/L_CC", "L_CC.dcm", "1.2.3.4.5.1"])
def test_in_a_folder(tmp_path, name):
    write_view(tmp_path / "exam1")
    write_view(tmp_path / "exam1", "other.dcm", 2)
    assert SourceFinder([tmp_path]).find(result(name)).header.SOPInstanceUID == "1.2.3.4.5.1"


def test_of_equal_names_the_instance_decides(tmp_path):
    write_view(tmp_path / "a", number=1)
    write_view(tmp_path / "b", number=2)
    finder = SourceFinder([tmp_path], salt="pepper")
    hashed = {"SOPInstanceUID": hashed_identifier("1.2.3.4.5.2", "pepper")}
    assert finder.find(result("L_CC.dcm", identifiers=hashed)).path.endswith("b/L_CC.dcm")
    assert finder.find(result("b/L_CC.dcm")).path.endswith("b/L_CC.dcm")
    with pytest.raises(ValueError, match=r"L_CC.dcm: may be .*a/L_CC.dcm or .*b/L_CC.dcm; name a --source folder"):
        finder.find(result("L_CC.dcm"))


def test_a_renamed_file_is_found_by_its_hashed_instance(tmp_path):
    write_view(tmp_path, "IM0001")
    hashed = {"SOPInstanceUID": hashed_identifier("1.2.3.4.5.1", "pepper")}
    found = SourceFinder([tmp_path], salt="pepper").find(result("L_CC.dcm", identifiers=hashed))
    assert found.path.endswith("IM0001")


def test_missing(tmp_path):
    write_view(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"R_CC.dcm: no such file in .*, nor one with .*--source"):
        SourceFinder([tmp_path]).find(result("R_CC.dcm"))
    with pytest.raises(FileNotFoundError, match="no such file there"):
        SourceFinder([]).find(result(tmp_path / "R_CC.dcm"))


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("salt", ["", "pepper"])
def test_not_the_same_instance(tmp_path, keyword, salt):
    file = write_view(tmp_path)
    other = hashed_identifier("9.9", salt) if salt else "9.9"
    with pytest.raises(ImageReadError, match=f"not the instance of the results: its {keyword} is another one; name"):
        SourceFinder([], salt=salt).find(result(file, identifiers={keyword: other}))


def test_hashes_of_an_unknown_secret_cannot_be_checked(tmp_path):
    hashed = {"SOPInstanceUID": hashed_identifier("1.2.3.4.5.1", "pepper")}
    assert SourceFinder([]).find(result(write_view(tmp_path), identifiers=hashed)).view == "CC"


def test_another_size(tmp_path):
    with pytest.raises(ImageReadError, match=r"has \(rows, columns\) \(300, 200\), the image of the results has"):
        SourceFinder([]).find(result(write_view(tmp_path), size=(3, 2)))


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_without_an_identifier(tmp_path, keyword):
    file = write_view(tmp_path, **{keyword: None})
    with pytest.raises(ImageReadError, match=f"has no {keyword}, so that nothing can refer to it; take the file"):
        SourceFinder([]).find(result(file))


def test_a_picture(tmp_path):
    file = tmp_path / "L_CC.png"
    Image.fromarray(np.zeros((300, 200), np.uint8)).save(file)
    with pytest.raises(ImageReadError, match=r"L_CC.png: is no DICOM file: a picture has no study.*; export the"):
        SourceFinder([]).find(result(file))


def test_a_frame_must_be_known(tmp_path):
    file = write_view(tmp_path, NumberOfFrames=3)
    with pytest.raises(ImageReadError, match=r"has 3 frames, and the results do not say which one .*--frame"):
        SourceFinder([]).find(result(file))
    found = SourceFinder([], frame=2).find(result(file))
    assert (found.frame, found.frames) == (3, [3])
    assert "NumberOfFrames" not in found.header


def test_by_default_nothing_personal_is_taken(tmp_path):
    header = SourceFinder([], salt="pepper").find(result(write_view(tmp_path))).header
    text = str(header)
    assert header.PatientID == hashed_identifier("P1", "pepper")
    assert header.PatientIdentityRemoved == "YES"
    assert header.PatientName == header.PatientID
    for secret in ("Doe", "P1\n", "19500101", "20200102", "A17", "St. Elsewhere", "Dr. Smith", "'F'"):
        assert secret not in text
    # What every object has is there, if only empty.
    assert (header.PatientBirthDate, header.StudyDate, header.AccessionNumber) == ("", "", "")
    assert (header.StudyInstanceUID, header.SeriesInstanceUID) == ("1.2.3.4", "1.2.3.4.1")


def test_kept_identifiers(tmp_path):
    file = write_view(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Eva")
    header = SourceFinder([], keep_ids=True).find(result(file)).header
    assert (header.PatientName, header.PatientID, header.StudyDate) == ("Müller^Eva", "P1", "20200102")
    assert "InstitutionName" not in header
    assert "PatientIdentityRemoved" not in header
    path = tmp_path / "header.dcm"
    pydicom.dcmwrite(path, header, implicit_vr=False, little_endian=True)
    assert pydicom.dcmread(path, force=True).PatientName == "Müller^Eva"


@pytest.mark.parametrize("window", [{"WindowWidth": 0}, {"WindowWidth": None}, {"WindowCenter": [1, 2]}])
def test_an_unusable_window_is_left_out(tmp_path, window):
    header = SourceFinder([]).find(result(write_view(tmp_path, **window))).header
    assert "WindowCenter" not in header
    assert "WindowWidth" not in header


def test_damaged_header_and_half_a_rescale(tmp_path):
    path = write_view(tmp_path, RescaleIntercept=5, VOILUTFunction="NAN", ImagerPixelSpacing=[0.1])
    image = result(path)
    header = SourceFinder([]).find(image).header
    assert not {"RescaleSlope", "RescaleIntercept", "VOILUTFunction", "ImagerPixelSpacing"} & set(header.dir())
    content = path.read_bytes()
    # Bits Stored, two bytes as their length says, become three.
    tag = b"\x28\x00\x01\x01US\x02\x00"
    assert tag in content
    path.write_bytes(content.replace(tag, tag[:-2] + b"\x03\x00", 1))
    with pytest.raises(ImageReadError, match=r"L_CC\.dcm"):
        SourceFinder([]).find(image)


def test_a_class_that_dicom_does_not_know(tmp_path):
    path = write_view(tmp_path, SOPClassUID="1.2.3.999")
    with pytest.raises(ImageReadError, match=r"L_CC\.dcm.* SOP Class UID '1\.2\.3\.999', which is none of DICOM's"):
        SourceFinder([]).find(result(path))
