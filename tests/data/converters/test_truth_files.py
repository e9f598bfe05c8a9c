import json
import unicodedata

import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.truth_files import Truth, file_key


def csv_truth(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "truth.csv"
    path.write_bytes(text.encode(encoding))
    return Truth(path)


def test_names_in_any_spelling_of_the_same_path(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Müller 1/ä.png")
    assert decomposed != "Müller 1/ä.png"
    truth = csv_truth(tmp_path, "file,patient_id\n.\\Müller 1\\ä.png,7\n")
    assert truth.find(decomposed)["patient_id"] == "7"
    assert file_key("./a/b.png") == "a/b.png"
    assert truth.find("other.png") is None
    assert Truth(None).find("other.png") == {"labels": {"benign": None, "malignant": None}}


def test_values_in_other_spellings(tmp_path):
    truth = csv_truth(
        tmp_path, "file,category,x,y,width,height,laterality,view\na.png,Malignant,1,2,3,4,left,mlo\nb.png,,,,,,r,CC\n"
    )
    first, second = truth.find("a.png"), truth.find("b.png")
    assert (first["annotations"][0].category, first["laterality"], first["view"]) == ("malignant", "L", "MLO")
    assert (second["annotations"], second["laterality"], second["labels"]) == ([], "R", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Each of these would silently give negative images, or images in no split.
        (
            "file,label,xmin,ymin\na,malignant,1,2\n",
            "unknown column 'label', 'xmin', 'ymin'; the columns are",
        ),
        ("file,patient\na,7\n", "unknown column 'patient'"),
        ("file,category\na,malignant\n", "line 2: category 'malignant' without x, y, width, height"),
        (
            "file,category,x,y,width,height\na,normal,,,,\n",
            "line 2: category 'normal' without .*leave the category",
        ),
        ("file,category,x,y,width,height\na,benign,nan,1,2,3\n", "line 2: x, y, width, height .* must be four numbers"),
        ("file,category,x,y,width,height\na,,1,2,3,4\n", "line 2: category '' must be one of benign, malignant"),
        ("file,split\na,training\n", "line 2: split 'training' must be one of train, val, test"),
        ("file,laterality\na,both\n", "line 2: laterality 'both' must be L or R"),
        ("file,view\na,oblique\n", "line 2: view 'oblique' must be one of CC, MLO"),
        ("file,patient_id\na,1\na,2\n", "line 3: patient_id '2', but '1' in another row"),
        ("name;category\na;benign\n", "column 'file' is missing; found name, category"),
        (
            "file;category;x;y;width;height\na;benign;1;2;3;4,5,6\n",
            "line 2: x, y, width, height .* must be four numbers",
        ),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(ConverterError, match=message):
        csv_truth(tmp_path, text)


def test_table_in_another_encoding(tmp_path):
    with pytest.raises(ConverterError, match=r"truth\.csv: not UTF-8 text .*save it as UTF-8"):
        csv_truth(tmp_path, "file\nMüller.png\n", "latin-1")


def test_coco_categories_and_splits(tmp_path):
    path = tmp_path / "truth.json"
    image = {"id": 1, "file_name": "a.png", "height": 9, "width": 9, "pixel_spacing": [0.1, 0.2]}
    data = {
        "images": [image],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 4, "name": "Malignant"}],
    }
    path.write_text(json.dumps(data))
    record = Truth(path).find("a.png")
    assert (record["annotations"][0].category, record["pixel_spacing"]) == ("malignant", (0.1, 0.2))
    path.write_text(json.dumps({**data, "images": [{**image, "split": "training"}]}))
    with pytest.raises(ConverterError, match=r"image 1: split 'training' must be one of train, val, test"):
        Truth(path)


NOTHING_KNOWN = {"benign": None, "malignant": None}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        # A list of boxes: an image without one is without a finding, which absent labels mean.
        ("file,category,x,y,width,height\na,benign,1,2,3,4\nb,,,,,\n", ({"benign": 1, "malignant": None}, None)),
        ("file,malignant\na,0\nb,\n", ({"benign": None, "malignant": 0}, NOTHING_KNOWN)),
        ("file,malignant\na,\nb,\n", (NOTHING_KNOWN, NOTHING_KNOWN)),
    ],
)
def test_labels_of_a_table(tmp_path, text, labels):
    truth = csv_truth(tmp_path, text)
    assert (truth.find("a")["labels"], truth.find("b")["labels"]) == labels


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ((None, None), ({"benign": None, "malignant": 1}, None)),
        ((None, {"malignant": 0}), ({"benign": None, "malignant": 1}, {"malignant": 0})),
        (({"malignant": 1}, None), ({"malignant": 1}, NOTHING_KNOWN)),
    ],
)
def test_labels_of_a_coco_file(tmp_path, given, labels):
    path = tmp_path / "truth.json"
    images = [{"id": n, "file_name": f"{n}.png", "height": 9, "width": 9} for n in (1, 2)]
    for image, one in zip(images, given, strict=True):
        image |= {"labels": one} if one else {}
    data = {
        "images": images,
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 2, "name": "malignant"}],
    }
    path.write_text(json.dumps(data))
    truth = Truth(path)
    assert (truth.find("1.png")["labels"], truth.find("2.png")["labels"]) == labels


def test_files_that_the_truth_lists_and_nobody_found(tmp_path):
    truth = csv_truth(tmp_path, "file\na.png\nb.png\n")
    truth.find("a.png")
    with pytest.raises(ConverterError, match=r"1 files are not in .*folder, e\.g\. 'b\.png'"):
        truth.check_all_found(tmp_path / "folder", [])
    with pytest.raises(ConverterError, match=r"1 files cannot be used, e\.g\. 'b\.png': too small"):
        truth.check_all_found(tmp_path / "folder", [("b.png", "too small")])
    truth.find("b.png")
    truth.check_all_found(tmp_path, [])


LESION = "file,category,x,y,width,height,malignant\na.png,malignant,5,5,10,10,"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LESION + "1\na.png,malignant,5,5,10,10,1\n", "line 3: the same lesion is in another row"),
        (LESION + "1\n./a.png,malignant,5,5,10,10,1\n", "line 3: the same lesion is in another row"),
        (LESION + "1\na.png,malignant,9,9,9,9,0\n", "line 3: malignant 0, but 1 in another row of 'a.png'"),
        (LESION + "0\n", "'a.png' has a malignant box, but its label malignant is 0"),
    ],
)
def test_rows_that_contradict_each_other(tmp_path, text, message):
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(ConverterError, match=message):
        Truth(tmp_path / "truth.csv")


def test_an_unknown_label_takes_that_of_another_row(tmp_path):
    (tmp_path / "truth.csv").write_text(LESION + "1\na.png,malignant,9,9,9,9,\n")
    facts = Truth(tmp_path / "truth.csv").find("a.png")
    assert (facts["labels"], len(facts["annotations"])) == ({"benign": None, "malignant": 1}, 2)


def test_an_annotation_twice_in_a_coco_file(tmp_path):
    boxes = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in (1, 2)]
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "benign"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(data))
    with pytest.raises(ConverterError, match="annotation 2: another annotation of image 1 says the same"):
        Truth(tmp_path / "truth.json")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("kinds", "implants", "line 2: kinds 'implants' must be among implant, spot"),
        ("exam_date", "31.5.2019", "line 2: exam_date '31.5.2019' must read as 2019-05-31, 2019-05 or 2019"),
    ],
)
def test_wrong_kinds_and_dates(tmp_path, column, value, message):
    with pytest.raises(ConverterError, match=message):
        csv_truth(tmp_path, f"file,{column}\na.png,{value}\n")
