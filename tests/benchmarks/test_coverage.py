"""Coverage by simulation: the fast numbers are the package's, the truth is the distributions', and a small run."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import coverage
from mammo_d2.evaluation.metrics.detection.froc import FrocEvents, FrocRule
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.scores.curves import partial_auc_ratio, roc_auc, score_table


def test_the_fast_numbers_are_the_packages():
    rng = np.random.default_rng(3)
    sample = coverage.draw_sample(60, 0.1, rng)
    weights = coverage.draw_stratified(sample.positive, 5, rng).astype(np.uint16)
    for number, marks in enumerate(sample.systems):
        found = sample.numbers(number).replicate(weights)
        table = score_table(sample.truth, marks.scores, weights[sample.patient])
        np.testing.assert_allclose(found[0], roc_auc(table), atol=1e-12)
        np.testing.assert_allclose(found[1], partial_auc_ratio(table, coverage.MIN_SENSITIVITY), atol=1e-12)
        by_fp, by_unit = np.argsort(-marks.fp_scores), np.argsort(-marks.lesion_scores)
        events = FrocEvents(
            marks.fp_scores[by_fp],
            marks.fp_image[by_fp],
            marks.lesion_scores[by_unit],
            np.flatnonzero(sample.truth)[by_unit],
            np.ones(len(sample.truth), bool),
            np.zeros(0),
        )
        froc = FrocStatistic(events, sample.patient, FrocRule(rates=(coverage.RATE,)))
        np.testing.assert_allclose(found[2], froc.replicate(weights)[0], atol=1e-12)


def test_the_truth_is_that_of_a_large_study():
    sample = coverage.draw_sample(6000, 0.5, np.random.default_rng(0))
    for number, effect in enumerate(coverage.EFFECTS):
        found = sample.numbers(number).replicate(np.ones((6000, 1)))[:, 0]
        assert found == pytest.approx(list(coverage.true_values(effect).values()), abs=0.012)


def test_the_stratified_draw_keeps_the_numbers_of_each_kind():
    positive = np.array([True, True, False, False, False])
    weights = coverage.draw_stratified(positive, 50, np.random.default_rng(0))
    assert (weights[:2].sum(axis=0) == 2).all()
    assert (weights[2:].sum(axis=0) == 3).all()


def test_a_small_run_finds_what_the_document_says():
    """At 3 % of 200 patients (6 positive) percentile intervals of the AUC are too short and beta intervals are not."""
    found = coverage.coverage(200, 60, 200)
    assert found["auc", "percentile"].share < 0.93
    assert found["auc", "beta"].share >= 0.88
    assert found["auc", "score"].share >= 0.93
    assert found["sens@0.5", "beta"].share >= 0.93
    assert found["auc difference", "beta"].share >= 0.88
    assert found["auc", "beta"].width > found["auc", "percentile"].width


def test_the_command(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    coverage.add_arguments(parser)
    output = tmp_path / "coverage.json"
    coverage.run(
        parser.parse_args(["--patients", "50", "--studies", "3", "--replicates", "40", "--output", str(output)])
    )
    assert "| auc                   | 50         |" in capsys.readouterr().out
    assert set(json.loads(output.read_text())["50"]["auc/beta"]) == {"share", "width"}
