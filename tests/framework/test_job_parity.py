"""The job half of both engines gives the committed numbers of the real detectron2."""

import pytest

from tests.framework import engines, job_cases

ALL = [(group, case) for group, (_, names) in job_cases.CASES.items() for case in names]


@pytest.mark.parametrize(("group", "case"), ALL)
def test_embedded_gives_the_committed_numbers(group: str, case: str) -> None:
    result = job_cases.compute(engines.load(engines.EMBEDDED), group, case)
    assert approximately(result, job_cases.golden()[group][case])


@pytest.mark.detectron2
@pytest.mark.parametrize(("group", "case"), ALL)
def test_detectron2_gives_the_committed_numbers(group: str, case: str) -> None:
    result = job_cases.compute(engines.load(engines.DETECTRON2), group, case)
    assert approximately(result, job_cases.golden()[group][case])


def approximately(actual: object, expected: object) -> bool:
    """Same structure, floats to 1e-6 relative or 1e-9 absolute."""
    if isinstance(expected, dict):
        assert isinstance(actual, dict)
        assert actual.keys() == expected.keys()
        return all(approximately(actual[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        assert isinstance(actual, list)
        assert len(actual) == len(expected)
        return all(approximately(a, e) for a, e in zip(actual, expected, strict=True))
    if isinstance(expected, float):
        return actual == pytest.approx(expected, rel=1e-6, abs=1e-9)
    return actual == expected
