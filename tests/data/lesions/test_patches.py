"""The stream of training patches and the test windows."""

import numpy as np
import pytest
import torch
from scipy import stats

from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.lesions.patch_store import PatchStore
from mammo_d2.data.lesions.patches import LesionTestMapper, PatchSampler, patch_sources, pathology_class
from mammo_d2.data.lesions.stage_loaders import (
    build_lesion_loader,
    build_patch_loader,
    lesion_mapper_from_config,
    sources_from_config,
)
from mammo_d2.data.lesions.windows import LesionRegion, WindowRule
from mammo_d2.framework import DatasetCatalog
from tests.data.lesion_dataset import LESIONS, lesion_config, lesion_records, write_lesion_dataset

CLASSES = ("benign", "malignant")


def test_lesions_and_images_go_to_their_classes():
    sources = patch_sources(lesion_records(), CLASSES, smallest=16)
    # Image 0: malignant and benign; image 1: unknown pathology; image 2: nothing; image 3: a label without box.
    assert [(s["record"]["image_id"], s["patch_class"], s["lesion"]) for s in sources.records] == [
        (1, 0, 0),
        (1, 1, 1),
        (1, 2, -1),
        (2, 2, -1),
        (3, 3, -1),
    ]
    assert sources.pools == ([0], [1], [2, 3], [4])


@pytest.mark.parametrize(
    ("labels", "negative"),
    [
        ({"benign": None, "malignant": None}, False),
        ({"benign": None, "malignant": 0}, False),
        ({"benign": 0, "malignant": 0}, True),
        ({"benign": 1, "malignant": 0}, False),
        ({}, True),
        (None, True),
    ],
)
def test_an_image_is_negative_unless_a_finding_is_known_or_possible(labels, negative):
    records = lesion_records()
    records[2]["labels"] = labels
    assert bool(patch_sources(records, CLASSES, smallest=16).pools[3]) == negative


def test_the_other_view_of_an_annotated_breast_is_no_negative(tmp_path):
    """Data without labels: what the breast has is known from the boxes."""
    root = write_lesion_dataset(tmp_path)
    builder = CocoBuilder()
    facts = {"patient_id": "p", "exam_id": "e", "view": "CC"}
    annotated = builder.add_image("train_0.png", 96, 80, laterality="L", **facts)
    builder.add_annotation(annotated, [10, 10, 12, 10], "benign", pathology="benign", lesion_id="l")
    builder.add_image("train_1.png", 96, 80, laterality="L", **facts)
    builder.add_image("train_2.png", 96, 80, laterality="R", **facts)
    builder.write(root / "lesions" / "annotations" / "views.json")
    cfg = lesion_config(root, tmp_path)
    for level, negatives in (("breast", ["train_2.png"]), ("image", ["train_1.png", "train_2.png"])):
        cfg.DATASETS.LABEL_LEVEL = level
        sources = sources_from_config(cfg, ["lesions_views"])
        names = [sources.records[row]["record"]["file_name"].split("/")[-1] for row in sources.pools[3]]
        assert names == negatives
    cfg.DATASETS.LABEL_LEVEL = "breasts"
    with pytest.raises(ValueError, match="LABEL_LEVEL is 'breasts'"):
        sources_from_config(cfg, ["lesions_views"])


def test_an_image_without_room_gives_no_outside_patch():
    sources = patch_sources(lesion_records(), CLASSES, smallest=70)
    assert [sources.records[row]["record"]["image_id"] for row in sources.pools[2]] == [2]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({"pathology": "MALIGNANT", "category_id": 0}, 0),
        ({"pathology": "BENIGN_WITHOUT_CALLBACK", "category_id": 1}, 1),
        ({"pathology": None, "category_id": 1}, 0),
        ({"pathology": "unknown", "category_id": 1}, None),
    ],
)
def test_pathology_wins_over_the_category(annotation, expected):
    assert pathology_class(annotation, CLASSES) == expected


def test_an_epoch_has_the_wanted_numbers_and_uses_every_source_equally():
    sampler = PatchSampler([[0, 1, 2], [3], [4, 5], [6]], [2, 3, 6, 4], seed=1)
    epochs = np.array([sampler.index_at(p) for p in range(45)]).reshape(3, 15)
    for epoch in epochs:
        assert [np.isin(epoch, pool).sum() for pool in ([0, 1, 2], [3], [4, 5], [6])] == [2, 3, 6, 4]
    assert np.bincount(epochs.ravel()).tolist() == [2, 2, 2, 9, 9, 9, 12]
    assert (epochs[0] != epochs[1]).any()
    # A function of the position: asked in any order.
    assert [sampler.index_at(p) for p in (40, 3, 20)] == [epochs[2, 10], epochs[0, 3], epochs[1, 5]]


