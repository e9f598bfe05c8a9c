"""Truth tables with columns of their own, as a hospital has them."""

import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.truth_columns import TruthColumns
from mammo_d2.data.converters.truth_files import Truth

OF_A_HOSPITAL = [
    ["Datei", "Befund", "x", "y", "width", "height", "Bemerkung"],
    ["a.png", "malignant", 1.5, 2, 3, 4, "groß"],
]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_tables_of_a_hospital(tmp_path, kind):
    path = tmp_path / f"truth.{kind}"
    if kind == "csv":
        lines = [";".join(str(cell).replace(".5", ",5") for cell in row) for row in OF_A_HOSPITAL]
        path.write_bytes("\n".join(lines).encode("utf-16"))
    else:
        book = pytest.importorskip("openpyxl").Workbook()
        for row in OF_A_HOSPITAL:
            book.active.append(row)
        book.save(path)
    columns = TruthColumns(["Datei=file", "Befund=category"], ["Bemerkung"])
    truth = Truth(path, columns=columns)
    (lesion,) = truth.find("a.png")["annotations"]
    assert (lesion.category, lesion.bbox) == ("malignant", (1.5, 2.0, 3.0, 4.0))
    assert truth.understood == (
        f"truth truth.{kind}: 1 rows; columns file from Datei, category from Befund, x, y, width, height; "
        "ignored: Bemerkung"
    )
    with pytest.raises(
        ConverterError, match=r"unknown column 'Bemerkung'.* --columns Bemerkung=FIELD, --ignore-columns"
    ):
        Truth(path, columns=TruthColumns(["Datei=file", "Befund=category"]))
    with pytest.raises(ConverterError, match=r"--ignore-columns Notiz: .* has no such column; it has Datei, Befund"):
        Truth(path, columns=TruthColumns(["Datei=file"], ["Notiz"]))
    with pytest.raises(ConverterError, match="--columns Datei=name: 'name' must be one of file, category, x"):
        Truth(path, columns=TruthColumns(["Datei=name"]))
    with pytest.raises(ConverterError, match="--columns Akte=file: no table has a column 'Akte'; there are Datei"):
        Truth(path, columns=TruthColumns(["Akte=file"]))


def test_columns_are_of_tables(tmp_path):
    with pytest.raises(ConverterError, match="no truth: --columns and --ignore-columns are for a truth table"):
        Truth(None, columns=TruthColumns(["Datei=file"]))
    (tmp_path / "truth.csv").write_text("file,Datei\na,a\n")
    with pytest.raises(ConverterError, match="line 1: column 'file' is there twice"):
        Truth(tmp_path / "truth.csv", columns=TruthColumns(["Datei=file"]))
