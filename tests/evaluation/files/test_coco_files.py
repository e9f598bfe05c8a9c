"""Ground truth, results and image scores from files: what is read, what is counted, what is a named error."""

import json

import numpy as np
import pytest

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.files import detection_files
from mammo_d2.evaluation.files.box_tables import load_image_scores
from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.detection_files import iterate_results, load_detections
from mammo_d2.evaluation.files.results import ResultsError, detections_to_coco

IMAGES = [
    {
        "id": 10,
        "height": 100,
        "width": 80,
        "patient_id": "a",
        "laterality": "L",
        "labels": {"malignant": 1, "benign": 0},
    },
    {"id": 11, "height": 100, "width": 80, "patient_id": "a", "laterality": "R", "labels": {"malignant": None}},
    {"id": 12, "height": 100, "width": 80, "patient_id": "b", "laterality": "L"},
]
CATEGORIES = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
ANNOTATIONS = [
    {"id": 1, "image_id": 10, "category_id": 2, "bbox": [10, 20, 30, 40]},
    {"id": 2, "image_id": 12, "category_id": 1, "bbox": [1, 2, 3, 4]},
]


@pytest.fixture
def truth_file(tmp_path):
    def write(images=IMAGES, annotations=ANNOTATIONS, categories=CATEGORIES, name="gt.json"):
        path = tmp_path / name
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        return path

    return write


@pytest.fixture
def truth(truth_file):
    return load_ground_truth(truth_file())


@pytest.fixture
def results_file(tmp_path):
    def write(entries, name="results.json"):
        path = tmp_path / name
        path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
        return path

    return write


def entry(**more):
    return {"image_id": 10, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, **more}


# --- ground truth -----------------------------------------------------------------------------------------------
def test_ground_truth_as_tables(truth):
    assert truth.images.classes == ("benign", "malignant")
    assert truth.images.ids == (10, 11, 12)
    np.testing.assert_array_equal(truth.images.truth, [[0, 1], [np.nan, np.nan], [1, 0]])
    assert truth.lesions.boxes.tolist() == [[10, 20, 40, 60], [1, 2, 4, 6]]
    assert truth.lesions.label.tolist() == [1, 0]
    assert truth.images.patient.tolist() == [0, 0, 1]
    assert truth.notes == {}


def test_chosen_classes_count_what_they_leave_out(truth_file):
    truth = load_ground_truth(truth_file(), ["malignant"])
    assert (truth.images.classes, truth.class_of, truth.other_ids) == (("malignant",), {2: 0}, (1,))
    assert truth.lesions.label.tolist() == [0]
    assert truth.notes == {"annotations of other categories": 1}


def test_ignored_categories_become_regions_that_decide_nothing(truth_file):
    truth = load_ground_truth(truth_file(), ["malignant"], ["benign"])
    assert truth.lesions.ignore.tolist() == [False, True]
    np.testing.assert_array_equal(truth.images.truth[:, 0], [1, np.nan, 0])


def test_merged_classes(truth_file, results_file):
    images = [*IMAGES, {"id": 13, "labels": {"malignant": 1, "benign": None}}, {"id": 14, "labels": {"benign": None}}]
    truth = load_ground_truth(truth_file(images=images), merge="lesion")
    assert (truth.images.classes, truth.class_of, truth.other_ids) == (("lesion",), {1: 0, 2: 0}, ())
    np.testing.assert_array_equal(truth.images.truth, [[1], [np.nan], [1], [1], [np.nan]])
    assert truth.lesions.label.tolist() == [0, 0]
    table, notes = load_detections(results_file([entry(), entry(category_id=1)]), truth)
    assert table.label.tolist() == [0, 0]
    assert notes == {"detections that are there again (counted each time)": 1}
    other = load_ground_truth(truth_file(), ["malignant"], ["benign"], merge="cancer")
    assert (other.lesions.label.tolist(), other.lesions.ignore.tolist()) == ([0, 0], [False, True])


