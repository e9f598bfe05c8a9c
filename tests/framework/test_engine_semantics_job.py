"""Places where detectron2's behaviour is subtle: those of the job half, with the number, on both engines.

21, 22, 24 to 27 and 29 of the project's list; the others belong to the model half. Point 22 (its image reader
saturates 16-bit files at 255) does not apply to the embedded engine, which has no image reader: data.reading.reader
reads every file. Point 23, its filter of images without annotations, is that of its loaders: the embedded engine has
none.
"""

import contextlib
import importlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from tests.framework import engines, job_cases
from tests.framework.engines import Engine


@pytest.fixture(params=engines.BOTH)
def engine(request: pytest.FixtureRequest) -> Engine:
    return engines.load(request.param)


def test_21_category_ids_are_sorted_and_an_annotation_without_a_valid_polygon_is_gone(
    engine: Engine, tmp_path: Path
) -> None:
    line, triangle = [1, 1, 2, 2], [1, 1, 9, 1, 5, 8]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 9, "bbox": [0, 0, 5, 5], "segmentation": [line]},
        {"id": 2, "image_id": 1, "category_id": 9, "bbox": [0, 0, 5, 5], "segmentation": [line, triangle]},
        {"id": 3, "image_id": 1, "category_id": 4, "bbox": [0, 0, 5, 5]},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
        "categories": [{"id": 9, "name": "nine"}, {"id": 4, "name": "four"}],
        "annotations": annotations,
    }
    path, name = tmp_path / "c.json", f"semantics_21_{engine.name}"
    path.write_text(json.dumps(content))
    (record,) = engine.load_coco_json(str(path), "", name)
    assert [a["category_id"] for a in record["annotations"]] == [1, 0]
    assert record["annotations"][0]["segmentation"] == [triangle]
    assert engine.MetadataCatalog.get(name).thing_classes == ["four", "nine"]
    annotations[0]["ignore"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(AssertionError):
        engine.load_coco_json(str(path), "", name)


@pytest.mark.detectron2
def test_22_detectron2_saturates_16_bit_files(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((2, 2), 4000, np.uint16)).save(tmp_path / "deep.png")
    read_image = importlib.import_module("detectron2.data.detection_utils").read_image
    assert read_image(str(tmp_path / "deep.png"), "BGR").max() == 255


@pytest.mark.parametrize(("annotation_id", "ap50"), [(0, 0.0), (1, 1.0)])
def test_24_an_annotation_with_id_0_is_never_matched(annotation_id: int, ap50: float) -> None:
    box = [10, 10, 30, 30]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "malignant"}],
        "annotations": [{"id": annotation_id, "image_id": 1, "category_id": 1, "bbox": box, "area": 900, "iscrowd": 0}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes([{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}])
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[1] == pytest.approx(ap50)


def test_25_warm_up_past_a_step_ramps_to_the_decayed_rate(engine: Engine) -> None:
    rates = job_cases.learning_rates(engine, "warmup_past_a_step")  # 0.02, a step at 5, warm-up over 10 of 20
    assert rates[0] == pytest.approx(0.02 * 0.001)
    assert rates[5] == pytest.approx(0.02 * (0.001 + (0.1 - 0.001) * 0.5))
    assert rates[9:12] == pytest.approx([0.02 * (0.001 + (0.1 - 0.001) * 0.9), 0.002, 0.002])


def test_25_rate_is_logged_before_the_schedule_steps(engine: Engine) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    cfg = job_cases.solver_config(engine, {"BASE_LR": 1.0, "MAX_ITER": 3, "STEPS": (1,), "WARMUP_ITERS": 0})
    batches = [torch.ones(1, 1)] * 3
    trainer = engine.SimpleTrainer(nn.Sequential(model, nn.Flatten(0)), batches, optimizer)
    trainer.scheduler = engine.build_lr_scheduler(cfg, optimizer)
    trainer.register_hooks([engine.hooks.LRScheduler()])
    trainer.train(0, 3)
    assert [value for value, _ in trainer.storage.history("lr").values()] == pytest.approx([1.0, 0.1, 0.1])


def test_26_storage_outside_a_context_and_two_hints(engine: Engine) -> None:
    with pytest.raises(AssertionError):
        engine.get_event_storage()
    with engine.EventStorage() as storage:
        assert engine.get_event_storage() is storage
        storage.put_scalar("x", 1)
        with pytest.raises(AssertionError):
            storage.put_scalar("x", 1, smoothing_hint=False)


def test_26_evaluation_gives_flat_floats(engine: Engine) -> None:
    class Idle(engine.TrainerBase):  # type: ignore[name-defined]
        def run_step(self) -> None:
            pass

    trainer = Idle()
    trainer.register_hooks([engine.hooks.EvalHook(1, lambda: {"bbox": {"AP50": torch.tensor(8.5)}})])
    trainer.train(0, 1)
    assert trainer.storage.latest() == {"bbox/AP50": (8.5, 1)}
    trainer = Idle()
    trainer.register_hooks([engine.hooks.EvalHook(1, lambda: {"bbox": {"AP50": "high"}})])
    with pytest.raises(ValueError, match="EvalHook"):
        trainer.train(0, 1)


def pickled(path: Path, **weights: float) -> str:
    """A zoo file of one-element weights that asks for matching by endings; "__" in a name stands for a dot."""
    model = {name.replace("__", "."): np.full(1, value, np.float32) for name, value in weights.items()}
    path.write_bytes(pickle.dumps({"model": model, "__author__": "test", "matching_heuristics": True}))
    return str(path)


def two_scales() -> nn.Module:
    """Parameters net.scale and net.inner.scale, both 0."""
    model = nn.Module()
    model.net = nn.Module()
    model.net.scale = nn.Parameter(torch.zeros(1))
    model.net.inner = nn.Module()
    model.net.inner.scale = nn.Parameter(torch.zeros(1))
    return model


def test_27_longest_ending_wins_and_ambiguity_raises(engine: Engine, tmp_path: Path) -> None:
    model = two_scales()
    engine.DetectionCheckpointer(model).load(pickled(tmp_path / "w.pkl", scale=1.0, inner__scale=2.0))
    assert (model.net.scale.item(), model.net.inner.scale.item()) == (1.0, 2.0)
    with pytest.raises(ValueError):
        engine.DetectionCheckpointer(two_scales()).load(pickled(tmp_path / "v.pkl", scale=1.0))


def test_27_other_shapes_are_left_out_with_a_warning(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = nn.Linear(2, 1)
    torch.save({"model": {"weight": torch.ones(3, 2), "bias": torch.full((1,), 5.0)}}, tmp_path / "w.pth")
    before = model.weight.clone()
    engine.DetectionCheckpointer(model).load(str(tmp_path / "w.pth"))
    assert torch.equal(model.weight, before)
    assert model.bias.item() == 5.0
    assert "(3, 2)" in caplog.text


def test_27_numpy_scalars_fail_in_detectron2_and_never_get_into_our_files(tmp_path: Path) -> None:
    embedded = engines.load(engines.EMBEDDED)
    embedded.DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path)).save("ours", best=np.float64(0.5))
    assert torch.load(tmp_path / "ours.pth", weights_only=True)["best"] == 0.5
    torch.save({"model": nn.Linear(1, 1).state_dict(), "best": np.float64(0.5)}, tmp_path / "theirs.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert embedded.DetectionCheckpointer(nn.Linear(1, 1)).load(str(tmp_path / "theirs.pth")) == {"best": 0.5}


@pytest.mark.parametrize(("seed", "repeats"), [(5, True), (-1, False)])
def test_29_only_a_seed_from_0_on_seeds_the_generators(
    engine: Engine, seed: int, repeats: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cfg = engine.get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.SEED = seed
    args = engine.default_argument_parser().parse_args([])
    drawn = []
    for _ in range(2):
        engine.default_setup(cfg, args)
        drawn.append(torch.rand(1).item())
    assert (drawn[0] == drawn[1]) is repeats
    if repeats:
        monkeypatch.setattr(engine.comm, "get_rank", lambda: 2)
        engine.default_setup(cfg, args)
        torch_on_rank_2 = torch.rand(1).item()
        torch.manual_seed(5 + 2)
        assert torch_on_rank_2 == torch.rand(1).item()
