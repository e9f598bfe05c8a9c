"""Reading a run's folder back: the training log after resumes and kills, evaluations, damaged files."""

import json
import math

import pytest

from mammo_d2.engine.run_files.run_results import read_dataset_result, read_evaluations, read_scalars

LESION = {"image_id": 1, "annotation_id": 1, "bbox": [0, 0, 5, 5], "malignancy": 0.5, "windows": [], "truth": None}


def write_log(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path.parent


def test_log_lines_of_one_iteration_are_joined_and_sorted(tmp_path):
    # The writer puts an evaluation at iteration 29 after the losses of iteration 39.
    log = write_log(
        tmp_path / "metrics.json",
        [
            {"iteration": 19, "total_loss": 2.0},
            {"iteration": 39, "total_loss": 1.0},
            {"iteration": 29, "coco/AP50": 0.5},
            {"iteration": 39, "coco/AP50": 0.75},
        ],
    )
    assert read_scalars(log) == [
        {"iteration": 19, "total_loss": 2.0},
        {"iteration": 29, "coco/AP50": 0.5},
        {"iteration": 39, "total_loss": 1.0, "coco/AP50": 0.75},
    ]


def test_resumed_run_replaces_what_it_repeats(tmp_path):
    entries = [(19, 5.0), (39, 4.0), (59, 3.0), (39, 3.9), (59, 2.9), (79, 2.0)]
    log = write_log(tmp_path / "metrics.json", [{"iteration": i, "total_loss": v} for i, v in entries])
    assert [(line["iteration"], line["total_loss"]) for line in read_scalars(log)] == [
        (19, 5.0),
        (39, 3.9),
        (59, 2.9),
        (79, 2.0),
    ]


def test_run_started_anew_leaves_nothing_of_a_longer_old_one(tmp_path):
    entries = [{"iteration": i, "total_loss": 1.0} for i in (19, 39, 59, 79)] + [{"iteration": 19, "total_loss": 9.0}]
    assert read_scalars(write_log(tmp_path / "metrics.json", entries)) == [{"iteration": 19, "total_loss": 9.0}]


def test_last_line_cut_off_by_a_kill_is_left_out(tmp_path):
    log = write_log(tmp_path / "metrics.json", [{"iteration": 19, "total_loss": 2.0}])
    with (log / "metrics.json").open("a") as stream:
        stream.write('{"iteration": 39, "tot')
    assert [line["iteration"] for line in read_scalars(tmp_path)] == [19]


def test_a_line_nested_too_deeply_is_an_error_that_names_it(tmp_path):
    deep = '{"iteration": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "metrics.json").write_text(f'{deep}\n{{"iteration": 59}}\n')
    with pytest.raises(ValueError, match=r"metrics\.json: line 1 is not a JSON object with an iteration"):
        read_scalars(tmp_path)


def test_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    log = tmp_path / "metrics.json"
    log.write_text('{"iteration": 19}\n{"loss": 1}\n{"iteration": 59}\n')
    with pytest.raises(ValueError, match=r"metrics\.json: line 2 is not a JSON object with an iteration"):
        read_scalars(tmp_path)


def test_no_log_is_an_empty_one(tmp_path):
    assert read_scalars(tmp_path) == []


def test_evaluation_is_read_with_options_reasons_and_pictures(tmp_path):
    (tmp_path / "metrics.json").write_text('{"froc": {"malignant/sens@1": 0.5, "benign/sens@1": NaN, "x": null}}')
    (tmp_path / "froc.json").write_text('{"options": "IoU >= 0.5", "reasons": {"benign/sens@1": "no lesion"}}')
    (tmp_path / "froc.png").write_bytes(b"png")
    result = read_dataset_result(tmp_path)
    froc = result.tasks["froc"]
    assert froc.numbers["malignant/sens@1"] == 0.5
    assert math.isnan(froc.numbers["benign/sens@1"])
    assert math.isnan(froc.numbers["x"])
    assert (froc.options, froc.reasons) == ("IoU >= 0.5", {"benign/sens@1": "no lesion"})
    assert (froc.intervals, froc.interval_words) == ({}, "")
    assert result.pictures == {"froc": b"png"}
    assert result.predictions is None


def test_bootstrap_intervals_are_preferred_to_delong(tmp_path):
    (tmp_path / "metrics.json").write_text('{"patient": {"auc": 0.8}}')
    details = {"delong_intervals": {"auc": [0.6, 0.9], "breast_auc": [None, None]}, "intervals": {}, "bootstrap": "no"}
    (tmp_path / "patient.json").write_text(json.dumps(details))
    task = read_dataset_result(tmp_path).tasks["patient"]
    assert task.intervals == {"auc": (0.6, 0.9)}
    assert "DeLong" in task.interval_words
    details |= {"intervals": {"auc": [0.5, 0.95]}, "bootstrap": "95% of 200"}
    (tmp_path / "patient.json").write_text(json.dumps(details))
    task = read_dataset_result(tmp_path).tasks["patient"]
    assert (task.intervals, task.interval_words) == ({"auc": (0.5, 0.95)}, "95% of 200")


def test_bootstrap_and_delong_intervals_complete_each_other(tmp_path):
    (tmp_path / "metrics.json").write_text('{"lesion": {"auc": 0.8, "tnr@fnr0": 0.25}}')
    details = {"delong_intervals": {"auc": [0.6, 0.9]}, "intervals": {"tnr@fnr0": [0.1, 0.5]}, "bootstrap": "of 200"}
    (tmp_path / "lesion.json").write_text(json.dumps(details))
    task = read_dataset_result(tmp_path).tasks["lesion"]
    assert task.intervals == {"auc": (0.6, 0.9), "tnr@fnr0": (0.1, 0.5)}
    assert task.interval_words.startswith("of 200; confidence intervals of the AUC by DeLong's method")


def test_evaluations_of_a_folder(tmp_path):
    assert read_evaluations(tmp_path) == []
    for name in ("b_test", "a_test"):
        (tmp_path / "inference" / name).mkdir(parents=True)
    (tmp_path / "inference" / "b_test" / "lesion_scores.json").write_text(json.dumps([LESION]))
    found = [(result.name, result.lesions) for result in read_evaluations(tmp_path)]
    assert found == [("a_test", None), ("b_test", [LESION])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", '{"coco": ', r"metrics\.json: not valid JSON at line 1"),
        ("metrics.json", "[]", r"metrics\.json: must hold a JSON object"),
        ("metrics.json", '{"coco": 3}', r"'coco' must be an object of numbers, not 3"),
        ("coco_instances_results.json", "{}", r"results\.json: must hold a JSON array"),
    ],
)
def test_damaged_evaluation_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_dataset_result(tmp_path)


