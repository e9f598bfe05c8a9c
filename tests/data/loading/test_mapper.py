"""Record -> model input: pixels, boxes, the way back, cache and bad files."""

import copy

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.data.breast.tissue_map import tissue_map
from mammo_d2.data.loading import mapper as mapper_module
from mammo_d2.data.loading.augmentation import Augmentation
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.framework import Boxes, BoxMode, Instances, detector_postprocess
from tests.data.dicom_files import write_dicom
from tests.data.toy_dataset import toy_config


def record_of(tmp_path, pixels, boxes=(), name="image.png", **extra):
    """Write an image and return its record; boxes are XYWH of class 0, 1, ..."""
    path = tmp_path / name
    assert cv2.imwrite(str(path), pixels)
    annotations = [
        {"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": index, "iscrowd": 0}
        for index, box in enumerate(boxes)
    ]
    height, width = pixels.shape
    return {
        "file_name": str(path), "height": height, "width": width, "image_id": 7, "annotations": annotations, **extra
    }  # fmt: skip


def random_image(height, width, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width), endpoint=True, dtype=dtype)


def test_sixteen_bits_are_kept(tmp_path):
    pixels = np.array([[0, 40000], [40001, 65535]], dtype=np.uint16)
    image = MammoMapper(size=(2, 2))(record_of(tmp_path, pixels))["image"]
    assert image.dtype == torch.float32
    assert image.shape == (1, 2, 2)
    assert image[0, 0, 1] != image[0, 1, 0]
    np.testing.assert_array_equal(np.rint(image[0].double().numpy() * 65535 / 255), pixels)
    assert (image[0, 0, 0], image[0, 1, 1]) == (0.0, 255.0)


def test_twelve_bits_of_a_dicom_are_kept_and_monochrome1_is_inverted(tmp_path):
    pixels = np.array([[0, 2000], [2001, 4095]], dtype=np.uint16)
    path = write_dicom(tmp_path / "image.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    record = {"file_name": str(path), "height": 2, "width": 2, "image_id": 7, "annotations": []}
    image = MammoMapper(size=(2, 2))(record)["image"]
    np.testing.assert_allclose(image[0].numpy(), (4095.0 - pixels) / 4095.0 * 255.0, rtol=1e-6)
    assert image[0, 0, 1] != image[0, 1, 0]


def test_eight_bit_images_keep_their_values(tmp_path):
    pixels = random_image(6, 5, np.uint8)
    image = MammoMapper(size=(6, 5))(record_of(tmp_path, pixels))["image"]
    np.testing.assert_array_equal(image[0].numpy(), pixels)


def test_keys_of_the_model_input(tmp_path):
    record = record_of(tmp_path, random_image(40, 30), [(3, 4, 6, 8)], patient_id="p", labels={"malignant": 1})
    before = copy.deepcopy(record)
    sample = MammoMapper(size=(20, 15), with_instances=True)(record)
    assert record == before
    assert (sample["height"], sample["width"], sample["image_id"]) == (40, 30, 7)
    assert (sample["patient_id"], sample["labels"]) == ("p", {"malignant": 1})
    assert sample["file_name"] == record["file_name"]
    assert "annotations" not in sample
    instances = sample["instances"]
    assert instances.image_size == (20, 15)
    assert instances.gt_boxes.tensor.tolist() == [[1.5, 2.0, 4.5, 6.0]]
    assert instances.gt_classes.tolist() == [0]
    assert instances.gt_classes.dtype == torch.int64
    assert "instances" not in MammoMapper(size=(20, 15))(record)


def test_stretching_scales_each_axis_of_a_box(tmp_path):
    record = record_of(tmp_path, random_image(100, 50), [(10, 20, 5, 30), (0, 0, 50, 100)])
    boxes = MammoMapper(size=(50, 100), with_instances=True)(record)["instances"].gt_boxes.tensor
    assert boxes.tolist() == [[20, 10, 30, 25], [0, 0, 100, 50]]


def test_an_image_without_annotations_has_empty_instances(tmp_path):
    instances = MammoMapper(size=(8, 8), with_instances=True)(record_of(tmp_path, random_image(8, 8)))["instances"]
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.shape == (0,)
    assert instances.gt_classes.dtype == torch.int64


def test_duplicate_boxes_stay_and_crowds_go(tmp_path):
    record = record_of(tmp_path, random_image(20, 20), [(2, 2, 4, 4), (2, 2, 4, 4), (9, 9, 4, 4)])
    record["annotations"][2]["iscrowd"] = 1
    instances = MammoMapper(size=(20, 20), with_instances=True)(record)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[2, 2, 6, 6], [2, 2, 6, 6]]
    assert instances.gt_classes.tolist() == [0, 1]


