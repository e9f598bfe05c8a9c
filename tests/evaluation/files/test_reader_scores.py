"""A reader's table: which images a line names, the mixture by hand, and what is wrong with tables."""

import numpy as np
import pytest

from mammo_d2.evaluation.files.image_scores import ImageScores
from mammo_d2.evaluation.files.reader_scores import mix_with_reader, read_reader

# Two patients with an exam "1" each: two views of a left and one of a right breast; one view of a left.
IMAGES = [
    {"id": 1, "patient_id": "a", "exam_id": "1", "laterality": "L"},
    {"id": 2, "patient_id": "a", "exam_id": "1", "laterality": "L"},
    {"id": 3, "patient_id": "a", "exam_id": "1", "laterality": "R"},
    {"id": 4, "patient_id": "b", "exam_id": 2, "laterality": "L"},
]
VALUES = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
MODEL = ImageScores("model", (4, 3, 2, 1), ("benign", "malignant"), VALUES)


def read(tmp_path, *lines, images=IMAGES):
    path = tmp_path / "reader.csv"
    path.write_text("\n".join(lines))
    return read_reader(path, images, MODEL)[:, 1].tolist()


@pytest.mark.parametrize(
    ("lines", "expected"),  # of images 4, 3, 2, 1
    [
        (("image_id,malignant", "1,0.1", "2,0.2", "3,0.3", "4,0.4"), [0.4, 0.3, 0.2, 0.1]),
        (("exam_id,laterality,malignant", "1,L,0.1", "1,R,0.3", "2,L,1"), [1.0, 0.3, 0.1, 0.1]),
        (("malignant,note,exam_id", "0.6,x,2", "0.2,,1"), [0.6, 0.2, 0.2, 0.2]),
        (("patient_id,malignant", "b,0", "a,0.5"), [0.0, 0.5, 0.5, 0.5]),
    ],
)
def test_what_a_line_names(tmp_path, lines, expected):
    assert read(tmp_path, *lines) == expected


def test_exam_ids_that_patients_share(tmp_path):
    images = [{**image, "exam_id": "1"} for image in IMAGES]
    with pytest.raises(ValueError, match=r"line 2: exam_id '1' belongs to several patients .* add a column patient_id"):
        read(tmp_path, "exam_id,malignant", "1,0.5", images=images)
    lines = ("patient_id,exam_id,malignant", "a,1,0.5", "b,1,0.25")
    assert read(tmp_path, *lines, images=images) == [0.25, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("malignant", "0.5"), "first line must name image_id, exam_id .* it names malignant"),
        (("laterality,malignant", "L,0.5"), "first line must name image_id"),
        (("exam_id,cancer", "1,0.5"), "at least one of benign, malignant; it names exam_id, cancer"),
        (("exam_id,malignant", "1,0.5", "1,0.6", "2,0"), r"line 3: exam_id '1' is there twice \(line 2\)"),
        (("exam_id,malignant,malignant", "1,0.5,0.1", "2,0,1"), "line 1: column 'malignant' is there twice"),
        (("exam_id,malignant", "1,0,5", "2,0"), "line 2: 3 fields, but line 1 has 2"),
        (("exam_id,malignant", "1,0.1_5", "2,0"), "line 2: malignant '0.1_5' must be a probability"),
        (("exam_id,malignant", "1,50", "2,0"), "line 2: malignant '50' must be a probability between 0 and 1"),
        (("exam_id,malignant", "1,", "2,0"), "line 2: malignant '' must be a probability"),
        (("exam_id,malignant", "1,high", "2,0"), "line 2: malignant 'high' must be a probability"),
        (("exam_id,malignant", "1,0.5", "2,0.5", "3,0.5"), "line 4: exam_id '3' names no image that is scored"),
        (
            ("exam_id,laterality,malignant", "1,L,0.5", "2,L,0.5"),
            r"no line for 1 image\(s\): 3 \(exam_id, lat",
        ),
    ],
)
def test_bad_tables_are_named_errors(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, *lines)
    assert str(error.value).startswith(str(tmp_path / "reader.csv"))


def test_mixture_by_hand():
    reader = np.array([[np.nan, 0.5], [np.nan, 0.5], [np.nan, 0.5], [np.nan, 0.25]])
    mixed = mix_with_reader(MODEL, reader, 0.25)
    # malignant: (0.5 + 3 * 1) / 4, (0.5 + 3 * 0.5) / 4, 0.5 / 4, (0.25 + 3 * 0.75) / 4; benign: the model's
    assert mixed.values[:, 1].tolist() == [0.875, 0.5, 0.125, 0.625]
    assert mixed.values[:, 0].tolist() == VALUES[:, 0].tolist()
    assert mix_with_reader(MODEL, reader, 0).values.tolist() == VALUES.tolist()
    assert mix_with_reader(MODEL, reader, 1).values[:, 1].tolist() == [0.5, 0.5, 0.5, 0.25]


def test_weight_out_of_range():
    with pytest.raises(ValueError, match=r"--reader-weight 1\.5 must be"):
        mix_with_reader(MODEL, np.zeros((4, 2)), 1.5)