def test_curves_of_evaluators_that_did_not_run_are_of_an_earlier_evaluation(tmp_path):
    folder = tmp_path / "inference" / "d"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"patient": {"auc": 0.5}}')
    for name in ("froc", "roc", "mine"):
        (folder / f"{name}.png").write_bytes(name.encode())
    assert read_dataset_result(folder).pictures == {"mine": b"mine", "roc": b"roc"}


def test_predictions_of_evaluators_that_did_not_run_are_of_an_earlier_evaluation(tmp_path):
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}
    for name in ("coco_instances_results.json", "top_regions.json"):
        (tmp_path / name).write_text(json.dumps([box]))
    (tmp_path / "lesion_scores.json").write_text(json.dumps([LESION]))
    (tmp_path / "response_maps.npz").write_bytes(b"")

    def found(*tasks):
        (tmp_path / "metrics.json").write_text(json.dumps({task: {} for task in tasks}))
        result = read_dataset_result(tmp_path)
        return result.predictions, result.regions, result.maps, result.lesions

    assert found("patient", "image") == (None, None, None, None)
    assert found("froc") == ([box], None, None, None)
    assert found("regions") == (None, [box], tmp_path / "response_maps.npz", None)
    assert found("lesion") == (None, None, None, [LESION])
    # An evaluator of other code may have written the boxes.
    assert found("mine") == ([box], None, None, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", {"froc": {"x": "0.5"}}, r"metrics\.json: froc/x = '0.5': must be a number or null"),
        ("metrics.json", {"froc": {"x": True}}, r"metrics\.json: froc/x = True: must be a number or null"),
        ("froc.json", {"intervals": {"x": [1]}}, r"froc\.json: intervals = .* must be pairs of numbers"),
        ("metrics.json", {"froc": {"x": 10**400}}, r"metrics\.json: froc/x = 1000.* must be a number or null"),
        ("coco_instances_results.json", [3], r"results\.json: entry 0: must be an object"),
        ("coco_instances_results.json", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}],
         r"results\.json: entry 0: bbox = \[1, 2, 3\]: must be four finite numbers"),
        ("coco_instances_results.json", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": math.nan}],
         r"results\.json: entry 0: score = nan: must be a finite number; evaluate the run again"),
    ],
)  # fmt: skip
def test_wrong_values_in_evaluation_files_are_named(tmp_path, name, content, message):
    (tmp_path / "metrics.json").write_text('{"froc": {"x": 0.5}}')
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_dataset_result(tmp_path)


@pytest.mark.parametrize(("truth", "found"), [({}, "is missing"), ({"truth": 2}, "= 2"), ({"truth": True}, "= True")])
def test_a_lesion_is_malignant_benign_or_unknown(tmp_path, truth, found):
    entry = {key: value for key, value in LESION.items() if key != "truth"}
    (tmp_path / "lesion_scores.json").write_text(json.dumps([{**entry, **truth}]))
    with pytest.raises(ValueError, match=rf"lesion_scores\.json: entry 0: truth {found}: must be 1, 0 or null"):
        read_dataset_result(tmp_path)


@pytest.mark.parametrize(
    "windows", [None, 3, [3], [{"bbox": [1, 2, 3, 4]}], [{"bbox": [1, None, 3, 4], "malignancy": 1}]]
)
def test_windows_of_a_lesion_that_are_none(tmp_path, windows):
    (tmp_path / "lesion_scores.json").write_text(json.dumps([{**LESION, "windows": windows}]))
    with pytest.raises(
        ValueError, match=r"lesion_scores\.json: entry 0: windows = .* must be objects with bbox and mal"
    ):
        read_dataset_result(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"iteration": "3"}, "line 1: iteration = '3': must be a number"),
        ({"iteration": 0.5}, "line 1: iteration = 0.5: must be a whole number"),
        ({"iteration": 3, "total_loss": [1]}, r"line 1: total_loss = \[1\]: must be a number"),
        ({"iteration": 3, "time": None}, "line 1: time = None: must be a number"),
    ],
)
def test_values_of_a_log_that_are_no_numbers_are_named(tmp_path, entry, message):
    log = write_log(tmp_path / "metrics.json", [entry, {"iteration": 4}])
    with pytest.raises(ValueError, match=rf"metrics\.json: {message}"):
        read_scalars(log)
