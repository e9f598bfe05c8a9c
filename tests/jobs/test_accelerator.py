"""Every model, and jobs from file to result, on a pretended GPU (``tests/fake_accelerator.py``): the CPU's numbers."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map_only

from mammo_d2.engine.optimizer import build_optimizer
from mammo_d2.engine.step import StepTrainer
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import EventStorage, build_model
from mammo_d2.inference.predictor import Predictor
from mammo_d2.modeling.fold_norm import fold_norms
from tests.data.toy_dataset import write_dataset
from tests.engine import toy_training
from tests.fake_accelerator import DeviceMismatchError, accelerator
from tests.inference.tiny_model import make_cfg, write_mammogram
from tests.jobs.accelerator_cases import CASES, MIXED_PRECISION
from tests.jobs.lesion import lesion_jobs

# The pretended GPU takes the place of operators that are there already.
pytestmark = pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="the pretended GPU needs torch 2.6")

TRAINED = [name for name, case in CASES.items() if case.batch()]


def train_step(name, tmp_path, device, precision="float32", moved=False, **settings):
    """Logged losses of a step, and the weights afterwards, on the CPU.

    Args:
        name: of the case.
        tmp_path: for what the step writes.
        device: MODEL.DEVICE.
        precision: "float32" or SOLVER.AMP.DTYPE.
        moved: the batch's tensors are on the device already, as DistributedDataParallel has them.
        settings: further attributes of MODEL.DUAL_BRANCH.
    """
    cfg = CASES[name].cfg()
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = str(device), str(tmp_path)
    cfg.MODEL.DUAL_BRANCH.update(settings)
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE = precision != "float32", precision
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = True, "full_model"
    torch.manual_seed(0)
    model = build_model(cfg)
    types = []
    model.register_forward_hook(lambda model, inputs, losses: types.extend(one.dtype for one in losses.values()))
    batch = CASES[name].batch()
    if moved:
        batch = tree_map_only(Tensor, lambda t: t.to(device), batch)
    trainer = StepTrainer(cfg, model, [batch], build_optimizer(cfg, model))
    trainer.iter = 0
    with EventStorage() as storage:
        torch.manual_seed(1)
        trainer.run_step()
    assert set(types) == {torch.float32}
    numbers = {key: value for key, (value, _) in storage.latest().items() if "loss" in key}
    return numbers, {key: value.cpu() for key, value in model.state_dict().items()}


def assert_same_step(found, expected) -> None:
    (losses, weights), (expected_losses, expected_weights) = found, expected
    assert losses == pytest.approx(expected_losses, rel=1e-4, abs=1e-6)
    for key, value in expected_weights.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_gives_the_numbers_of_the_cpu(name, tmp_path):
    expected = train_step(name, tmp_path, "cpu")
    with accelerator() as device:
        assert_same_step(train_step(name, tmp_path, device), expected)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", MIXED_PRECISION)
def test_mixed_precision_changes_the_losses_by_rounding(name, precision, tmp_path):
    expected, _ = train_step(name, tmp_path, "cpu")
    with accelerator() as device:
        losses, weights = train_step(name, tmp_path, device, precision, moved=True)
    assert losses == pytest.approx(expected, rel=0.05, abs=0.05)
    for value in weights.values():
        assert value.dtype in (torch.float32, torch.int64)
        assert value.isfinite().all()


def test_kept_codes_of_regions(tmp_path):
    """Made on the device, read from there and on the CPU."""
    name, cache = "dual_branch_frozen", str(tmp_path / "cache")
    expected = train_step(name, tmp_path, "cpu")
    with accelerator() as device:
        for _ in range(2):
            assert_same_step(train_step(name, tmp_path, device, CACHE_DIR=cache), expected)
    assert_same_step(train_step(name, tmp_path, "cpu", CACHE_DIR=cache), expected)
    assert len(list((tmp_path / "cache").rglob("*.pt"))) == 2


def predict(name, device, precision="float32", moved=False, change=None):
    """What the model in evaluation mode says of the case's records, as numbers by name; ``change`` alters it before."""
    cfg = CASES[name].cfg()
    cfg.MODEL.DEVICE = str(device)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    if change is not None:
        change(model)
    records = CASES[name].records()
    if moved:
        records = tree_map_only(Tensor, lambda t: t.to(device), records)
    dtype = None if precision == "float32" else getattr(torch, precision)
    with torch.inference_mode(), torch.autocast(torch.device(device).type, dtype=dtype, enabled=dtype is not None):
        outputs = model(records)
    return [_numbers(output) for output in outputs]


