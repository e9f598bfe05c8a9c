"""Rows of a comparison from YAML."""

import pytest

from mammo_d2.experiments.comparison.method_rows import MethodRow, load_method_rows


def write(tmp_path, text):
    path = tmp_path / "rows.yaml"
    path.write_text(text)
    return str(path)


def test_rows(tmp_path):
    text = """
A + b: {config: a.yaml, opts: [SOLVER.MAX_ITER, 5], table: false}
"C": {config: c.yaml, opts: [MODEL.WEIGHTS, "{weights:A + b}"]}
"""
    rows = load_method_rows(write(tmp_path, text))
    assert rows == [
        MethodRow("A + b", "a.yaml", ["SOLVER.MAX_ITER", "5"], False),
        MethodRow("C", "c.yaml", ["MODEL.WEIGHTS", "{weights:A + b}"]),
    ]
    assert [row.folder for row in rows] == ["a___b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]", "expected a mapping"),
        ("a: [", "not plain YAML"),
        ("a: {config: x}\na: {config: y}", "the key 'a' is there twice"),
        ("a: {opts: []}", "row 'a' needs"),
        ("a: {config: x, option: []}", "row 'a' needs"),
        ("a: {config: x, opts: [SEED]}", "opts of row 'a' must be a list of KEY, VALUE pairs"),
        ("a: {config: x, table: 1}", "table of row 'a' must be true or false, not 1"),
        ("a b: {config: x}\na-b: {config: x}", "'a b' and 'a-b' would share the folder 'a_b'"),
        ('a: {config: x, opts: [K, "{weights:b}"]}', "row 'a' starts from .weights:b.; the rows are a"),
        ('a: {config: x, opts: [K, "{weights:a}"]}', "in a circle: a"),
    ],
)
def test_errors(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_method_rows(write(tmp_path, text))


def test_the_packages_rows():
    assert len(load_method_rows("mammo_d2://quickstart/compare_phantom.yaml")) == 7
