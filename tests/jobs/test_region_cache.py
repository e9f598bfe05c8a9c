"""Codes kept on disk are used for the same image, network and settings alone: from the file to the model."""

import hashlib

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.framework import build_model, get_cfg

SIZE = (448, 336)


def write_breast(path, seed=0):
    """A bright half disc with texture, 16 bit; returns the record of a prepared image."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    breast = ((y - 224) / 210) ** 2 + (x / 300) ** 2 < 1
    noise = np.random.default_rng(seed).integers(20000, 40000, SIZE)
    cv2.imwrite(str(path), np.where(breast, noise, 0).astype(np.uint16))
    source = {"prepared_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    record = {"file_name": str(path), "image_id": 1, "height": SIZE[0], "width": SIZE[1], "annotations": []}
    return {**record, "labels": {"benign": 0, "malignant": 1}, "laterality": "L", "view": "CC", "source": source}


@pytest.fixture
def run(tmp_path):
    """``run(record, KEY, VALUE, ..., change=f)``: the image scores, and how many entries the cache then has.

    The model is built from a fixed seed; ``change`` may alter it.
    """

    def run(record, *overrides, change=None, seed=0, cache=True):
        cfg = get_cfg()
        add_mammo_config(cfg)
        cfg.MODEL.META_ARCHITECTURE = "WeaklySupervisedRCNN"
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [60.0] * 3, [50.0] * 3
        cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_vgg_m_backbone", 0
        cfg.MODEL.VGG_M.CHANNELS, cfg.MODEL.VGG_M.FC_DIMS = [4, 4, 6, 6, 8], [32, 24]
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "SlidingWindowRegions"
        cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "DualBranchROIHeads", 2
        cfg.MODEL.DUAL_BRANCH.REGION_ENCODER = "VGGMRegionEncoder"
        cfg.MODEL.DUAL_BRANCH.FROZEN = True
        cfg.MODEL.DUAL_BRANCH.CACHE_DIR = str(tmp_path / "cache") if cache else ""
        cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
        cfg.INPUT.SIZE, cfg.INPUT.TISSUE_CELL = list(SIZE), 16
        cfg.merge_from_list(list(overrides))
        torch.manual_seed(0)
        model = build_model(cfg).eval()
        if change is not None:
            with torch.no_grad():
                change(model)
        sample = MammoMapper(cfg, is_train=True)(record, np.random.default_rng(seed))
        with torch.no_grad():
            scores = model([sample])[0]["image_scores"]
        return scores, len(list((tmp_path / "cache").rglob("*.pt")))

    return run


@pytest.fixture
def record(tmp_path):
    return write_breast(tmp_path / "image.png")


def test_the_same_again_is_one_entry_and_equals_no_cache(run, record):
    expected, none = run(record, cache=False)
    assert none == 0
    first, one = run(record)
    again, still_one = run(record)
    assert (one, still_one) == (1, 1)
    assert first == expected == again


def test_what_comes_after_the_codes_may_change(run, record):
    run(record)
    _, entries = run(
        record, "MODEL.DUAL_BRANCH.VARIANT", "max_region", "MODEL.DUAL_BRANCH.NUM_SELECTED", 3, "SOLVER.BASE_LR", 0.1,
        "MODEL.DUAL_BRANCH.FC_DIM", 16,
    )  # fmt: skip
    assert entries == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ("INPUT.SIZE", [432, 336]),
        ("INPUT.INTENSITY", "percentile"),
        ("INPUT.AUG.FLIP_VERTICAL", 1.0),
        ("INPUT.AUG.ROTATION", 10.0),
        ("INPUT.AUG.GAMMA", 0.3),
        ("MODEL.PIXEL_MEAN", [60.0, 60.0, 61.0]),
        ("MODEL.PIXEL_STD", [50.0, 50.0, 51.0]),
        ("MODEL.SLIDING_WINDOW.SIZE", 208),
        ("MODEL.SLIDING_WINDOW.STRIDE", 96),
        ("MODEL.SLIDING_WINDOW.MIN_BREAST", 0.95),
        ("MODEL.VGG_M.CHANNELS", [4, 4, 6, 8, 8]),
        ("MODEL.VGG_M.FC_DIMS", [32, 25]),
    ],
)
def test_another_setting_is_another_entry(run, record, overrides):
    before, _ = run(record)
    _, entries = run(record, *overrides)
    assert entries == 2
    assert run(record) == (before, 2)


def test_settings_of_the_intensity_count_where_they_are_used(run, record):
    run(record, "INPUT.INTENSITY", "percentile", "INPUT.INTENSITY_PERCENTILES", [1.0, 99.0])
    _, entries = run(record, "INPUT.INTENSITY", "percentile", "INPUT.INTENSITY_PERCENTILES", [1.0, 98.0])
    assert entries == 2


def test_every_augmented_version_is_its_own(run, record):
    shift = ("INPUT.AUG.SHIFT", 0.1)
    (first, _), (second, entries) = run(record, *shift, seed=1), run(record, *shift, seed=2)
    assert entries == 2
    assert first != second
    assert run(record, *shift, seed=1) == (first, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.backbone.conv1.weight[0].mul_(1.0001),
        lambda model: model.backbone.conv5.bias.add_(1e-4),
        lambda model: model.roi_heads.encoder.fc6.weight[0].mul_(1.0001),
        lambda model: model.roi_heads.encoder.fc7.bias.add_(1e-4),
    ],
)
def test_other_weights_are_another_entry(run, record, change):
    run(record)
    assert run(record, change=change)[1] == 2


def test_a_file_prepared_anew_is_another_entry(run, record, tmp_path):
    """The same name, id and size with other content: its prepared_sha256 differs, and so does the key."""
    before, _ = run(record)
    anew = write_breast(tmp_path / "image.png", seed=1)
    assert anew["source"] != record["source"]
    after, entries = run(anew)
    assert entries == 2
    assert after != before
    moved = {**write_breast(tmp_path / "moved.png"), "image_id": 7}
    assert run(moved) == (before, 2)  # the old content under another name is the old entry


def test_other_regions_of_the_same_pixels_are_another_entry(run, record):
    """As where the muscle is found elsewhere: the first two windows are left out."""
    run(record)

    def without_the_first_two(model):
        windows = model.proposal_generator.windows
        model.proposal_generator.windows = lambda size, tissue: windows(size, tissue)[2:]

    assert run(record, change=without_the_first_two)[1] == 2


def test_precision_counts(run, record):
    run(record)
    with torch.autocast("cpu", torch.bfloat16):
        assert run(record)[1] == 2
    with torch.autocast("cpu", torch.float16):
        assert run(record)[1] == 3