def test_images_without_patient_are_counted(truth_file):
    truth = load_ground_truth(truth_file(images=[{"id": 10}, {"id": 12}]))
    assert truth.notes == {"images without patient_id (each its own patient)": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [*IMAGES, {"id": 10}]}, r"images\[3\]: id 10 is there twice"),
        ({"images": [{}]}, r"images\[0\]: field 'id' is missing"),
        (
            {"annotations": [{**ANNOTATIONS[0], "image_id": 99}]},
            r"annotations\[0\]: image_id 99 is not among the images",
        ),
        ({"annotations": [{**ANNOTATIONS[0], "category_id": 7}]}, "category_id 7 is not among the categories"),
        ({"annotations": [{**ANNOTATIONS[0], "bbox": [1, 2, -3, 4]}]}, r"bbox \[1, 2, -3, 4\] must be"),
        ({"annotations": [{**ANNOTATIONS[0], "bbox": [1, 2, 3]}]}, r"bbox \[1, 2, 3\] must be"),
        ({"categories": [{"id": 1}]}, r"categories\[0\]: field 'name' is missing"),
        ({"categories": [*CATEGORIES, {"id": 3, "name": "benign"}]}, r"categories\[2\]: name 'benign' is there twice"),
        ({"categories": [*CATEGORIES, {"id": 2, "name": "mass"}]}, r"categories\[2\]: id 2 is there twice"),
        ({"categories": [{"id": 1, "name": 7}]}, r"categories\[0\]: name 7 must be text"),
        ({"categories": [{"id": "1", "name": "benign"}]}, r"categories\[0\]: id '1' must be a whole number"),
        ({"categories": [{"id": None, "name": "benign"}]}, r"categories\[0\]: id None must be a whole number"),
        ({"categories": [{"id": [1], "name": "benign"}]}, r"categories\[0\]: id \[1\] must be a whole number"),
        ({"categories": None}, "categories None must be a list"),
        (
            {"annotations": [*ANNOTATIONS, {**ANNOTATIONS[0], "bbox": [1, 1, 5, 5]}]},
            r"annotations\[2\]: id 1 is there twice; annotation ids must be unique",
        ),
        ({"annotations": None}, "annotations None must be a list"),
        ({"annotations": [{**ANNOTATIONS[0], "image_id": [10]}]}, r"image_id \[10\] must be a whole number or text"),
        ({"annotations": [{**ANNOTATIONS[0], "category_id": [2]}]}, r"category_id \[2\] is not among the categories"),
        ({"annotations": [{**ANNOTATIONS[0], "iscrowd": "0"}]}, "iscrowd '0' must be the number 0 or 1"),
        ({"annotations": [{**ANNOTATIONS[0], "ignore": "false"}]}, "ignore 'false' must be the number 0 or 1"),
        ({"annotations": [{**ANNOTATIONS[0], "area": "9"}]}, "area '9' must be a number of pixels"),
        (
            {"annotations": [{**ANNOTATIONS[0], "bbox": [10**400, 2, 3, 4]}]},
            r"bbox \[1000.* must be four finite numbers",
        ),
        ({"annotations": [{**ANNOTATIONS[0], "bbox": [1, 2, 1e300, 4]}]}, "must be in pixels; no image is that large"),
        ({"annotations": [{**ANNOTATIONS[0], "bbox": [79, 2, 30, 4]}]}, "its centre outside of the image of 100 rows"),
        ({"images": [*IMAGES, {"id": "10"}]}, r"images\[3\]: id is '10' here and 10 before; write one type"),
        (
            {"images": [*IMAGES, {"id": 1, "patient_id": 1}, {"id": 2, "patient_id": "1"}]},
            "patient_id is '1' here and 1",
        ),
    ],
)
def test_bad_ground_truth_is_a_named_error(truth_file, change, message):
    with pytest.raises(ResultsError, match=rf"gt.json: .*{message}"):
        load_ground_truth(truth_file(**change))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *(("labels", {"malignant": v}, "labels: malignant .* must be 0") for v in (2, 4, -1, 0.5, "1", [1], {})),
        ("labels", ["malignant"], r"labels \['malignant'\] must be an object or null"),
        *(
            ("pixel_spacing", v, "pixel_spacing .* must be")
            for v in ([0, 0], [0.1, -0.1], [0.1], 0.1, "0.1", ["a", "b"])
        ),
        *(("height", v, "height .* must be a number of pixels") for v in ("100", 0, -5, True, 10**400, float("nan"))),
        ("id", [1], r"id \[1\] must be a whole number or text"),
        ("id", True, "id True must be a whole number or text"),
        ("patient_id", ["a"], r"patient_id \['a'\] must be a whole number or text"),
        ("patient_id", float("nan"), "patient_id nan must be a whole number or text"),
        ("patient_id", "", "patient_id '' must be a whole number or text"),
        ("exam_id", {}, "exam_id {} must be a whole number or text"),
        ("laterality", ["L"], r"laterality \['L'\] must be"),
        ("source", "file.dcm", "source 'file.dcm' must be an object or null"),
        ("transform", {"scale": 2}, "transform: source_size"),
    ],
)
def test_a_bad_image_is_a_named_error(truth_file, field, value, message):
    path = truth_file(images=[*IMAGES[:2], {**IMAGES[2], field: value}])
    with pytest.raises(ResultsError, match=rf"gt.json: images\[2\]: {message}"):
        load_ground_truth(path)


