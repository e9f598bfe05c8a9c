"""The context stage: the network that gives the saliency must be there, and fit."""

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.jobs.lesion.context_saliency import context_config, needs_saliency
from mammo_d2.jobs.lesion.lesion_stages import CONTEXT_MODEL, PATCH_MODEL
from tests.jobs.lesion.lesion_jobs import places, run, write_job


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path)


@pytest.mark.parametrize(
    ("model", "maps", "needed"),
    [(CONTEXT_MODEL, "saliency", True), (CONTEXT_MODEL, "indicator", False), (PATCH_MODEL, "saliency", False)],
)
def test_which_stage_sees_saliency(folder, model, maps, needed):
    cfg = load_config(str(folder / "job.yaml"), ["MODEL.META_ARCHITECTURE", model, "MODEL.LESION.MAPS", f"['{maps}']"])
    assert needs_saliency(cfg) == needed


def test_the_context_network_has_the_weights_and_the_device_of_the_job(folder):
    context = context_config(load_config(str(folder / "job.yaml"), places(folder)))
    assert (context.MODEL.META_ARCHITECTURE, context.MODEL.DEVICE) == ("GMIC", "cpu")
    assert context.MODEL.WEIGHTS == str(folder / "context.pth")


def test_bad_input_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"CONTEXT_WEIGHTS.*train a GMIC first"):
        run(folder, "MODEL.LESION.CONTEXT_WEIGHTS", "absent.pth")
    with pytest.raises(ValueError, match=r"SALIENCY_MAPS is 3.*2 class"):
        run(folder, "MODEL.LESION.SALIENCY_MAPS", "3")
