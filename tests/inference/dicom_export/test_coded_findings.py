"""Codes and identifiers."""

from dataclasses import replace

import pytest

from mammo_d2.inference.dicom_export.coded_findings import (
    cad_finding_code,
    class_code,
    corners,
    finding_code,
    percent_of,
)
from tests.inference.dicom_export.exams import FACTS


@pytest.mark.parametrize(
    ("label", "code", "cad_code"),
    [
        ("malignant", "Lesion", "Mammography breast density"),
        ("Mass_malignant", "Mass", "Mammography breast density"),
        ("Suspicious Calcification", "Calcification Cluster", "Calcification Cluster"),
        ("Architectural Distortion", "Architectural distortion of breast", "Architectural distortion of breast"),
    ],
)
def test_codes_of_classes(label, code, cad_code):
    assert (finding_code(label).meaning, cad_finding_code(label).meaning) == (code, cad_code)


def test_a_class_has_a_code_that_dicom_can_hold():
    code = class_code("Tumör, größer als 2 cm" + 60 * "x")
    assert len(code.value) <= 16
    assert len(code.meaning) == 64
    assert code.scheme_designator == "99MAMMOD2"


def test_corners_are_a_closed_line():
    assert corners([1, 2, 30, 40]) == [(1, 2), (30, 2), (30, 40), (1, 40), (1, 2)]


@pytest.mark.parametrize("score", [0.0, 1.0, 1 / 3, 0.9321738243, 1e-9])
def test_a_percentage_is_short_enough(score):
    assert len(str(percent_of(score))) <= 16
    assert percent_of(score) / 100 == pytest.approx(score, abs=1e-12)


def test_identifiers_follow_from_the_results():
    assert FACTS.uid("a", 1) == replace(FACTS).uid("a", 1)
    assert FACTS.uid("a", 1) != FACTS.uid("a", 2)
    assert FACTS.uid("a", 1) != replace(FACTS, digest="f" * 64).uid("a", 1)
    assert len(FACTS.uid("a")) <= 64
