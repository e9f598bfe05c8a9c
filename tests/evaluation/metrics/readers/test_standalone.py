"""A standalone system against readers: RJafroc's stored results of its simulated CAD data set."""

import numpy as np
import pytest
from scipy import stats

from mammo_d2.evaluation.metrics.readers.reader_figures import reader_figures
from mammo_d2.evaluation.metrics.readers.standalone import standalone_against_readers
from tests.evaluation.metrics.readers.published_studies import standalone, van_dyke


def numbers(test):
    return test.t, test.df, test.p, test.low, test.high


def test_wafroc():
    result = standalone_against_readers(reader_figures(standalone(), "wafroc"), 0)
    assert result.system == pytest.approx(0.628125)
    assert result.readers.mean() == pytest.approx(0.79196759, abs=5e-9)
    assert (result.var_reader, result.var, result.cov2) == pytest.approx((0.00152765, 0.0027699, 0.00209953), abs=5e-9)
    assert numbers(result.random_cases) == pytest.approx(
        (3.43940829, 1429.87339801, 0.00059975, 0.07039697, 0.25728821), abs=5e-9
    )
    assert numbers(result.fixed_cases) == pytest.approx(
        (12.57580033, 8, 1.49881928e-06, 0.13379904, 0.19388614), abs=5e-9
    )


def test_area_of_the_highest_ratings():
    result = standalone_against_readers(reader_figures(standalone(), "auc"), 0)
    assert (result.system, result.cov2) == pytest.approx((0.81692708, 0.00092417), abs=5e-9)
    assert numbers(result.random_cases) == pytest.approx(
        (0.99286888, 877.88637833, 0.32104743, -0.03099877, 0.09447099), abs=5e-9
    )
    # Fixed cases: the one-sample t test.
    plain = stats.ttest_1samp(result.readers, result.system)
    assert (result.fixed_cases.t, result.fixed_cases.p) == pytest.approx((plain.statistic, plain.pvalue))


def test_it_needs_one_treatment_and_two_readers():
    figures = reader_figures(van_dyke(), "auc")
    with pytest.raises(ValueError, match="2 treatments and 4 readers"):
        standalone_against_readers(figures, 0)


def test_the_place_of_the_system_does_not_matter():
    figures = reader_figures(standalone(), "auc")
    turned = type(figures)("auc", figures.values[:, ::-1], figures.left_out[:, ::-1])
    assert numbers(standalone_against_readers(turned, 9).random_cases) == pytest.approx(
        numbers(standalone_against_readers(figures, 0).random_cases)
    )
    assert np.isclose(standalone_against_readers(turned, 9).system, figures.values[0, 0])
