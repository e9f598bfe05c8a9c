"""Figures of merit: by hand, against plain loops, against RJafroc's numbers, and with each case left out."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.readers.reader_figures import (
    READER_FIGURES,
    ReaderMarks,
    equal_weights,
    reader_figures,
    roc_marks,
)
from tests.evaluation.metrics.readers.published_studies import names, tomosynthesis, van_dyke

NONE = -np.inf


def marks_of(false, hits, lesion_case, weights=None):
    lesion_case = np.array(lesion_case)
    weights = equal_weights(lesion_case) if weights is None else np.array(weights)
    false, hits = np.array(false, float)[None, None], np.array(hits, float)[None, None]
    return ReaderMarks(("t",), ("r",), names("c", false.shape[2]), false, hits, lesion_case, weights)


def by_loops(marks, figure, skip=None):
    """One reader, straight from the definition."""
    false, hits = marks.false[0, 0], marks.hits[0, 0]
    cases = [k for k in range(len(false)) if k != skip]
    ill = [k for k in cases if marks.abnormal[k]]
    if figure == "auc":
        lesions = [(k, max([false[k], *hits[marks.lesion_case == k]]), 1.0) for k in ill]
    else:
        lesions = [
            (k, hits[n], marks.weights[n] if figure[0] == "w" else 1.0)
            for n, k in enumerate(marks.lesion_case)
            if k != skip
        ]
    counted = cases if figure.endswith("1") else [k for k in cases if k not in ill]
    total = sum(w * ((y > false[i]) + (y == false[i]) / 2) for i in counted for _, y, w in lesions)
    return total / (len(counted) * sum(w for _, _, w in lesions))


def test_by_hand():
    # Two normal cases (highest false marks 2 and none), case 2 with lesions rated 3 and not marked, case 3 with one
    # rated 2 and a false mark of 4.
    marks = marks_of([2, NONE, NONE, 4], [3, NONE, 2], [2, 2, 3])
    found = {figure: float(reader_figures(marks, figure).values[0, 0]) for figure in READER_FIGURES}
    # psi against (2, none): 3 -> 1, 1; not marked -> 0, 1/2; 2 -> 1/2, 1
    assert found["afroc"] == pytest.approx((2 + 0.5 + 1.5) / 6)
    assert found["wafroc"] == pytest.approx(((2 + 0.5) / 2 + 1.5) / 4)
    # highest ratings 3 and 4 beat both
    assert found["auc"] == 1
    # against (2, none, none, 4): 3 -> 1, 1, 1, 0; not marked -> 0, 1/2, 1/2, 0; 2 -> 1/2, 1, 1, 0
    assert found["afroc1"] == pytest.approx((3 + 1 + 2.5) / 12)
    assert found["wafroc1"] == pytest.approx(((3 + 1) / 2 + 2.5) / 8)


@pytest.mark.parametrize("figure", READER_FIGURES)
def test_against_loops_with_every_case_left_out(figure):
    rng = np.random.default_rng(3)
    lesion_case = np.array([5, 5, 6, 7, 7, 7, 9])
    false = np.where(rng.random(10) < 0.4, NONE, rng.integers(1, 6, 10))
    hits = np.where(rng.random(7) < 0.2, NONE, rng.integers(2, 7, 7))
    marks = marks_of(false, hits, lesion_case, [0.25, 0.75, 1, 0.5, 0.25, 0.25, 1])
    found = reader_figures(marks, figure)
    assert found.values[0, 0] == pytest.approx(by_loops(marks, figure), abs=1e-14)
    expected = [by_loops(marks, figure, skip=k) for k in range(10)]
    np.testing.assert_allclose(found.left_out[0, 0], expected, atol=1e-14)


def test_van_dyke():
    """As OR-DBM MRMC 2.51 prints them."""
    np.testing.assert_allclose(
        reader_figures(van_dyke(), "auc").values,
        [
            [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
            [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
        ],
        atol=5e-9,
    )


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (
            "wafroc",
            [
                [0.76027037, 0.84061915, 0.81715239, 0.81530899, 0.8278324],
                [0.64258544, 0.70499766, 0.7518434, 0.77244265, 0.68369616],
            ],
        ),
        (
            "afroc1",
            [
                [0.80733997, 0.86722617, 0.87123755, 0.84421053, 0.85658606],
                [0.72514936, 0.7771266, 0.8086771, 0.79385491, 0.74739687],
            ],
        ),
        (
            "wafroc1",
            [
                [0.80798664, 0.86966292, 0.87477984, 0.85176131, 0.8563468],
                [0.72771029, 0.77815062, 0.82256301, 0.79684179, 0.74969633],
            ],
        ),
    ],
)
def test_tomosynthesis(figure, expected):
    """As RJafroc's tests hold them for dataset01."""
    np.testing.assert_allclose(reader_figures(tomosynthesis(), figure).values, expected, atol=5e-9)


def test_roc_ratings_give_the_area():
    marks = roc_marks(("t",), ("r",), names("c", 4), np.array([0, 1, 0, 1]), np.array([[[1.0, 2, 2, 3]]]))
    assert reader_figures(marks, "auc").values[0, 0] == (1 + 0.5 + 1 + 1) / 4


def test_errors():
    with pytest.raises(ValueError, match="figure of merit 'jafroc' is none of auc, afroc"):
        reader_figures(van_dyke(), "jafroc")
    with pytest.raises(ValueError, match="with and without a lesion"):
        marks_of([1, 2], [1, 2], [0, 1])
    with pytest.raises(ValueError, match="weights of a case's lesions must sum to 1"):
        marks_of([1, 2], [1, 2], [0, 0], [0.5, 0.6])
    with pytest.raises(ValueError, match="NaN"):
        marks_of([1, np.nan], [1], [0])
    with pytest.raises(ValueError, match="do not fit"):
        ReaderMarks(("a",), ("r",), ("c",), np.zeros((1, 1, 2)), np.zeros((1, 1, 1)), np.zeros(1, int), np.ones(1))
