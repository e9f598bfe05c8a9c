"""Evaluation files with one wrong field: exit code 2 and one line that names the file, or an evaluation."""

import contextlib
import copy
import io
import json
import random

import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results import average_scores, evaluate

IMAGES = [
    {
        "id": n, "file_name": f"p/{n}.png", "height": 60, "width": 60, "patient_id": n // 2, "exam_id": "1",
        "laterality": "LR"[n % 2], "pixel_spacing": [0.1, 0.1], "labels": {"malignant": int(n < 3), "benign": 0},
        "source": {"file": f"p/{n}.dcm", "sha256": "ab"}, "transform": {"source_size": [60, 60]},
    }
    for n in range(1, 7)
]  # fmt: skip
BOX = {"image_id": 1, "category_id": 2, "bbox": [5, 5, 10, 10]}
CATEGORIES = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
SCORES = {"malignant": 0.5, "benign": 0.25}
FILES = {
    "truth.json": {"images": IMAGES, "annotations": [{**BOX, "id": 1, "iscrowd": 0}], "categories": CATEGORIES},
    "results.json": [{**BOX, "score": 0.5}],
    "scores.json": [{"image_id": image["id"], "scores": SCORES} for image in IMAGES],
    "predictions.json": {
        "images": [
            {**{key: image[key] for key in ("id", "file_name", "height", "width")}, "image_scores": SCORES}
            for image in IMAGES
        ],
        "annotations": [{**BOX, "id": 1, "score": 0.5}],
        "categories": CATEGORIES,
    },
    "top.json": [{"folder": "run", "value": 0.5}],
}  # fmt: skip
TRUTH = ["--ground-truth", "truth.json"]
QUICK = [*TRUTH, "--bootstrap", "0", "--one-threshold"]
COMMANDS = {
    "truth.json": (evaluate.run, ["results.json", *QUICK]),
    "results.json": (evaluate.run, ["results.json", *QUICK]),
    "scores.json": (average_scores.run, ["scores.json", "run", *TRUTH]),
    "predictions.json": (evaluate.run, ["predictions.json", *QUICK, "--image-scores", "predictions.json"]),
    "top.json": (average_scores.run, ["--search", ".", "--top", "1", *TRUTH]),
}
VALUES = [
    None, "", "x", "1", [], {}, [1], [None], True, -1, 0, 0.5, 2, 1e300, 10**400, float("nan"), float("inf"), "deep"
]  # fmt: skip


def _places(value, place=()):
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*place, key))


def _changed(value, place, new):
    if not place:
        return new
    value = copy.copy(value)
    value[place[0]] = _changed(value[place[0]], place[1:], new)
    return value


def _end_of(command, arguments):
    """Exit code and what was printed as errors."""
    errors = io.StringIO()
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stop:
        run_tool(command, arguments)
    return stop.value.code, errors.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_one_wrong_field(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file, content in FILES.items():
        (tmp_path / file).write_text(json.dumps(content))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "image_scores.json").write_text(json.dumps(FILES["scores.json"]))
    command, arguments = COMMANDS[name]
    assert _end_of(command, arguments)[0] == 0
    cases = [(place, value) for place in _places(FILES[name]) for value in VALUES]
    for place, value in random.Random(0).sample(cases, min(100, len(cases))):
        text = json.dumps(_changed(FILES[name], place, value)).replace('"deep"', "[" * 100_000 + "]" * 100_000)
        (tmp_path / name).write_text(text)
        code, errors = _end_of(command, arguments)
        case = f"{name} {place} {str(value)[:20]}: exit code {code}, {errors[:300]}"
        assert code in (0, 2), case
        if code == 2:
            assert errors.count("\n") == 1, case
            assert name in errors, case
            assert len(errors) < 600, case