def test_three_equal_channels(tmp_path):
    record = record_of(tmp_path, random_image(8, 6))
    image = MammoMapper(size=(8, 6), channels=3)(record)["image"]
    assert image.shape == (3, 8, 6)
    assert image.is_contiguous()
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("size", [(83, 61), (97, 211), (640, 640)])
def test_boxes_come_back_to_the_image_file(tmp_path, keep_aspect, size):
    boxes = [(10.25, 20.5, 30.0, 41.75), (0, 0, 131, 177), (100, 150, 3, 4)]
    record = record_of(tmp_path, random_image(177, 131), boxes)
    sample = MammoMapper(size=size, keep_aspect=keep_aspect, with_instances=True)(record)
    # What a model that finds exactly the ground truth returns.
    found = Instances(tuple(sample["image"].shape[-2:]))
    found.pred_boxes = Boxes(sample["instances"].gt_boxes.tensor.clone())
    found = detector_postprocess(found, sample["height"], sample["width"])
    expected = BoxMode.convert(torch.tensor(boxes, dtype=torch.float32), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    torch.testing.assert_close(found.pred_boxes.tensor, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("image_size", "expected"), [((100, 50), (100, 50)), ((400, 100), (200, 50)), ((100, 600), (50, 300))]
)
def test_small_images_may_keep_their_resolution(tmp_path, image_size, expected):
    mapper = MammoMapper(size=(200, 300), keep_aspect=True, enlarge=False)
    assert mapper(record_of(tmp_path, random_image(*image_size)))["image"].shape == (1, *expected)


def test_keep_aspect_gives_the_fitted_image_without_padding(tmp_path):
    image = MammoMapper(size=(50, 50), keep_aspect=True)(record_of(tmp_path, random_image(100, 60)))["image"]
    assert image.shape == (1, 50, 30)


def test_augmented_boxes_follow_the_pixels(tmp_path):
    pixels = np.zeros((80, 60), dtype=np.uint16)
    pixels[20:40, 15:30] = 60000
    record = record_of(tmp_path, pixels, [(15, 20, 15, 20)])
    augmentation = Augmentation(flip_horizontal=0.5, flip_vertical=0.5, shift=0.1, scale=(0.8, 1.2))
    mapper = MammoMapper(size=(120, 90), augmentation=augmentation, with_instances=True)
    for seed in range(20):
        sample = mapper(record, np.random.default_rng(seed))
        rows, columns = np.nonzero(sample["image"][0].numpy() > 117)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(sample["instances"].gt_boxes.tensor[0], found, atol=1.0)


def test_classes_of_dropped_boxes_go_with_them(tmp_path):
    # Shifted by up to half the width, one of the two lesions at opposite edges is always lost.
    record = record_of(tmp_path, random_image(50, 50), [(0, 20, 5, 5), (45, 20, 5, 5)])
    mapper = MammoMapper(size=(50, 50), augmentation=Augmentation(shift=0.5), with_instances=True)
    seen = set()
    for seed in range(20):
        instances = mapper(record, np.random.default_rng(seed))["instances"]
        assert len(instances.gt_boxes) == len(instances.gt_classes)
        seen.add(tuple(instances.gt_classes.tolist()))
    assert {(0,), (1,)} <= seen


def test_the_generator_decides(tmp_path):
    record = record_of(tmp_path, random_image(30, 30), [(10, 10, 8, 8)])
    mapper = MammoMapper(size=(30, 30), augmentation=Augmentation(shift=0.2, rotation=20.0), with_instances=True)
    first, second, third = (mapper(record, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["instances"].gt_boxes.tensor, second["instances"].gt_boxes.tensor)
    assert not torch.equal(first["image"], third["image"])


@pytest.mark.parametrize("intensity", ["minmax", "percentile"])
def test_intensity_setting_is_used(tmp_path, intensity):
    pixels = np.linspace(1000, 3000, 100).reshape(10, 10).astype(np.uint16)
    image = MammoMapper(size=(10, 10), intensity=intensity)(record_of(tmp_path, pixels))["image"]
    assert (image.min(), image.max()) == (0.0, 255.0)


def test_cache_changes_nothing_but_the_number_of_reads(tmp_path, monkeypatch):
    records = [record_of(tmp_path, random_image(40, 30), [(5, 5, 9, 9)], name=f"{n}.png") for n in range(3)]
    arguments = {"size": (20, 20), "augmentation": Augmentation(flip_horizontal=0.5, cutout_size=9, cutout_prob=1.0)}
    plain = MammoMapper(**arguments)
    expected = [plain(record, np.random.default_rng(n)) for n in range(6) for record in records]

    reads, read_image = [], mapper_module.read_image
    monkeypatch.setattr(mapper_module, "read_image", lambda path: reads.append(path) or read_image(path))
    # Room for two images of 20 x 20 float32 (1600 bytes), not for three.
    cached = MammoMapper(**arguments, cache_mb=4000 / 2**20)
    got = []
    for n in range(6):
        for record in records:
            got.append(cached(record, np.random.default_rng(n)))
            got[-1]["image"] += 0.0  # writing to a sample in place is nobody's harm
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(expected, got, strict=True))
    assert [reads.count(record["file_name"]) for record in records] == [1, 1, 6]


def test_a_sample_does_not_share_memory_with_the_cache(tmp_path):
    record = record_of(tmp_path, random_image(8, 8))
    mapper = MammoMapper(size=(8, 8), cache_mb=1)
    first = mapper(record)["image"].clone()
    mapper(record)["image"].zero_()
    assert torch.equal(mapper(record)["image"], first)


def test_a_missing_image_is_named(tmp_path):
    record = record_of(tmp_path, random_image(8, 8))
    (tmp_path / "image.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"image 7, .*image\.png"):
        MammoMapper(size=(8, 8))(record)


def test_a_truncated_image_is_named(tmp_path):
    record = record_of(tmp_path, random_image(64, 64))
    path = tmp_path / "image.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"image 7, .*image\.png") as caught:
        MammoMapper(size=(8, 8))(record)
    assert str(caught.value).count("image.png") == 1


def test_a_size_other_than_the_records_is_named(tmp_path):
    record = record_of(tmp_path, random_image(20, 10))
    record["height"], record["width"] = 10, 20
    with pytest.raises(ValueError, match=r"image 7, .*image\.png: the file has 20x10 pixels .* its record says 10x20"):
        MammoMapper(size=(8, 8))(record)


def test_from_config(tmp_path):
    cfg = toy_config(tmp_path)
    cfg.INPUT.AUG.FLIP_HORIZONTAL = 1.0
    record = record_of(tmp_path, random_image(24, 20), [(2, 3, 4, 5)])
    training, inference = MammoMapper(cfg), MammoMapper(cfg, is_train=False)
    flipped, plain = training(record, np.random.default_rng(0)), inference(record)
    assert torch.equal(flipped["image"], plain["image"].flip(-1))
    assert flipped["instances"].gt_boxes.tensor.tolist() == [[14, 3, 18, 8]]
    assert "instances" not in plain
    validation = MammoMapper(cfg, is_train=False, with_instances=True)(record)
    assert validation["instances"].gt_boxes.tensor.tolist() == [[2, 3, 6, 8]]
    cfg.MODEL.PIXEL_MEAN = [0.0, 0.0, 0.0]
    assert MammoMapper(cfg)(record)["image"].shape == (3, 24, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (512,)}, "INPUT.SIZE"),
        ({"size": (0, 5)}, "INPUT.SIZE"),
        ({"size": (5, 5), "channels": 2}, "1 or 3 channels, not 2"),
        ({"size": (5, 5), "cache_mb": -1}, "CACHE_MB"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        MammoMapper(**arguments)


# --- tissue maps ---------------------------------------------------------------------------------------------------
ROWS, COLUMNS = np.mgrid[:256, :128] + 0.5
HALF_DISC = np.where(np.hypot(COLUMNS, ROWS - 128) < 90, 150.0, 0.0).astype(np.float32)


def test_the_mapper_augments_image_and_map_alike(monkeypatch):
    image = HALF_DISC
    augmentation = Augmentation(flip_horizontal=0.5, flip_vertical=0.5, shift=0.1, rotation=20.0, contrast=0.2)
    mapper = MammoMapper(size=image.shape, augmentation=augmentation, tissue_cell=16, intensity="bit_depth")
    monkeypatch.setattr(mapper, "prepare_image", lambda record: mapper.network_image(image, 255.0, record))
    record = {"file_name": "a", "height": 256, "width": 128, "view": "CC", "annotations": []}
    followed, stale = 0.0, 0.0
    for seed in range(5):
        sample = mapper(record, np.random.default_rng(seed))
        shares = (sample["image"][0] > 0).float().view(16, 16, 8, 16).mean(dim=(1, 3)).numpy()
        followed += np.abs(shares - sample["tissue"][0].numpy()).mean() / 5
        stale += np.abs(shares - tissue_map(image, 16)[0]).mean() / 5
    # Coarse cells are interpolated at the breast's edge, so that the map is not exact.
    assert followed < 0.04
    assert stale > 0.15
    plain = Augmentation(flip_horizontal=0.5, flip_vertical=0.5, shift=0.1, rotation=20.0, contrast=0.2)
    expected, _ = plain(image, np.zeros((0, 4)), np.random.default_rng(4))
    assert np.array_equal(sample["image"][0].numpy(), expected)


def fixed_sample_arguments(tmp_path):
    """A record with lesions, proposals and a view, and a mapper that draws everything there is to draw."""
    y, x = np.mgrid[:96, :64]
    pixels = np.where(np.hypot(x, y - 48) < 44, 20000 + 200 * x + 100 * y, 0).astype(np.uint16)
    proposals = {
        "proposal_boxes": np.array([[8, 30, 24, 50], [20, 40, 40, 60]], np.float32),
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
        "proposal_objectness_logits": np.array([0.9, 0.8], np.float32),
    }
    record = record_of(tmp_path, pixels, [(8, 30, 16, 20), (30, 60, 9, 9)], view="CC", **proposals)
    augmentation = Augmentation(
        flip_horizontal=0.5, flip_vertical=0.5, shift=0.2, rotation=30.0, scale=(0.8, 1.2), cutout_size=12,
        cutout_prob=0.5, brightness=0.2, contrast=0.2, gamma=0.2,
    )  # fmt: skip
    return record, MammoMapper(size=(72, 48), augmentation=augmentation, with_instances=True, tissue_cell=8)


@pytest.mark.parametrize(
    ("seed", "image_sum", "tissue_sum", "lesion", "proposal", "next_draw"),
    [
        (0, 223577.76941, 23.8765796, [8.676967, 3.790673, 16.541407, 11.655113],
         [4.230874, 12.246377, 21.707407, 29.722910], 0.8574042765875693),
        (3, 119687.93930, 21.0834436, [29.803549, 23.356683, 36.372990, 29.926126],
         [24.417049, 30.338873, 39.015812, 44.937634], 0.4306280204141778),
        (6, 131426.53747, 26.0372014, [13.287601, 16.495710, 20.396042, 23.604150],
         [11.437763, 23.880726, 27.234301, 39.677261], 0.008895805535434675),
    ],
)  # fmt: skip
def test_image_boxes_tissue_and_proposals_move_as_they_always_did(
    tmp_path, seed, image_sum, tissue_sum, lesion, proposal, next_draw
):
    """Recorded values: the geometry is drawn once, and the generator's numbers are used in the same order."""
    record, mapper = fixed_sample_arguments(tmp_path)
    rng = np.random.default_rng(seed)
    sample = mapper(record, rng)
    assert float(sample["image"].double().sum()) == pytest.approx(image_sum, rel=1e-6)
    assert float(sample["tissue"].double().sum()) == pytest.approx(tissue_sum, rel=1e-6)
    np.testing.assert_allclose(sample["instances"].gt_boxes.tensor[1], lesion, atol=1e-5)
    np.testing.assert_allclose(sample["proposals"].proposal_boxes.tensor[1], proposal, atol=1e-5)
    assert rng.random() == next_draw


def test_labels_of_images_without_boxes(tmp_path):
    """Only images that may show a finding and have no box to learn it from carry them, and only with instances."""
    mapper = MammoMapper(size=(8, 6), with_instances=True, classes=("malignant", "benign"))
    pixels = random_image(8, 6)
    boxed = record_of(tmp_path, pixels, [(1, 1, 3, 3)], labels={"malignant": 1, "benign": None})
    negative = record_of(tmp_path, pixels, labels={"malignant": 0, "benign": 0})
    label_only = record_of(tmp_path, pixels, labels={"malignant": 1, "benign": None})
    unknown = record_of(tmp_path, pixels, labels={"malignant": 0, "benign": None})
    for record in (boxed, negative):
        assert "image_labels" not in mapper(record)
    assert mapper(label_only)["image_labels"] == {"malignant": 1, "benign": None}
    assert mapper(unknown)["image_labels"] == {"malignant": 0, "benign": None}
    assert len(mapper(label_only)["instances"]) == 0
    assert "image_labels" not in MammoMapper(size=(8, 6), classes=("malignant", "benign"))(label_only)


def test_a_box_that_the_augmentation_moves_out_makes_no_label_only_image(tmp_path):
    """The image that is left does not show the lesion: a label would teach the network to find it there."""
    mapper = MammoMapper(
        size=(8, 6),
        with_instances=True,
        classes=("malignant",),
        augmentation=Augmentation(shift=0.9, keep_lesion=False),
    )
    record = record_of(tmp_path, random_image(8, 6), [(1, 1, 3, 3)], labels={"malignant": 1})
    samples = [mapper(record, np.random.default_rng(seed)) for seed in range(20)]
    assert 0 in {len(sample["instances"]) for sample in samples}
    assert not any("image_labels" in sample for sample in samples)
