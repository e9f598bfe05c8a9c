"""The fixture of the lesion classifier's tests, for the tests here."""

from tests.jobs.conftest import register_tiny_network  # noqa: F401