def test_ranks_share_one_stream_and_a_resume_goes_on():
    def stream(**share):
        sampler = PatchSampler([[0, 1, 2], [3], [4, 5], [6]], [2, 3, 6, 4], seed=1, **share)
        return [index for index, _ in zip(sampler, range(10), strict=False)]

    whole = stream()
    assert [stream(rank=rank, world_size=2)[:5] for rank in (0, 1)] == [whole[0::2], whole[1::2]]
    assert stream(start=4)[:6] == whole[4:]


@pytest.mark.parametrize(("counts", "message"), [([0] * 4, "EPOCH is"), ([1, 0, 0], "EPOCH is"), ([1] * 4, "benign")])
def test_impossible_epochs_are_named(counts, message):
    with pytest.raises(ValueError, match=message):
        PatchSampler([[0], [], [1], [2]], counts, seed=0)


def test_patches_follow_from_seed_and_position(tmp_path):
    cfg = lesion_config(write_lesion_dataset(tmp_path), tmp_path)
    first = [sample for batch, _ in zip(build_patch_loader(cfg), range(4), strict=False) for sample in batch]
    again = next(iter(build_patch_loader(cfg, start_iter=2)))
    for sample, same in zip(first[8:12], again, strict=True):
        torch.testing.assert_close(sample["image"], same["image"], rtol=0, atol=0)
        assert torch.equal(sample["window"], same["window"])
    cfg.DATALOADER.NUM_WORKERS = 1
    assert torch.equal(next(iter(build_patch_loader(cfg)))[3]["image"], first[3]["image"])
    sample = first[0]
    assert sample["image"].shape == (1, 32, 32)
    assert sample["image"].dtype == torch.float32
    assert sample["image_size"].tolist() == [96, 80]


def test_training_patches_show_what_their_class_says(tmp_path):
    """Lesions are bright (malignant 60000, benign 30000 of 65535) on a dim breast."""
    cfg = lesion_config(write_lesion_dataset(tmp_path), tmp_path)
    seen = set()
    for batch, _ in zip(build_patch_loader(cfg), range(12), strict=False):
        for sample in batch:
            brightest = float(sample["image"].max())
            kind = sample["patch_class"]
            seen.add(kind)
            if kind == 0:
                assert brightest > 60
            elif kind == 1:
                assert 60 < brightest < 125
            else:
                assert brightest < 40
    assert seen == {0, 1, 2, 3}


def test_test_windows_overlap_their_lesion_and_repeat(tmp_path):
    cfg = lesion_config(write_lesion_dataset(tmp_path), tmp_path)
    records = DatasetCatalog.get("lesions_train")
    (sample,), (empty,) = list(build_lesion_loader(records, lesion_mapper_from_config(cfg)))[:3:2]
    assert sample["patches"].shape == (12, 1, 32, 32)
    assert sample["window_lesion"].tolist() == [0] * 6 + [1] * 6
    for (x0, y0, x1, y1), row in zip(sample["windows"].tolist(), sample["window_lesion"].tolist(), strict=True):
        bx, by, bw, bh = LESIONS[row][1]
        assert x0 < bx + bw
        assert x1 > bx
        assert y0 < by + bh
        assert y1 > by
        assert 16 <= x1 - x0 == y1 - y0 <= 40
    assert empty["patches"].shape == (0, 1, 32, 32)
    assert empty["num_lesions"] == 0
    mapper = lesion_mapper_from_config(cfg)
    assert torch.equal(mapper(records[0])["windows"], sample["windows"])


@pytest.mark.parametrize("box", [(0, 0, 2, 2), (300, 250, 700, 600), (899, 100, 900, 800)])
def test_sides_of_test_windows_are_uniform_whatever_the_lesion(tmp_path, box):
    """In a corner, larger than every window, a line at the border."""
    lesion, rule = LesionRegion(box), WindowRule((128, 384))
    mapper = LesionTestMapper(PatchStore(tmp_path), rule, 32, count=100)
    windows = [
        window
        for image_id in range(15)
        for window in mapper.windows({"image_id": image_id, "height": 1000, "width": 900}, 0, lesion)
    ]
    assert all(lesion.overlaps(window) for window in windows)
    assert all(x0 >= 0 and y0 >= 0 and x1 <= 900 and y1 <= 1000 for x0, y0, x1, y1 in windows)
    sides = np.array([x1 - x0 for x0, _, x1, _ in windows])
    counts, edges = np.histogram(sides, bins=[*range(128, 384, 16), 385])
    assert stats.chisquare(counts, len(windows) * np.diff(edges) / 257).pvalue > 1e-3


def test_a_class_without_source_names_the_remedy(tmp_path):
    root = write_lesion_dataset(tmp_path)
    builder = CocoBuilder()
    builder.add_image("train_0.png", 96, 80, patient_id="p", laterality="L", view="CC")
    builder.write(root / "lesions" / "annotations" / "empty.json")
    cfg = lesion_config(root, tmp_path)
    cfg.DATASETS.TRAIN = ("lesions_empty",)
    with pytest.raises(ValueError, match="2 malignant patches"):
        build_patch_loader(cfg)
