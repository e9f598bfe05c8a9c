import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.screening.rsna import Rsna

TABLE = (
    "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density,machine_id,"
    "difficult_negative_case\n"
    "1,10,100,L,CC,50.0,1,1,1,0.0,0,C,29,False\n"
    "1,10,101,R,AT,50.0,0,1,0,,0,,29,False\n"
    "2,11,102,R,MLO,60.0,0,0,0,1.0,0,B,30,True\n"
    "2,12,103,R,MLO,60.0,0,0,0,,1,,30,False\n"
)


def test_labels_and_facts(tmp_path):
    (tmp_path / "train.csv").write_text(TABLE)
    converter = Rsna(tmp_path)
    cancer, biopsied, healthy = converter.images()
    assert cancer.path == tmp_path / "train_images" / "10" / "100.dcm"
    assert (cancer.key, cancer.patient_id, cancer.laterality, cancer.view) == ("10/100", "10", "L", "CC")
    assert (cancer.labels, cancer.birads, cancer.density) == ({"benign": None, "malignant": 1}, 0, "C")
    assert (biopsied.labels, biopsied.view, biopsied.birads) == ({"benign": 1, "malignant": 0}, "AT", None)
    assert healthy.labels == {"benign": None, "malignant": 0}
    assert healthy.extra == {"site": "2", "difficult_negative": True}
    assert converter.skipped == [("train_images/12/103.dcm", "implant")]
    assert len(list(Rsna(tmp_path, implants=True).images())) == 4


def test_bad_row(tmp_path):
    (tmp_path / "train.csv").write_text(TABLE.replace("50.0,1,1", "50.0,yes,1"))
    with pytest.raises(ConverterError, match="line 2: cancer 'yes' must be 0 or 1"):
        list(Rsna(tmp_path).images())


@pytest.mark.parametrize("grade", ["x", "inf", "nan", "1e3", "2.5", "7"])
def test_bad_grade(tmp_path, grade):
    (tmp_path / "train.csv").write_text(TABLE.replace("0,0,0,1.0,", f"0,0,0,{grade},"))
    with pytest.raises(ConverterError, match=f"line 4: BIRADS '{grade}' must be a grade from 0 to 6"):
        list(Rsna(tmp_path).images())


def test_an_image_that_is_there_twice(tmp_path):
    (tmp_path / "train.csv").write_text(TABLE + TABLE.splitlines()[1].replace(",1,1,1,", ",0,0,0,") + "\n")
    with pytest.raises(ConverterError, match=r"train\.csv, line 6: patient_id '10', image_id '100' is there twice"):
        list(Rsna(tmp_path).images())


def write_pngs(folder, *names, size=(64, 64)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), np.zeros(size, np.uint8))


@pytest.mark.parametrize("names", [("512/10/100.png", "512/10/101.png"), ("512/10_100.png", "512/10_101.png")])
def test_a_png_copy(tmp_path, names):
    (tmp_path / "train.csv").write_text(TABLE)
    write_pngs(tmp_path / "copy", *names)
    converter = Rsna(tmp_path, pngs=tmp_path / "copy")
    found = list(converter.images())
    assert [image.path for image in found] == [tmp_path / "copy" / name for name in names]
    assert [image.key for image in found] == ["10/100", "10/101"]
    assert ("train_images/11/102.dcm", "not in the PNG copy") in converter.skipped
    assert any("64 x 64 pixels: squashed to squares; --aspect" in why for _, why in converter.skipped)


def test_a_png_copy_with_two_sizes_or_none(tmp_path):
    (tmp_path / "train.csv").write_text(TABLE)
    write_pngs(tmp_path / "copy", "256/10/100.png", "512/10/100.png", size=(64, 48))
    with pytest.raises(ConverterError, match="perhaps in another size; give one folder"):
        list(Rsna(tmp_path, pngs=tmp_path / "copy").images())
    converter = Rsna(tmp_path, pngs=tmp_path / "copy" / "512")
    assert len(list(converter.images())) == 1
    assert not any("squashed" in why for _, why in converter.skipped)
    with pytest.raises(FileNotFoundError, match="no such folder; give the folder of the PNG copy"):
        list(Rsna(tmp_path, pngs=tmp_path / "other").images())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no PNG files in it"):
        list(Rsna(tmp_path, pngs=tmp_path / "empty").images())
