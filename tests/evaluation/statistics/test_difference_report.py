"""Differences: every metric's numbers are those of its statistic, and each test is where it was asked for."""

import numpy as np
import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.bootstrap import bootstrap
from mammo_d2.evaluation.metrics.comparison.froc_area import FrocAreaStatistic
from mammo_d2.evaluation.metrics.comparison.mcnemar import mcnemar_test
from mammo_d2.evaluation.metrics.comparison.noninferiority import noninferiority_test
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at
from mammo_d2.evaluation.metrics.scores.curves import roc_auc, score_table, sensitivity_at_specificity
from mammo_d2.evaluation.metrics.scores.delong import delong_test
from mammo_d2.evaluation.statistics.difference_report import (
    DifferenceOptions,
    check_metric,
    difference_report,
    difference_table,
    difference_text,
    write_difference,
)
from mammo_d2.evaluation.statistics.scored_cases import CaseRule, ScoredSystem

METRICS = ("auc", "sens@spec0.90", "pauc_ratio", "froc@0.5", "froc_area@1", "afroc", "wafroc")


def report_of(truth, systems, resampling, **options):
    return difference_report(truth, systems, CaseRule(), FrocRule(), resampling, DifferenceOptions(**options))


@pytest.fixture(scope="module")
def report(truth, systems, resampling):
    return report_of(truth, systems, resampling, metrics=METRICS, margin=0.1, permutations=60, thresholds=(0.5, 0.5))


def test_values(truth, systems, report):
    values = {row.metric: row.values for row in report.rows}
    assert tuple(values) == METRICS
    for n, system in enumerate(systems):
        table = score_table(system.cases.truth, system.cases.scores)
        assert values["auc"][n] == roc_auc(table)
        assert values["sens@spec0.90"][n] == sensitivity_at_specificity(table, 0.9)
        events = froc_events(truth.data(system.detections), FrocRule(), 0)
        assert values["froc@0.5"][n] == sensitivity_at(froc_curve(events), (0.5,), "step", "hold")[0].sensitivity
    assert all(row.comparison.difference == row.values[1] - row.values[0] for row in report.rows)


def test_tests(systems, report):
    first, second = (system.cases for system in systems)
    assert report.delong == delong_test(first.truth, second.scores, first.scores, first.patient)
    expected = noninferiority_test(report.delong.difference, report.delong.error, 0.1)
    assert report.delong_noninferiority.p == pytest.approx(expected.p)
    positive = first.truth == 1
    expected = mcnemar_test(first.scores[positive] >= 0.5, second.scores[positive] >= 0.5)
    assert report.mcnemar["sensitivity"] == expected
    for row in report.rows:
        assert 0 < row.permutation_p <= 1
        assert row.noninferiority.margin == 0.1
        assert row.noninferiority.is_noninferior == (row.noninferiority.low > -0.1)


def test_the_intervals_are_of_paired_replicates(truth, systems, resampling, report):
    events = [froc_events(truth.data(system.detections), FrocRule(), 0) for system in systems]
    statistics = {str(n): FrocAreaStatistic(e, truth.images.patient, 1.0) for n, e in enumerate(events)}
    drawn = bootstrap(statistics, resampling.patients, resampling.plan, resampling.strata)
    low, high = np.quantile(drawn["1"][0] - drawn["0"][0], [0.025, 0.975])
    row = next(row for row in report.rows if row.metric == "froc_area@1")
    assert (row.comparison.low, row.comparison.high) == pytest.approx((low, high))


def test_kinds_of_interval(truth, systems, resampling):
    found = {
        kind: report_of(truth, systems, resampling, metrics=("auc",), kind=kind).rows[0].comparison
        for kind in ("percentile", "bca", "beta")
    }
    assert len({(c.low, c.high) for c in found.values()}) == 3
    assert found["beta"].high - found["beta"].low > found["percentile"].high - found["percentile"].low


def test_output(report, tmp_path):
    header, rows = difference_table(report)
    assert header[:5] == ["metric", "old", "new", "new - old", "p"]
    assert all(len(row) == len(header) for row in rows)
    assert "margin 0.1, one-sided level 0.025" in difference_text(report)
    names = {path.name for path in write_difference(report, tmp_path, ["pdf", "svg"])}
    assert names == {"difference.json", "difference.md", "difference.tex", "difference.pdf", "difference.svg"}


def test_errors(truth, systems, resampling):
    bare = tuple(ScoredSystem(system.name, system.cases) for system in systems)
    with pytest.raises(ResultsError, match="old: image scores have no boxes"):
        report_of(truth, bare, resampling, metrics=("afroc",))
    for name in ("roc", "sens@spec1.5", "froc_area", "auc@1"):
        with pytest.raises(ValueError, match="it is none of auc"):
            check_metric(name)
