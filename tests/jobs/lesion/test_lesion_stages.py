"""Where the stages of the lesion classifier's job lie, with which settings, and what they leave."""

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.jobs.lesion.lesion_stages import (
    CONTEXT_MODEL,
    PATCH_MODEL,
    stage_config,
    without_aggregation,
)
from tests.jobs.lesion.lesion_jobs import places, run, write_job


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path)


def job_config(folder, *overrides):
    return load_config(str(folder / "job.yaml"), [*places(folder), "OUTPUT_DIR", str(folder / "out"), *overrides])


def test_a_stage_has_its_own_settings_and_folder(folder):
    cfg = job_config(folder)
    patch = stage_config(cfg, PATCH_MODEL)
    assert (patch.MODEL.META_ARCHITECTURE, patch.SOLVER.IMS_PER_BATCH) == (PATCH_MODEL, 4)
    assert patch.OUTPUT_DIR == str(folder / "out" / "patch")
    with pytest.raises(
        FileNotFoundError,
        match=r"patch/model_final\.pth: no such file; the training has not finished, mammo-d2 train",
    ):
        stage_config(cfg, CONTEXT_MODEL)
    for name in ("model_final.pth", "model_best.pth"):
        (folder / "out" / "patch" / name).touch()
    for maps, weights in (("['indicator', 'embedding']", "model_best.pth"), ("['indicator']", "")):
        context = stage_config(job_config(folder, "MODEL.LESION.MAPS", maps), CONTEXT_MODEL)
        assert (context.MODEL.META_ARCHITECTURE, context.SOLVER.IMS_PER_BATCH) == (CONTEXT_MODEL, 8)
        # f_loc's weights are where f_agg starts from if it has that part.
        assert context.MODEL.WEIGHTS == (str(folder / "out" / "patch" / weights) if weights else "")
    assert context.OUTPUT_DIR == str(folder / "out" / "context_indicator")
    # The store and the cache are those of the job.
    assert context.MODEL.LESION.CACHE == patch.MODEL.LESION.CACHE == str(folder / "out" / "cache")


def test_combinations_of_maps_are_alike_but_for_the_aggregation(folder):
    one, other, third = (job_config(folder, "MODEL.LESION." + key, value) for key, value in (
        ("MAPS", "['indicator']"), ("CHANNELS", "5"), ("WINDOWS", "7"),
    ))  # fmt: skip
    assert without_aggregation(one) == without_aggregation(other) != without_aggregation(third)


def test_bad_input_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"model_final.pth.*mammo-d2 train --resume"):
        run(folder, eval_only=True)
    with pytest.raises(ValueError, match="needs benign and malignant"):
        run(folder, "DATASETS.CATEGORIES", "['malignant']", "MODEL.LESION.MAPS", "['embedding']")
