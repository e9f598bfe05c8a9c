"""Evaluation results as report blocks: the numbers at their places."""

import math
import re

from mammo_d2.engine.run_files.run_results import DatasetResult, TaskResult
from mammo_d2.report.html import DASH, Estimate, Heading, Table, Terms
from mammo_d2.report.metric_tables import evaluation_blocks, headline_numbers

COCO = {"AP": 0.2, "AP50": 0.5, "AP75": 0.1, "APs": 0.3, "APm": 0.4, "APl": math.nan, "AR": 0.6}
FROC = {
    "malignant/sens@0.1": 0.3,
    "malignant/sens@1": 0.7,
    "malignant/mean_sens": 0.5,
    "malignant/threshold@0.1": math.inf,
    "malignant/threshold@1": 0.25,
    "malignant/num_lesions": 20.0,
}
PATIENT = {
    "auc": 0.8,
    "sensitivity": 0.9,
    "specificity": 0.4,
    "accuracy": 0.65,
    "num_positive": 3.0,
    "num_negative": 4.0,
    "num_unknown": 0.0,
}


def result(**tasks):
    made = {name: TaskResult(numbers, {}, "some options") for name, numbers in tasks.items()}
    return DatasetResult("toy_test", made, None, {})


def only_table(values):
    return next(block for block in evaluation_blocks(values) if isinstance(block, Table))


def test_coco_table_has_one_row_for_one_class():
    table = only_table(result(coco=COCO | {f"malignant/{key}": value for key, value in COCO.items()}))
    assert list(table.columns) == ["class", "AP50", "AP", "AP75", "APs", "APm", "APl", "AR"]
    assert [list(row)[:6] for row in table.rows] == [["all classes", 0.5, 0.2, 0.1, 0.3, 0.4]]


def test_coco_table_has_a_row_per_class():
    classes = {f"benign/{key}": 0.0 for key in COCO} | {f"malignant/{key}": 1.0 for key in COCO}
    table = only_table(result(coco=COCO | classes))
    assert [(row[0], row[1]) for row in table.rows] == [("all classes", 0.5), ("benign", 0.0), ("malignant", 1.0)]


def test_known_evaluators_come_first_and_have_words():
    blocks = evaluation_blocks(result(mine={"x": 1.0}, voc={"AP50": 0.5, "AP50_11": 0.4}, coco=COCO))
    assert [block.text for block in blocks if isinstance(block, Heading)] == [
        "Boxes: average precision", "Boxes: average precision as in VOC", "mine",
    ]  # fmt: skip
    tables = [block for block in blocks if isinstance(block, Table)]
    assert list(tables[1].columns) == ["class", "AP50", "AP50, 11 points"]
    assert list(tables[1].rows[0]) == ["all classes", 0.5, 0.4]


def test_froc_table_shows_sensitivity_and_threshold_by_rate():
    table = only_table(result(froc=FROC))
    assert list(table.columns) == ["at false positives per image", "mean", "0.1", "1"]
    assert [list(row) for row in table.rows] == [
        ["malignant (20 lesions): sensitivity", 0.5, 0.3, 0.7],
        ["malignant: score threshold", None, math.inf, 0.25],
    ]


def test_decision_table_has_a_row_per_level_and_whole_counts():
    table = only_table(result(patient=PATIENT | {f"image_{key}": value for key, value in PATIENT.items()}))
    assert [list(row) for row in table.rows] == [
        ["patients", 0.8, 0.9, 0.4, 0.65, 3, 4, 0],
        ["images", 0.8, 0.9, 0.4, 0.65, 3, 4, 0],
    ]
    assert "3.000" not in table.html()


def test_unknown_evaluators_are_listed_as_they_are():
    table = only_table(result(other={"dice": 0.4, "num_images": 3.0}))
    assert [list(row) for row in table.rows] == [["dice", 0.4], ["num_images", 3]]