def test_null_is_unknown_everywhere(truth_file):
    nothing = dict.fromkeys(("patient_id", "exam_id", "laterality", "height", "pixel_spacing", "labels", "transform"))
    truth = load_ground_truth(truth_file(images=[*IMAGES[:2], {"id": 12, **nothing}]))
    assert np.isnan(truth.images.spacing[2]).all()
    assert truth.images.truth[2].tolist() == [1, 0]


def test_classes_named_twice_are_errors(truth_file):
    with pytest.raises(ResultsError, match="class 'benign' is named twice"):
        load_ground_truth(truth_file(), ["benign", "malignant", "benign"])
    with pytest.raises(ResultsError, match="class 'benign' is named twice"):
        load_ground_truth(truth_file(), ["benign"], ["benign"])
    with pytest.raises(ResultsError, match="--merge benign is a category that is not among those merged"):
        load_ground_truth(truth_file(), ["malignant"], merge="benign")


def test_not_a_ground_truth_file(tmp_path, truth_file):
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ResultsError, match="not a COCO ground-truth file"):
        load_ground_truth(tmp_path / "list.json")
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(ResultsError, match=r"cut\.json: not valid JSON at line 1 column \d+"):
        load_ground_truth(tmp_path / "cut.json")
    with pytest.raises(ResultsError, match="no category named 'cancer'; it has benign, malignant"):
        load_ground_truth(truth_file(), ["cancer"])
    with pytest.raises(FileNotFoundError):
        load_ground_truth(tmp_path / "absent.json")


# --- detections -------------------------------------------------------------------------------------------------
def test_detections_as_a_table(truth, results_file):
    table, notes = load_detections(results_file([entry(), entry(image_id=12, category_id=1, score=1)]), truth)
    assert table.boxes.tolist() == [[1, 2, 4, 6]] * 2
    assert (table.image.tolist(), table.label.tolist()) == ([0, 2], [1, 0])
    assert table.scores.tolist() == [0.5, 1]
    assert notes == {}


def test_detections_of_other_categories_are_dropped_and_counted(truth_file, results_file):
    truth = load_ground_truth(truth_file(), ["malignant"])
    table, notes = load_detections(results_file([entry(), entry(category_id=1)]), truth)
    assert len(table) == 1
    assert notes == {"detections of other categories": 1}


