"""Boxes in CSV files: names of columns, encodings, decimal commas, images by id and by file name, errors by line."""

import numpy as np
import pytest

from mammo_d2.evaluation.files.box_tables import load_image_scores, read_box_table
from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.detection_files import load_detections
from mammo_d2.evaluation.files.results import ResultsError
from tests.evaluation.files.test_predicted_files import write_truth

HEADER = "image,class,score,x,y,width,height"
ENTRY = {"image_id": 11, "category_id": "malignant", "bbox": [4.0, 5.0, 10.0, 20.0], "score": 0.5}


def read(folder, data, columns=None, classes=()):
    path = folder / "boxes.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_box_table(path, load_ground_truth(write_truth(folder), classes), columns)


@pytest.mark.parametrize(
    "text",
    [
        "image_id,class,score,x,y,width,height\n11,malignant,0.5,4,5,10,20\n",
        "File,Category,Confidence,xmin,ymin,xmax,ymax\np/1.png,malignant,0.5,4,5,14,25\n",
        "height;width;y;x;prob;label;filename;remark\n20;10;5;4;0,5;malignant;C:\\data\\p\\1.dcm;a, b\n;;;;;;;\n",
        "image\tcategory_id\tscore\tx1\ty1\tx2\ty2\n1\t2\t0.5\t4\t5\t14\t25\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_other_programs(tmp_path, text, encoding):
    (entry,), columns = read(tmp_path, text.encode(encoding))
    assert entry == {**ENTRY, "category_id": 2 if "category_id" in text else "malignant"}
    assert columns["image"] in text.splitlines()[0]
    detections, notes = load_detections(tmp_path / "boxes.csv", load_ground_truth(tmp_path / "gt.json"))
    assert detections.boxes.tolist() == [[4, 5, 14, 25]]
    assert (detections.image.tolist(), detections.label.tolist(), detections.scores.tolist()) == ([0], [1], [0.5])
    assert next(iter(notes)).startswith(f"boxes read: image from {columns['image']}, ")


def test_columns_with_names_of_their_own(tmp_path):
    text = "Aufnahme,Befund,Wert,x,y,width,height\n11,malignant,0.5,4,5,10,20\n"
    with pytest.raises(ResultsError, match="no column for image, score, class; the first line names Aufnahme, Befund"):
        read(tmp_path, text)
    names = {"Aufnahme": "image", "Befund": "class", "Wert": "score"}
    (entry,), columns = read(tmp_path, text, names)
    assert entry == ENTRY
    own_names = {field: name for name, field in names.items()}
    assert columns == own_names | {name: name for name in ("x", "y", "width", "height")}
    with pytest.raises(ResultsError, match="--columns Wert=points: 'points' must be one of image, class, score"):
        read(tmp_path, text, {"Wert": "points"})
    with pytest.raises(ResultsError, match="no table has a column 'wert'; there are Aufnahme, Befund, Wert"):
        read(tmp_path, text, {"wert": "score"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}\n13,malignant,1,1,1,1,1\n", "line 2: '13' is neither an id nor a file"),
        (f"{HEADER}\n\n11,malignant,high,1,1,1,1\n", "line 3: score 'high' is no finite number"),
        (f"{HEADER}\n11,malignant,0,5,1,1,1,1\n", "line 2: 8 fields, but line 1 has 7"),
        (f"file,{HEADER}\n", "file, image may all be the image; say which: --columns file=image"),
        ('image,class,score,x,y,width,height\n11,"malig', "is a quotation mark not closed"),
        ("file,patient_id,laterality,view,class,score,x,y,width,height\n", "name predictions.json beside it"),
        ("", "no column for image"),
    ],
)  # fmt: skip
def test_errors_name_line_and_remedy(tmp_path, text, message):
    with pytest.raises(ResultsError, match=message):
        read(tmp_path, text)


def test_a_file_name_that_may_be_two_images(tmp_path):
    truth = write_truth(tmp_path, file_name="q/2.png")
    path = tmp_path / "boxes.csv"
    path.write_text(f"{HEADER}\n2.png,malignant,1,1,1,1,1\n")
    with pytest.raises(ResultsError, match=r"line 2: '2\.png' may be images 11 and 12; write more of the path"):
        read_box_table(path, load_ground_truth(truth))
    path.write_text(f"{HEADER}\nq/2,malignant,1,1,1,1,1\n")
    assert read_box_table(path, load_ground_truth(truth))[0][0]["image_id"] == 11


def workbook(path, *rows):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_workbook_of_boxes(tmp_path):
    path = workbook(tmp_path / "b.xlsx", HEADER.split(","), [11, "malignant", 0.5, 4, 5, 10, 20], [None] * 7)
    truth = load_ground_truth(write_truth(tmp_path))
    assert read_box_table(path, truth)[0] == [ENTRY]
    assert load_detections(path, truth)[0].boxes.tolist() == [[4, 5, 14, 25]]


def test_image_scores_of_other_programs(tmp_path):
    truth = load_ground_truth(write_truth(tmp_path))
    expected = [[np.nan, 0.75], [0.25, 0.5]]
    path = workbook(tmp_path / "s.xlsx", ["image_id", "malignant", "benign"], [12, 0.5, 0.25], [11, 0.75])
    np.testing.assert_array_equal(load_image_scores(path, truth), expected)
    (tmp_path / "s.csv").write_bytes("Datei;Krebs;benign\n12;0,5;0,25\np/1.dcm;0,75;\n".encode("utf-16"))
    with pytest.raises(ResultsError, match=r"must name image_id .* name the columns, e\.g\. --columns Datei=image"):
        load_image_scores(tmp_path / "s.csv", truth)
    names = {"Datei": "image", "Krebs": "malignant"}
    np.testing.assert_array_equal(load_image_scores(tmp_path / "s.csv", truth, names), expected)
    with pytest.raises(ResultsError, match="--columns Krebs=class: 'class' must be one of image, score, benign, mal"):
        load_image_scores(tmp_path / "s.csv", truth, {**names, "Krebs": "class"})
