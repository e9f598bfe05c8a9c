"""GMIC as a job: exams from a data set with image labels, training, evaluation of scores, saliency and boxes."""

import argparse
import json

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.jobs.job import main as train_main
from tests.conftest import ROOT

SMALL = {
    "MODEL.WEIGHTS": "",
    "SOLVER.EPOCHS": "0",
    "MODEL.RESNET22.STEM_CHANNELS": "4",
    "MODEL.RESNET22.STRIDES": "[1, 2, 2]",
    "MODEL.GMIC.NUM_PATCHES": "2",
    "MODEL.GMIC.PATCH_SIZE": "[32, 32]",
    "DATASETS.TRAIN": "['exams_train']",
    "DATASETS.TEST": "['exams_test']",
    "DATASETS.LABEL_LEVEL": "breast",
    "INPUT.SIZE": "[96, 64]",
    "SOLVER.MAX_ITER": "3",
    "SOLVER.IMS_PER_BATCH": "4",
    "SOLVER.WARMUP_ITERS": "0",
    "TEST.EVAL_PERIOD": "3",
}


def write_exams(root, split: str, seed: int) -> None:
    """Four exams of two views; a finding in one view of the first two, a label unknown in the last."""
    folder, builder = root / "exams", CocoBuilder()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for exam in range(4):
        for view in ("CC", "MLO"):
            name = f"{split}_{exam}_{view}.png"
            assert cv2.imwrite(str(folder / "images" / name), rng.integers(0, 65536, (96, 64), dtype=np.uint16))
            found = exam < 2 and view == "CC"
            image = builder.add_image(
                name, 96, 64, patient_id=f"{split}{exam}", exam_id=f"{exam}", laterality="L", view=view,
                labels={"benign": 0, "malignant": None if exam == 3 else int(found)}, birads=str(exam),
            )  # fmt: skip
            if found:
                builder.add_annotation(image, [10.0, 20.0, 30.0, 24.0], "malignant")
    builder.write(folder / "annotations" / f"{split}.json")


@pytest.fixture
def run(tmp_path):
    write_exams(tmp_path, "train", 0)
    write_exams(tmp_path, "test", 1)

    def train(*overrides: str, folder: str = "out", resume: bool = False):
        settings = SMALL | {"DATASETS.ROOT": str(tmp_path), "OUTPUT_DIR": str(tmp_path / folder)}
        settings |= dict(zip(overrides[::2], overrides[1::2], strict=True))
        opts = [item for pair in settings.items() for item in pair]
        config = str(ROOT / "configs/quickstart/phantom_gmic.yaml")
        args = argparse.Namespace(
            config_file=config, opts=opts, resume=resume, eval_only=False, strict_weights=False, num_gpus=0
        )
        return train_main(args), tmp_path / folder

    return train


def test_train_and_evaluate(run):
    results, folder = run()
    assert 0 <= results["image"]["malignant/breast_auc"] <= 1
    assert results["saliency"]["malignant/num_images"] == 2
    assert results["saliency"]["malignant/f1"] > 0
    assert 0 <= results["froc"]["malignant/sens@1"] <= 1
    logged = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert {"loss_global", "loss_local", "loss_sparsity"} <= set(logged[0])


def test_baseline_trains_on_the_same_data_for_epochs_of_exams(run):
    """An epoch: the two exams with a finding and the only one known to have none; two batches of four images."""
    epochs = ("SOLVER.EPOCHS", "2", "SOLVER.MAX_ITER", "0", "SOLVER.WARMUP_EPOCHS", "0.5")
    results, folder = run("MODEL.META_ARCHITECTURE", "ResNet22Classifier", *epochs)
    stored = load_config(str(folder / "config.yaml")).SOLVER
    assert (stored.MAX_ITER, stored.WARMUP_ITERS, stored.CHECKPOINT_PERIOD) == (4, 1, 10)
    assert torch.load(folder / "model_final.pth", weights_only=True)["iteration"] == 3
    assert 0 <= results["image"]["malignant/breast_auc"] <= 1


QUICK = ("TEST.EVALUATORS", "['image']", "TEST.EVAL_PERIOD", "0")


@pytest.mark.slow
def test_mixed_precision_trains_like_float32(run):
    """bfloat16: losses on the map to two per cent in the first step, all finite, weights and their file in float32."""

    def losses(name, steps, enabled):
        overrides = ("SOLVER.AMP.ENABLED", enabled, "SOLVER.AMP.DTYPE", "bfloat16", "MODEL.GMIC.FUSION", "concat")
        results, folder = run(*QUICK, *overrides, "SOLVER.MAX_ITER", str(steps), folder=name)
        assert 0 <= results["image"]["malignant/breast_auc"] <= 1
        line = json.loads((folder / "metrics.json").read_text().splitlines()[0])
        return {key: value for key, value in line.items() if key.startswith("loss_")}, folder

    plain, mixed = losses("plain", 1, "False")[0], losses("mixed", 1, "True")[0]
    assert set(plain) == {"loss_global", "loss_local", "loss_fusion", "loss_sparsity"}
    for name in ("loss_global", "loss_sparsity"):  # on images of noise the patches are near ties
        assert mixed[name] == pytest.approx(plain[name], rel=0.02)
        assert mixed[name] != plain[name]
    later, folder = losses("longer", 4, "True")
    assert all(np.isfinite(value) for value in (*mixed.values(), *later.values()))
    weights = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}  # the latter count batches


@pytest.mark.slow
def test_resume_goes_on_in_the_epoch(run):
    """Six steps of four images, over three epochs of exams, at once and interrupted after four."""
    steps = (*QUICK, "SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "4")
    _, whole = run(*steps, folder="whole")
    run(*steps, folder="parts")
    (whole.parent / "parts" / "last_checkpoint").write_text("model_0000003.pth")
    _, parts = run(*steps, folder="parts", resume=True)
    one, other = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_backbone_pretrained_on_birads(run):
    """What configs/gmic/ResNet22_birads.yaml trains is where GMIC's backbone starts from."""
    overrides = ("MODEL.META_ARCHITECTURE", "ResNet22Classifier", "MODEL.CLASSIFIER.TARGET", "birads")
    overrides += ("DATALOADER.SAMPLER_TRAIN", "TrainingSampler", "TEST.EVALUATORS", "[]", "TEST.EVAL_PERIOD", "0")
    _, folder = run(*overrides, "SOLVER.MAX_ITER", "2", folder="birads")
    first = json.loads((folder / "metrics.json").read_text().splitlines()[0])
    assert first["total_loss"] > 0
    trained = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    cfg = load_config(
        str(ROOT / "configs/quickstart/phantom_gmic.yaml"),
        [item for key in SMALL if key.startswith("MODEL.") for item in (key, SMALL[key])],
    )
    model = build_model(cfg)
    before = model.saliency_head.weight.clone()
    SafeCheckpointer(model).load(str(folder / "model_final.pth"))
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, trained[f"backbone.{name}"])
    assert torch.equal(model.saliency_head.weight, before)


def test_bad_label_level(run):
    with pytest.raises(ValueError, match="'exam'; use image or breast"):
        run("DATASETS.LABEL_LEVEL", "exam")