def test_empty_results_and_boxes_without_area_are_fine(truth, results_file):
    assert len(load_detections(results_file([]), truth)[0]) == 0
    assert len(load_detections(results_file([entry(bbox=[1, 2, 0, 0])]), truth)[0]) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(image_id=99), "image_id 99 is not in the ground truth"),
        (entry(image_id="10"), "image_id '10' is a str, the ground truth's ids are int"),
        (entry(category_id=5), r"category_id 5 is not in the ground truth, which has \[1, 2\]"),
        (entry(score=float("nan")), "score nan must be a finite number"),
        (entry(score=float("inf")), "score inf must be a finite number"),
        (entry(score="0.5"), "score '0.5' must be a finite number"),
        (entry(score=None), "score None must be a finite number"),
        (entry(bbox=[1, 2, -3, 4]), r"bbox \[1, 2, -3, 4\] has a negative size"),
        (entry(bbox=[1, 2, 3]), r"bbox \[1, 2, 3\] must be four finite numbers"),
        (entry(bbox=[1, 2, float("nan"), 4]), r"bbox \[1, 2, nan, 4\] must be four finite numbers"),
        (entry(bbox=[1, 2, 10**400, 4]), r"bbox \[1, 2, 1000.* must be four finite numbers"),
        (entry(bbox=[1, 2, 1e300, 4]), "bbox .* must be in pixels; no image is that large"),
        (entry(score=10**400), r"score 1000.*\.\.\. must be a finite number"),
        (entry(image_id=True), "image_id True must be a whole number or text"),
        (entry(category_id=True), "category_id True is not in the ground truth"),
        (entry(score=True), "score True must be a finite number"),
        (entry(bbox=[True, 2, 3, 4]), r"bbox \[True, 2, 3, 4\] must be four finite numbers"),
        (entry(image_id=[10]), r"image_id \[10\] must be a whole number or text"),
        (entry(bbox=[160, 20, 30, 40]), "bbox .* has its centre outside of the image of 100 rows and 80 columns"),
        (entry(bbox=[-40, 20, 30, 40]), "bbox .* has its centre outside of the image of 100 rows and 80 columns"),
        ({"image_id": 10}, "field 'category_id' is missing"),
        ("x", "'x' is not an object"),
    ],
)
def test_bad_entry_is_a_named_error(truth, results_file, bad, message):
    with pytest.raises(ResultsError, match=rf"results.json: entry 1: {message}"):
        load_detections(results_file([entry(), bad, entry()]), truth)


def test_results_in_other_pixels_are_named_errors(truth_file, results_file):
    moved, unmoved = {"source_size": [200, 160], "scale": [0.5, 0.5]}, {"source_size": [100, 80]}
    prepared = load_ground_truth(truth_file(images=[{**IMAGES[0], "transform": moved}, *IMAGES[1:]]))
    original = load_ground_truth(truth_file(images=[{**IMAGES[0], "transform": unmoved}, *IMAGES[1:]]))
    path = results_file([entry()], "coco_instances_results_source.json")
    with pytest.raises(ResultsError, match=r"in pixels of the source files.*; evaluate coco_instances_results\.json"):
        load_detections(path, prepared)
    assert len(load_detections(path, original)[0]) == 1
    path = results_file([entry(bbox=[0.1, 0.2, 0.3, 0.4]), entry(bbox=[0.5, 0.5, 0.5, 0.5])])
    with pytest.raises(ResultsError, match="not in fractions of the image"):
        load_detections(path, original)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"annotations": []}', "neither COCO results .a list. nor predictions.json"),
        ("", "is a list of"),
        ("[{]", "not a JSON file"),
        ('[{"image_id": 10}', "not a JSON file"),
        ("3", "is a list of"),
    ],
)
def test_not_a_results_file(truth, results_file, text, message):
    with pytest.raises(ResultsError, match=f"results.json.*{message}"):
        load_detections(results_file(text), truth)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08", "is compressed"),
        (b"PK\x03\x04", "is an Excel workbook or a ZIP archive"),
        ("[]".encode("utf-16"), "is UTF-16 text"),
        (b'[{"a": "\xe4"}]', "not UTF-8 text"),
        (b"[" * 200_000, "nested too deeply"),
        (b'[{"score": ' + b"9" * 5000 + b"}]", "a number of thousands of digits"),
    ],
)
def test_results_in_other_forms_are_named_errors(truth, tmp_path, content, message):
    for name in ("r.json", "r.txt", "r.json.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ResultsError, match=rf"{name}: .*{message}"):
            load_detections(tmp_path / name, truth)


def test_results_may_begin_with_a_byte_order_mark(truth, results_file):
    path = results_file("")
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([entry()]).encode())
    assert len(load_detections(path, truth)[0]) == 1


