"""The context stage: the network that gives the saliency must be there, and fit."""

import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.jobs.lesion.context_saliency import context_config, make_saliency, needs_saliency, saliency_store
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


def test_saliency_enters_as_the_network_gives_it(folder):
    """The context network's maps have as many cells as MAP_SIZE: nothing is averaged."""
    size = ["MODEL.LESION.MAP_SIZE", "[2, 2]"]
    cfg = load_config(str(folder / "job.yaml"), [*places(folder), "OUTPUT_DIR", str(folder / "out"), *size])
    register_datasets(cfg)
    record = load_records(cfg, ["lesions_train"])[0]

    def stored(placement):
        cfg.MODEL.LESION.SALIENCY_PLACEMENT = placement
        make_saliency(cfg, [record])
        return saliency_store(cfg).get(record)

    cfg.defrost()
    published, placed = stored("published"), stored("receptive_field")
    context = context_config(cfg)
    model = build_model(context).eval()
    SafeCheckpointer(model).load(context.MODEL.WEIGHTS)
    image = MammoMapper(context, is_train=False)({**record, "annotations": []})["image"]
    with torch.inference_mode():
        own = model.predict((image[None] - model.pixel_mean) / model.pixel_std).saliency[0]
    torch.testing.assert_close(published, own)
    assert not torch.allclose(placed, own)
    assert len(list((folder / "out/cache/saliency").iterdir())) == 2


def test_bad_input_is_named(folder):
    with pytest.raises(ValueError, match=r"SALIENCY_PLACEMENT is 'raw'; use one of published, receptive_field"):
        run(folder, "MODEL.LESION.SALIENCY_PLACEMENT", "raw")
    with pytest.raises(FileNotFoundError, match=r"CONTEXT_WEIGHTS.*or name model_final\.pth of another GMIC"):
        run(folder, "MODEL.LESION.CONTEXT_WEIGHTS", "absent.pth")
    with pytest.raises(FileNotFoundError, match=r"--config-file mammo_d2://quickstart/phantom_gmic\.yaml makes it"):
        run(folder, "MODEL.LESION.CONTEXT_WEIGHTS", "output/phantom_gmic/model_final.pth")
    with pytest.raises(ValueError, match=r"SALIENCY_MAPS is 3.*2 class"):
        run(folder, "MODEL.LESION.SALIENCY_MAPS", "3")
