"""Shared test settings: one thread, marker handling, the folder of real sample mammograms."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    has_detectron2 = importlib.util.find_spec("detectron2") is not None
    skips = {
        "detectron2": (has_detectron2, "detectron2 is not installed"),
        "gpu": (torch.cuda.is_available(), "no CUDA device"),
        "shared_data": (shared_data_root().is_dir(), "the real sample mammograms are not here (MAMMO_D2_SHARED)"),
    }
    for item in items:
        for marker, (available, reason) in skips.items():
            if item.get_closest_marker(marker) and not available:
                item.add_marker(pytest.mark.skip(reason=reason))


def shared_data_root() -> Path:
    return Path(os.environ.get("MAMMO_D2_SHARED", ROOT.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real sample mammograms; use together with the marker ``shared_data``."""
    return shared_data_root()
