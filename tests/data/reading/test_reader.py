import pickle

import cv2
import numpy as np
import pytest

from mammo_d2.data.reading.reader import ImageReadError, image_size, read_image
from tests.data.dicom_files import write_dicom

RAMP = np.arange(0, 4000, 10, dtype=np.uint16).reshape(20, 20)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_raster_files(tmp_path, name):
    path = tmp_path / name
    cv2.imwrite(str(path), RAMP)
    pixels, meta = read_image(path)
    np.testing.assert_array_equal(pixels, RAMP)
    assert (meta.path, meta.max_value) == (str(path), 65535)
    assert image_size(path) == (20, 20)


def test_content_decides_not_the_suffix(tmp_path):
    path = write_dicom(tmp_path / "a.png", RAMP[:10])
    np.testing.assert_array_equal(read_image(path)[0], RAMP[:10])
    assert image_size(path) == (10, 20)
    png = tmp_path / "b.dcm"
    png.write_bytes(cv2.imencode(".png", RAMP)[1].tobytes())
    assert read_image(png)[1].format == "png"


def test_missing_file_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such image file; check the path"):
        read_image(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_image(tmp_path)


def test_truncated_png_names_file_and_remedy(tmp_path):
    path = tmp_path / "half.png"
    data = cv2.imencode(".png", RAMP)[1].tobytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError, match=r"half\.png: truncated PNG .*; copy the file again"):
        read_image(path)


def test_empty_and_foreign_files(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageReadError, match=r"empty\.png: empty file"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "notes.txt").write_text("hello " * 100)
    with pytest.raises(ImageReadError, match=r"notes\.txt: not a DICOM, PNG, TIFF, PGM or JPEG file"):
        read_image(tmp_path / "notes.txt")


def test_error_survives_a_process_border():
    error = pickle.loads(pickle.dumps(ImageReadError("a.png", "problem", "remedy")))
    assert str(error) == "a.png: problem; remedy"
    assert (error.path, error.problem, error.remedy) == ("a.png", "problem", "remedy")