def test_columns_follow_the_thresholds_that_were_evaluated():
    numbers = {"auc": 0.8, "spec@sens0.85": 0.7, "tnr@fnr0.05": 0.25, "num_malignant": 12.0}
    blocks = evaluation_blocks(result(lesion=numbers))
    table = next(block for block in blocks if isinstance(block, Table))
    assert list(table.columns) == ["cases", "AUC", "spec. at sens. 0.85", "TNR at FNR 0.05", "malignant"]
    assert [list(row) for row in table.rows] == [["lesions", 0.8, 0.7, 0.25, 12]]
    terms = next(block for block in blocks if isinstance(block, Terms))
    assert dict(terms.terms)["spec. at sens. 0.85"] == "specificity at the threshold with a sensitivity of 0.85"
    assert "malignant" not in dict(terms.terms)


def test_image_scores_have_a_row_per_class_and_level():
    numbers = {"benign/auc": 0.6, "benign/patient_auc": 0.7, "malignant/auc": 0.8, "malignant/patient_auc": 0.9}
    table = only_table(result(image=numbers))
    assert [list(row) for row in table.rows] == [
        ["benign, images", 0.6],
        ["benign, patients", 0.7],
        ["malignant, images", 0.8],
        ["malignant, patients", 0.9],
    ]


def test_saliency_has_a_row_per_class():
    numbers = {"malignant/precision": 0.5, "malignant/recall": 0.25, "malignant/num_images": 4.0}
    table = only_table(result(saliency=numbers))
    assert list(table.columns) == ["class", "precision", "recall", "images"]
    assert [list(row) for row in table.rows] == [["malignant", 0.5, 0.25, 4]]


def test_intervals_stand_below_their_numbers():
    limits = {"auc": (0.6, 0.95), "sensitivity": (0.5, 1.0)}
    task = TaskResult(PATIENT | {"sensitivity": math.nan}, {}, "", limits, "95% intervals")
    values = DatasetResult("d", {"patient": task}, None, {})
    row = only_table(values).rows[0]
    assert row[1] == Estimate(0.8, 0.6, 0.95)
    assert math.isnan(row[2])  # no interval around what is undefined
    html = "".join(block.html() for block in evaluation_blocks(values))
    assert f"0.800<small>0.600{DASH}0.950</small>" in html
    assert "Below the numbers: 95% intervals." in html
    assert headline_numbers(values)[0] == (Estimate(0.8, 0.6, 0.95), "AUC, patients")


def test_options_and_reasons_are_told_once():
    task = TaskResult(COCO, {"APl": "no large lesion", "APm": "no large lesion"}, "IoU 0.5")
    html = "".join(block.html() for block in evaluation_blocks(DatasetResult("d", {"coco": task}, None, {})))
    assert "Options in force: IoU 0.5." in html
    assert len(re.findall("no large lesion", html)) == 1


def test_headline_takes_the_rate_one_not_those_ending_in_one():
    numbers = headline_numbers(result(coco=COCO, froc=FROC, patient=PATIENT))
    assert [value for value, _ in numbers] == [0.5, 0.7, 0.8, 0.9, 0.4]
    assert numbers[1][1] == "lesions found at 1 false positive per image, malignant"


def test_headline_of_lesions():
    rates = ("0", "0.01", "0.02", "0.03", "0.05")
    numbers = {"auc": 0.8, **{f"tnr@fnr{rate}": float(rate) + 0.1 for rate in rates}, "num_benign": 3.0}
    task = TaskResult(numbers, {}, "", {"auc": (0.7, 0.9)}, "95 %")
    assert headline_numbers(DatasetResult("d", {"lesion": task}, None, {})) == [
        (Estimate(0.8, 0.7, 0.9), "AUC, lesions"),
        (0.1, "TNR at FNR 0%, lesions"),
        (0.02 + 0.1, "TNR at FNR 2%, lesions"),
        (0.05 + 0.1, "TNR at FNR 5%, lesions"),
    ]


def test_headline_of_an_evaluation_without_the_usual_tasks():
    assert headline_numbers(result(other={"x": 1.0, "y": 2.0})) == [(1.0, "other: x")]
    image = {"malignant/auc": 0.75, "malignant/patient_auc": 0.5, "malignant/num_positive": 3.0}
    assert headline_numbers(result(image=image)) == [(0.75, "AUC, images, malignant")]
