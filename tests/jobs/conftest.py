"""Fixtures of the lesion classifier's jobs."""

import pytest

from mammo_d2.modeling.backbone import patch_networks
from tests.jobs.lesion.lesion_jobs import tiny_network


@pytest.fixture(autouse=True)
def register_tiny_network(monkeypatch):
    """A patch network "tiny" for MODEL.LESION.NETWORK."""
    monkeypatch.setitem(patch_networks.PATCH_NETWORKS, "tiny", tiny_network)
