"""Output of reader studies: the published numbers stand in the tables."""

import json

from mammo_d2.evaluation.metrics.readers.multi_reader import obuchowski_rockette
from mammo_d2.evaluation.metrics.readers.reader_figures import reader_figures
from mammo_d2.evaluation.metrics.readers.standalone import standalone_against_readers
from mammo_d2.evaluation.statistics.reader_report import reader_text, write_readers
from tests.evaluation.metrics.readers.published_studies import standalone, van_dyke


def test_van_dyke(tmp_path):
    marks = van_dyke()
    result = obuchowski_rockette(reader_figures(marks, "auc"))
    text = reader_text(marks, result, None, "")
    for part in (
        "2 treatment(s), 5 reader(s), 114 cases: 69 normal, 45 abnormal",
        "F(1, 15.26) = 4.456",
        "-0.0438 (-0.0880, 0.0004)",
        "0.052",
        "0.8970 (0.8252, 0.9689)",
        "F(1, inf) = 5.476",
    ):
        assert part in text
    names = {path.name for path in write_readers(marks, result, None, tmp_path, ["png"])}
    assert names == {
        "readers.json", "reader_figures.md", "reader_figures.tex", "reader_tests.md", "reader_tests.tex", "readers.png",
    }  # fmt: skip
    content = json.loads((tmp_path / "readers.json").read_text())
    assert round(content["analyses"][0]["p"], 4) == 0.0517
    assert content["analyses"][1]["ddf"] is None  # infinite
    assert round(content["covariances"]["cov1"], 8) == 0.00034661


def test_standalone(tmp_path):
    marks = standalone()
    figures = reader_figures(marks, "wafroc")
    result, against = obuchowski_rockette(figures), standalone_against_readers(figures, 0)
    text = reader_text(marks, result, against, "r0")
    assert "0.1638 (0.0704, 0.2573)" in text
    assert "t(1429.87) = 3.439" in text
    assert "system: r0, 0.6281; readers' mean 0.7920" in text
    names = {path.name for path in write_readers(marks, result, against, tmp_path, ["png"])}
    assert "standalone.md" in names
    assert "readers.png" not in names  # one treatment: nothing to draw
