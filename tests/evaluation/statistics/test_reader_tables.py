"""Reader studies from CSV: the ROC and the free-response form, and errors that name the line."""

import numpy as np
import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.readers.multi_reader import obuchowski_rockette
from mammo_d2.evaluation.metrics.readers.reader_figures import reader_figures
from mammo_d2.evaluation.statistics.reader_tables import read_reader_study
from tests.evaluation.metrics.readers.published_studies import tomosynthesis, van_dyke


def write_ratings(marks, path):
    rows = ["treatment,reader,case,truth,rating"]
    ratings = marks.false.copy()
    ratings[..., marks.lesion_case] = marks.hits
    for t, treatment in enumerate(marks.treatments):
        for r, reader in enumerate(marks.readers):
            for k, case in enumerate(marks.cases):
                rows.append(f"{treatment},{reader},{case},{int(marks.abnormal[k])},{ratings[t, r, k]:g}")
    path.write_text("\n".join(rows))
    return path


def write_marks(marks, path, cases):
    counts = np.bincount(marks.lesion_case, minlength=len(marks.cases))
    cases.write_text("case,lesions\n" + "\n".join(f"{c},{n}" for c, n in zip(marks.cases, counts, strict=True)))
    first = np.cumsum([0, *counts])
    rows = ["treatment,reader,case,lesion,rating"]
    for t, treatment in enumerate(marks.treatments):
        for r, reader in enumerate(marks.readers):
            for k, case in enumerate(marks.cases):
                if np.isfinite(marks.false[t, r, k]):
                    # A lower false mark beside the highest one changes nothing.
                    rows += [
                        f"{treatment},{reader},{case},0,{marks.false[t, r, k]:g}",
                        f"{treatment},{reader},{case},,-9",
                    ]
            for n, k in enumerate(marks.lesion_case):
                if np.isfinite(marks.hits[t, r, n]):
                    rows.append(f"{treatment},{reader},{marks.cases[k]},{n - first[k] + 1},{marks.hits[t, r, n]:g}")
    path.write_text("\n".join(rows))
    return path


def test_ratings(tmp_path):
    marks = read_reader_study(write_ratings(van_dyke(), tmp_path / "r.csv"))
    assert marks.treatments == ("t0", "t1")
    both = obuchowski_rockette(reader_figures(marks, "auc")).analyses[0]
    assert round(both.p, 4) == 0.0517


def test_marks(tmp_path):
    study = tomosynthesis()
    marks = read_reader_study(write_marks(study, tmp_path / "m.csv", tmp_path / "c.csv"), tmp_path / "c.csv")
    for figure in ("wafroc", "auc", "afroc1"):
        np.testing.assert_array_equal(reader_figures(marks, figure).values, reader_figures(study, figure).values)


def test_without_treatment(tmp_path):
    rows = [f"{r},{k},{int(k < 2)},{k + r}" for r in range(2) for k in range(4)]
    (tmp_path / "r.csv").write_text("reader,case,truth,rating\n" + "\n".join(rows))
    assert read_reader_study(tmp_path / "r.csv").treatments == ("",)


ROWS = ["a,1,1,5", "a,2,1,4", "a,3,0,2", "a,4,0,1"]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("reader,case,rating", ["a,1,5"], "line 1: no column 'truth'"),
        ("reader,case,truth,rating", [*ROWS, "a,1,1,3"], "line 6: reader 'a', case '1' is there twice"),
        ("reader,case,truth,rating", [*ROWS, "b,1,0,3"], "line 6: case '1' has truth 0, but 1 on line 2"),
        ("reader,case,truth,rating", [*ROWS, "b,1,1,3"], "no rating of reader 'b', case '2'"),
        ("reader,case,truth,rating", [*ROWS[:3], "a,4,0,high"], "line 5: rating 'high' must be a finite number"),
        ("reader,case,truth,rating", [*ROWS[:3], "a,4,maybe,1"], "line 5: truth 'maybe' must be 1"),
        ("reader,case,truth,rating", ROWS[1:], r"1 case\(s\) with and 2 without a lesion"),
    ],
)
def test_errors_of_ratings(tmp_path, header, rows, message):
    (tmp_path / "r.csv").write_text("\n".join([header, *rows]))
    with pytest.raises(ResultsError, match=message):
        read_reader_study(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("cases", "row", "message"),
    [
        ("1,1\n2,2\n3,0\n4,0", "a,9,1,5", "line 2: case '9' is not in the table of cases"),
        ("1,1\n2,2\n3,0\n4,0", "a,1,2,5", "line 2: lesion '2' of case '1', which has 1"),
        ("1,1\n2,2\n3,0\n3,0", "a,1,1,5", "line 5: case '3' is there twice"),
        ("1,1\n2,two\n3,0\n4,0", "a,1,1,5", "line 3: lesions 'two' must be a whole number"),
        ("1,1\n2,2\n3,0", "a,1,1,5", r"2 case\(s\) with and 1 without"),
    ],
)
def test_errors_of_marks(tmp_path, cases, row, message):
    (tmp_path / "c.csv").write_text(f"case,lesions\n{cases}")
    (tmp_path / "m.csv").write_text(f"reader,case,lesion,rating\n{row}")
    with pytest.raises(ResultsError, match=message):
        read_reader_study(tmp_path / "m.csv", tmp_path / "c.csv")
