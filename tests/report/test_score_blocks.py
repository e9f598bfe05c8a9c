"""Distribution of the image scores and truth against call, on scores made by hand."""

import json
import math

import numpy as np
import pytest

from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.engine.run_files.run_results import read_evaluations
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule
from mammo_d2.report.html import Note, Table
from mammo_d2.report.score_blocks import ScoredImages, confusion_rows, histograms, score_blocks, scored_images
from tests.report.toy_run import make_dataset, make_run


def scored(truth, scores, **rule):
    columns = np.array(truth, float)[:, np.newaxis], np.array(scores, float)[:, np.newaxis]
    return ScoredImages(["malignant"], *columns, ScoreRule(**rule), "")


TRUTH, SCORES = [1, 1, 1, 0, 0, math.nan], [0.9, 0.5, 0.1, 0.5, 0.0, 1.0]


@pytest.mark.parametrize(
    ("strict", "expected"),
    [
        (True, [["positive", 1, 2, 3], ["negative", 0, 2, 2], ["unknown", 1, 0, 1]]),
        (False, [["positive", 2, 1, 3], ["negative", 1, 1, 2], ["unknown", 1, 0, 1]]),
    ],
)
def test_truth_against_call(strict, expected):
    assert confusion_rows(scored(TRUTH, SCORES, strict=strict), 0) == expected
    assert confusion_rows(scored([1], [0.7]), 0) == [["positive", 1, 0, 1]]


def test_bins_hold_parts_of_the_images_of_each_truth():
    edges, found = histograms(scored(TRUTH, SCORES), 0)
    assert (edges[0], edges[-1], len(edges)) == (0.0, 1.0, 26)
    assert list(found) == ["positive", "negative", "unknown"]
    assert [found["positive"][k] for k in (2, 12, 22)] == pytest.approx([1 / 3] * 3)  # 0.1, 0.5, 0.9 in bins of 0.04
    assert (found["negative"][0], found["unknown"][24]) == (0.5, 1.0)
    assert all(parts.sum() == pytest.approx(1) for parts in found.values())
    # Scores of ranked regions are small, those of other programs may lie anywhere.
    assert histograms(scored([1, 0], [0.02, 0.01]), 0)[0][-1] == pytest.approx(0.02)
    assert histograms(scored([1, 0], [7.0, -2.0]), 0)[0][[0, -1]].tolist() == [-2.0, 7.0]
    assert histograms(scored([1, 0], [0.0, 0.0]), 0)[0][-1] == 1.0


@pytest.fixture
def run(tmp_path):
    make_dataset(tmp_path / "data")
    cfg = make_run(tmp_path / "run", tmp_path / "data")
    register_datasets(cfg)
    return cfg, tmp_path / "run", load_records(cfg, "toy_test")


def test_boxes_score_their_image(run):
    cfg, folder, records = run
    cfg.TEST.PATIENT.THRESHOLD = 0.68
    (result,) = read_evaluations(folder)
    found = scored_images(cfg, result, records)
    assert found.scores.tolist() == [[0.7], [0.65]]
    _, _, _, table = score_blocks(cfg, result, records)
    assert isinstance(table, Table)
    assert table.caption.endswith("called positive at score > 0.68")
    assert [list(row) for row in table.rows] == [["malignant", "positive", 1, 0, 1], ["malignant", "negative", 0, 1, 1]]


def test_image_scores_come_first(run):
    cfg, folder, records = run
    inference = folder / "inference" / "toy_test"
    metrics = json.loads((inference / "metrics.json").read_text())
    (inference / "metrics.json").write_text(json.dumps({**metrics, "image": {"malignant/auc": 1.0}}))
    entries = [{"image_id": n, "scores": {"malignant": n / 10}} for n in (4, 3)]
    (inference / "image_scores.json").write_text(json.dumps(entries))
    cfg.TEST.IMAGE.THRESHOLD, cfg.TEST.IMAGE.STRICT = 0.4, False
    (result,) = read_evaluations(folder)
    found = scored_images(cfg, result, records)
    assert (found.scores.tolist(), str(found.rule).startswith("called positive at score >= 0.4")) == ([[0.3], [0.4]], 1)
    assert confusion_rows(found, 0) == [["positive", 0, 1, 1], ["negative", 1, 0, 1]]
    (inference / "image_scores.json").write_text(json.dumps(entries[:1]))
    (note,) = score_blocks(cfg, read_evaluations(folder)[0], records)
    assert isinstance(note, Note)


def test_nothing_to_show(run):
    cfg, folder, records = run
    (result,) = read_evaluations(folder)
    assert score_blocks(cfg, result, "the data set is gone") == []
    (folder / "inference" / "toy_test" / "coco_instances_results.json").write_text("[]")
    assert score_blocks(cfg, read_evaluations(folder)[0], records) == []
