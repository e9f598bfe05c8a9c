"""Decisions about patients from box scores."""

import pytest

from mammo_d2.evaluation.evaluators.patient_evaluator import PatientEvaluator
from tests.evaluation.evaluators.toy import TOY


def test_positive_classes_are_checked():
    with pytest.raises(ValueError, match="'cancer' is not evaluated; the classes are malignant"):
        PatientEvaluator(TOY, positive_classes=["cancer"])
