"""Pictures of validation images: which, when, and that the training is left as it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.engine.monitoring.validation_pictures import ValidationPictures, build_validation_pictures, choose_records
from mammo_d2.framework import Boxes, EventStorage, Instances, get_event_storage
from tests.data.toy_dataset import HEIGHT, WIDTH, toy_config, write_dataset
from tests.engine.toy_training import run


class Fixed(nn.Module):
    """Gives one box, a map and a score, and logs something, as heads do."""

    def __init__(self):
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm2d(1), nn.Dropout()

    def forward(self, batch):
        assert not self.training
        assert not torch.is_grad_enabled()
        get_event_storage().put_scalar("of_the_model", 1.0)
        instances = Instances((HEIGHT, WIDTH))
        instances.pred_boxes, instances.scores = Boxes(torch.tensor([[1.0, 2, 9, 9]])), torch.tensor([0.5])
        instances.pred_classes = torch.tensor([0])
        saliency = torch.full((1, 6, 5), 0.25)
        return [{"instances": instances, "saliency": saliency, "image_scores": {"malignant": 0.5}} for _ in batch]


def hook_of(cfg, model, period=2):
    cfg.DATASETS.TEST, cfg.TEST.TENSORBOARD_IMAGES, cfg.TEST.EVAL_PERIOD = ("toy_train",), 3, period
    cfg.MODEL.META_ARCHITECTURE = "GMIC"
    (hook,) = build_validation_pictures(cfg, lambda: model)
    return hook


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path, positives=2, negatives=4)
    config = toy_config(tmp_path)
    register_datasets(config)
    return config


def test_half_of_the_images_have_boxes_as_far_as_there_are():
    records = [{"image_id": n, "annotations": [1] if n in (2, 5, 7) else []} for n in range(10)]

    def ids(count, of=records):
        return [record["image_id"] for record in choose_records(of, count)]

    assert ids(4) == [0, 2, 7, 9]
    assert ids(1) == [2]
    assert ids(8) == [0, 2, 3, 4, 5, 6, 7, 9]
    assert ids(99) == list(range(10))
    assert ids(3, records[3:5]) == [3, 4]
    assert ids(2, records[5:6]) == [5]


def test_pictures_come_with_the_evaluations_and_nothing_else_changes(cfg):
    model = Fixed()
    model.train()
    model.frozen.eval()
    hook = hook_of(cfg, model)
    with EventStorage() as storage:
        seen = []
        storage.put_image = lambda name, image: seen.append((hook.trainer.iter, name, image))
        for iteration in range(5):
            hook.trainer = SimpleNamespace(iter=iteration, max_iter=5)
            hook.after_step()
        assert "of_the_model" not in storage.latest()
    assert [iteration for iteration, _, _ in seen] == [1, 1, 1, 3, 3, 3, 4, 4, 4]
    assert [name for _, name, _ in seen[:3]] == ["validation/1", "validation/2", "validation/3"]
    image = seen[0][2]
    assert (image.dtype, image.shape[0]) == (np.uint8, 3)
    assert image.shape[2] == 2 * (WIDTH + 8) + 8  # boxes and one map
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)


def test_an_image_that_is_gone_is_named(cfg, caplog, tmp_path):
    hook = hook_of(cfg, Fixed())
    gone = hook.records[0]
    (tmp_path / "toy" / "images" / gone["file_name"].rsplit("/", 1)[-1]).unlink()
    assert len(hook.pictures()) == 2
    assert f"no picture of validation image {gone['image_id']!r}" in caplog.text


def test_nothing_to_draw_is_a_warning(cfg, caplog):
    cfg.TEST.TENSORBOARD_IMAGES = 2
    assert build_validation_pictures(cfg, Fixed) == []
    cfg.DATASETS.TEST, cfg.MODEL.META_ARCHITECTURE = ("toy_train",), "LesionPatchClassifier"
    assert build_validation_pictures(cfg, Fixed) == []
    assert "but DATASETS.TEST is empty" in caplog.text
    assert "but LesionPatchClassifier gives neither boxes nor saliency" in caplog.text


def test_a_training_writes_them_for_tensorboard_and_ends_with_the_same_weights(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_dataset(tmp_path, positives=2, negatives=2)
    short = ["SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.STEPS", "[]", "TEST.EVAL_PERIOD", "1"]
    run(tmp_path, *short, "TEST.TENSORBOARD_IMAGES", "2")
    events = EventAccumulator(str(tmp_path / "out"), size_guidance={"images": 0})
    events.Reload()
    names = events.Tags()["images"]
    assert len(names) == 2
    assert all(name.startswith("validation/") for name in names)
    assert [picture.step for picture in events.Images(names[0])] == [0, 1]
    run(tmp_path, *short, "OUTPUT_DIR", str(tmp_path / "plain"))
    weights = [torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"] for name in ("out", "plain")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_hook_is_built_by_its_own_arguments():
    hook = ValidationPictures(0, [], ["malignant"], dict, Fixed)
    hook.trainer = SimpleNamespace(iter=0, max_iter=5)
    hook.after_step()  # period 0: after the last iteration only, and there is no storage here
    assert hook.pictures() == {}