def _numbers(output: dict) -> dict[str, list[float]]:
    if "instances" in output:
        fields = output["instances"].get_fields().items()
        output = {**output, "instances": {name: getattr(value, "tensor", value) for name, value in fields}}
    leaves, _ = tree_flatten_with_path(output)
    return {keystr(path): torch.as_tensor(leaf).cpu().double().flatten().tolist() for path, leaf in leaves}


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_those_of_the_cpu(name):
    expected = predict(name, "cpu", change=fold_norms)
    with accelerator() as device:
        found = predict(name, device, change=fold_norms, moved=True)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, values in other.items():
            assert one[key] == pytest.approx(values, rel=1e-4, abs=1e-4), key


@pytest.mark.parametrize("name", [*MIXED_PRECISION, "gmic_ensemble"])
def test_predictions_in_float16(name):
    expected = predict(name, "cpu")
    with accelerator() as device:
        found = predict(name, device, "float16")
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key in [key for key in other if "image_scores" in key or "malignancy" in key]:
            assert one[key] == pytest.approx(other[key], abs=0.05), key


@pytest.mark.parametrize("name", CASES)
def test_a_tensor_left_on_the_cpu_is_found(name):
    """The test of these tests: the last of the weights, or the pixels' standard deviation, stays behind."""

    def leave_weight(model):
        path, _, last = list(dict(model.named_parameters()))[-1].rpartition(".")
        part = model.get_submodule(path)
        setattr(part, last, nn.Parameter(getattr(part, last).detach().cpu()))

    with accelerator() as device:
        for change in (leave_weight, lambda model: setattr(model, "pixel_std", model.pixel_std.cpu())):
            with pytest.raises(DeviceMismatchError, match="at least two devices"):
                predict(name, device, change=change)


# --- jobs ------------------------------------------------------------------------------------------------------------
JOB = {
    "MODEL.DEVICE": "cuda",
    "SOLVER.MAX_ITER": "2",
    "SOLVER.AMP.ENABLED": "True",
    "SOLVER.AMP.DTYPE": "float16",
    "SOLVER.ACCUMULATE": "2",
    "SOLVER.CHECKPOINT_PERIOD": "1",
    "SOLVER.EMA.ENABLED": "True",
    "TEST.LOSS_PERIOD": "2",
}


@pytest.mark.slow
def test_an_interrupted_job(tmp_path, monkeypatch):
    """Training in float16 with gradient scaling, averaged weights, validation loss and evaluation."""
    write_dataset(tmp_path, positives=2, negatives=2)
    settings = [item for pair in JOB.items() for item in pair]
    step = MammoTrainer.run_step

    def failing_step(self):
        if self.iter == 1:
            raise KeyboardInterrupt
        step(self)

    with accelerator():
        assert "froc" in toy_training.run(tmp_path, *settings)
        parts = [*settings, "OUTPUT_DIR", str(tmp_path / "parts")]
        with monkeypatch.context() as patch:
            patch.setattr(MammoTrainer, "run_step", failing_step)
            with pytest.raises(KeyboardInterrupt):
                toy_training.run(tmp_path, *parts)
        toy_training.run(tmp_path, *parts, resume=True)
    whole, resumed = (toy_training.final_weights(tmp_path / name) for name in ("out", "parts"))
    assert all(value.isfinite().all() and torch.equal(resumed[key], value) for key, value in whole.items())


def test_prediction_on_files(tmp_path):
    files = [write_mammogram(tmp_path / f"{seed}.png", seed) for seed in range(2)]
    mixed = ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16")
    expected = list(Predictor(make_cfg(tmp_path))(files))
    with accelerator():
        found = list(Predictor(make_cfg(tmp_path, "MODEL.DEVICE", "cuda"))(files, batch_size=2, strict=True))
        rounded = list(Predictor(make_cfg(tmp_path, "MODEL.DEVICE", "cuda", *mixed))(files, strict=True))
    for one, half, other in zip(found, rounded, expected, strict=True):
        assert one.scores.tolist() == pytest.approx(other.scores.tolist(), abs=1e-4)
        assert one.boxes.tolist() == [pytest.approx(box, abs=0.01) for box in other.boxes.tolist()]
        assert half.image_scores == pytest.approx(other.image_scores, abs=0.02)


def test_the_lesion_classifier_from_its_context_to_scores(tmp_path):
    """Saliency, patches, embeddings and aggregation, each stage on the device; then lesions of a data set."""
    lesion_jobs.write_job(tmp_path)
    settings = ("SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2")
    expected = lesion_jobs.run(tmp_path, *settings, out="cpu")
    with accelerator():
        assert lesion_jobs.run(tmp_path, *settings, "MODEL.DEVICE", "cuda")["lesion"] == pytest.approx(
            expected["lesion"]
        )