@pytest.mark.parametrize("piece", [7, 50, 333, 10_000])
def test_reading_in_pieces_gives_the_same_entries(monkeypatch, results_file, piece):
    entries = [entry(score=n / 100, parts=[{"a": n}, {"b": [1, {"c": "}, {"}]}]) for n in range(60)]
    for name, indent in (("flat.json", None), ("indented.json", 2)):
        path = results_file(json.dumps(entries, indent=indent), name)
        monkeypatch.setattr(detection_files, "_PIECE", piece)
        lists = list(iterate_results(path))
        assert [e for part in lists for e in part] == entries
    assert len(lists) > 1 or piece == 10_000


def test_results_survive_writing_and_reading(truth, tmp_path, results_file):
    table, _ = load_detections(results_file([entry(score=0.2), entry(score=0.7), entry(image_id=12)]), truth)
    path = write_json(
        tmp_path / "again.json",
        detections_to_coco(table, truth.images, list(truth.class_of)),
        indent=None,
        nan_as_null=True,
    )
    assert json.loads(path.read_text())[0] == {"image_id": 10, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.7}
    again, _ = load_detections(path, truth)
    assert sorted(again.scores.tolist()) == sorted(table.scores.tolist())


# --- image scores -----------------------------------------------------------------------------------------------
def test_image_scores(truth, tmp_path):
    (tmp_path / "s.csv").write_text("image_id,malignant,note,benign\n12,0.5,x,0.25\n10,0.75,y,\n")
    scores = load_image_scores(tmp_path / "s.csv", truth)
    np.testing.assert_array_equal(scores, [[np.nan, 0.75], [np.nan, np.nan], [0.25, 0.5]])


def test_a_single_class_may_be_named_score(truth_file, tmp_path):
    (tmp_path / "s.csv").write_text("image_id,score\n12,0.5\n")
    scores = load_image_scores(tmp_path / "s.csv", load_ground_truth(truth_file(), ["malignant"]))
    np.testing.assert_array_equal(scores[:, 0], [np.nan, np.nan, 0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,malignant\n10,0.5\n",
            "must name image_id and at least one of benign, malignant; it names name, malignant",
        ),
        ("image_id,cancer\n10,0.5\n", "it names image_id, cancer"),
        ("", "it names nothing"),
        ("image_id,malignant\n99,0.5\n", "line 2: '99' is neither an id nor a file of an image of"),
        ("image_id,malignant\n10,0.5\n10,0.6\n", "line 3: image_id '10' is there twice"),
        ("image_id,malignant,malignant\n10,0.2,0.9\n", "line 1: column 'malignant' is there twice"),
        ("image_id,malignant\n10,0,5\n", "line 2: 3 fields, but line 1 has 2"),
        ("image_id,malignant\n10," + "0" * 140_000, "line 2: field larger than field limit"),
        ("image_id,malignant\n10,high\n", "line 2: malignant 'high' is no finite number"),
        ("image_id,malignant\n10,0.1_5\n", "line 2: malignant '0.1_5' is no finite number"),
        ("image_id,malignant\n10,nan\n", "line 2: malignant 'nan' is no finite number"),
        ("image_id,malignant\n10,inf\n", "line 2: malignant 'inf' is no finite number"),
    ],
)
def test_bad_image_scores_are_named_errors(truth, tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ResultsError, match=f"s.csv: .*{message}"):
        load_image_scores(tmp_path / "s.csv", truth)


def test_entries_that_are_there_twice_are_noted(truth_file, results_file):
    annotations = [*ANNOTATIONS, {**ANNOTATIONS[0], "id": 3}, {**ANNOTATIONS[0], "id": 4, "category_id": 1}]
    truth = load_ground_truth(truth_file(annotations=annotations))
    assert truth.notes == {"lesions that are there again (counted each time)": 1}
    entries = [entry(), entry(), entry(), entry(score=0.25), entry(category_id=1)]
    assert load_detections(results_file(entries), truth)[1] == {
        "detections that are there again (counted each time)": 2
    }
