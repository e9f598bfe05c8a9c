"""Multi-reader multi-case tests against OR-DBM MRMC 2.51 (Van Dyke) and RJafroc (tomosynthesis, JAFROC)."""

import numpy as np
import pytest
from scipy import stats

from mammo_d2.evaluation.metrics.readers.multi_reader import (
    dorfman_berbaum_metz,
    jackknife_covariance,
    obuchowski_rockette,
    pseudovalues,
)
from mammo_d2.evaluation.metrics.readers.reader_figures import ReaderFigures, reader_figures
from tests.evaluation.metrics.readers.published_studies import tomosynthesis, van_dyke


@pytest.fixture(scope="module")
def areas():
    return reader_figures(van_dyke(), "auc")


@pytest.fixture(scope="module")
def free_response():
    return reader_figures(tomosynthesis(), "wafroc")


def limits(entry):
    return entry.low, entry.high


def test_van_dyke_components(areas):
    result = obuchowski_rockette(areas)
    assert result.mean_squares == pytest.approx({"T": 0.00479617, "R": 0.00383620, "TR": 0.00055103}, abs=5e-9)
    c = result.covariances
    assert (c.var, c.cov1, c.cov2, c.cov3) == pytest.approx((0.00080229, 0.00034661, 0.00034407, 0.00023903), abs=5e-9)
    assert (c.var_reader, c.var_treatment_reader) == pytest.approx((0.00153500, 0.00020040), abs=5e-9)


def test_van_dyke_random_readers_and_cases(areas):
    both, _, _ = obuchowski_rockette(areas).analyses
    assert both.f == pytest.approx(4.46, abs=0.005)
    assert (both.ndf, round(both.ddf, 2), round(both.p, 4)) == (1, 15.26, 0.0517)
    (difference,) = both.differences
    assert (difference.difference, difference.error) == pytest.approx((-0.04380, 0.02075), abs=5e-6)
    assert limits(difference) == pytest.approx((-0.08796, 0.00036), abs=5e-6)
    first, second = both.means
    assert (first.value, first.error, first.df) == pytest.approx((0.89703704, 0.03317360, 12.74), abs=5e-3)
    assert limits(first) == pytest.approx((0.82522360, 0.96885048), abs=5e-9)
    assert limits(second) == pytest.approx((0.89413783, 0.98753689), abs=5e-9)


def test_van_dyke_fixed_readers(areas):
    _, fixed, _ = obuchowski_rockette(areas).analyses
    assert (fixed.f * fixed.ndf, fixed.p) == pytest.approx((5.47595, 0.0193), abs=5e-5)
    (difference,) = fixed.differences
    assert difference.error == pytest.approx(0.01872, abs=5e-6)
    assert limits(difference) == pytest.approx((-0.08049, -0.00711), abs=5e-6)
    assert [limits(mean) for mean in fixed.means] == [
        pytest.approx((0.84943008, 0.94464399), abs=5e-9),
        pytest.approx((0.90795637, 0.97371835), abs=5e-9),
    ]


def test_van_dyke_fixed_cases(areas):
    _, _, cases = obuchowski_rockette(areas).analyses
    assert (round(cases.f, 2), cases.ddf, round(cases.p, 4)) == (8.70, 4, 0.0420)
    assert limits(cases.differences[0]) == pytest.approx((-0.08502, -0.00258), abs=5e-6)
    assert limits(cases.means[1]) == pytest.approx((0.89598936, 0.98568536), abs=5e-9)
    # A paired t test of the readers' areas, for two treatments.
    assert cases.p == pytest.approx(stats.ttest_rel(*areas.values).pvalue, abs=1e-12)


def test_dbm_is_the_same_test_for_random_readers_and_cases(areas):
    ours, dbm = obuchowski_rockette(areas).analyses[0], dorfman_berbaum_metz(areas).analyses[0]
    assert (dbm.f, dbm.ddf, dbm.p) == pytest.approx((ours.f, ours.ddf, ours.p), rel=1e-9)
    assert limits(dbm.differences[0]) == pytest.approx(limits(ours.differences[0]), rel=1e-9)


def test_jafroc_of_the_tomosynthesis_study(free_response):
    """RJafroc's stored results of dataset01 with wAFROC, by DBM and OR."""
    for result in (obuchowski_rockette(free_response), dorfman_berbaum_metz(free_response)):
        both = result.analyses[0]
        assert (both.f, both.ddf, both.p) == pytest.approx((10.2988252, 24.7027584, 0.00366857839), rel=1e-8)
        (difference,) = both.differences
        assert (difference.difference, difference.error) == pytest.approx((0.101123596, 0.0315107441), rel=1e-8)
        assert limits(difference) == pytest.approx((0.0361863845, 0.166060806), rel=1e-8)
        assert [(m.value, m.error, m.df) for m in both.means] == [
            pytest.approx((0.812236657, 0.0269843367, 59.2814861), rel=1e-8),
            pytest.approx((0.711113062, 0.0339102093, 17.7892977), rel=1e-8),
        ]


def test_components_of_the_tomosynthesis_study(free_response):
    c = obuchowski_rockette(free_response).covariances
    assert (c.cov1, c.cov2, c.cov3, c.var) == pytest.approx(
        (2.99235062e-04, 5.71821103e-04, 2.75134195e-04, 1.10804338e-03), rel=1e-8
    )
    assert (c.var_reader, c.var_treatment_reader) == pytest.approx((8.13052479e-04, 4.86761530e-04), rel=1e-8)
    squares = dorfman_berbaum_metz(free_response).mean_squares
    assert squares == pytest.approx(
        {"T": 4.729516, "R": 0.494540, "C": 0.887093, "TR": 0.184793, "TC": 0.369178, "RC": 0.103660, "TRC": 0.094742},
        abs=5e-7,
    )


def test_pseudovalues_of_a_mean_are_the_values():
    values = np.array([1.0, 2.0, 6.0])
    figures = ReaderFigures("auc", np.array([[3.0]]), ((values.sum() - values) / 2)[None, None])
    np.testing.assert_allclose(pseudovalues(figures)[0, 0], values)
    # The jackknife variance of a mean is the sample variance over n.
    assert jackknife_covariance(figures.left_out[0])[0, 0] == pytest.approx(values.var(ddof=1) / 3)


def test_one_reader_has_the_fixed_reader_analysis_only(areas):
    one = ReaderFigures("auc", areas.values[:, :1], areas.left_out[:, :1])
    for result in (obuchowski_rockette(one), dorfman_berbaum_metz(one)):
        both, fixed, cases = result.analyses
        assert np.isnan(both.p)
        assert np.isnan(cases.p)
        assert fixed.differences[0].difference == pytest.approx(-0.02818, abs=5e-6)
        assert fixed.differences[0].error == pytest.approx(0.02551, abs=5e-6)  # OR-DBM MRMC, part (d)
    assert obuchowski_rockette(one).analyses[1].p == pytest.approx(0.2693, abs=5e-5)


def test_one_treatment_has_intervals_only(areas):
    one = ReaderFigures("auc", areas.values[:1], areas.left_out[:1])
    for result in (obuchowski_rockette(one), dorfman_berbaum_metz(one)):
        both, _, _ = result.analyses
        assert np.isnan(both.p)
        assert both.differences == ()
        assert limits(both.means[0]) == pytest.approx((0.82522360, 0.96885048), abs=5e-9)
