"""One browser for all tests of a session."""

import pytest

from tests.report.viewer.browser import Browser


@pytest.fixture(scope="session")
def browser():
    opened = Browser()
    yield opened
    opened.close()
