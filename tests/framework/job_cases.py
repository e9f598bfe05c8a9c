"""Small jobs run on an engine, given as a namespace (``engines.py``), and the numbers they give.

The numbers of the real detectron2 are in golden/job.json; `python -m tests.framework.job_cases` writes them anew where
detectron2 is installed.
"""

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.framework import engines
from tests.framework.engines import Engine

GOLDEN = Path(__file__).parent / "golden" / "job.json"
GOLDEN_CHECKPOINT = Path(__file__).parent / "golden" / "toy_detectron2.pth"


# --- schedules: SOLVER keys and values ------------------------------------------------------------------------------
SCHEDULES: dict[str, dict[str, Any]] = {
    "multistep": {"BASE_LR": 0.02, "MAX_ITER": 20, "STEPS": (12, 16), "WARMUP_ITERS": 5},
    "warmup_past_a_step": {"BASE_LR": 0.02, "MAX_ITER": 20, "STEPS": (5,), "WARMUP_ITERS": 10},
    "constant_warmup": {
        "BASE_LR": 0.02, "MAX_ITER": 12, "STEPS": (8,), "WARMUP_ITERS": 3, "WARMUP_FACTOR": 0.1,
        "WARMUP_METHOD": "constant",
    },
    "no_warmup": {"BASE_LR": 0.1, "MAX_ITER": 6, "STEPS": (2, 4), "WARMUP_ITERS": 0, "GAMMA": 0.5},
    "steps_beyond_the_end": {"BASE_LR": 0.1, "MAX_ITER": 6, "STEPS": (4, 100), "WARMUP_ITERS": 2},
    "cosine": {
        "LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR": 0.02, "BASE_LR_END": 0.002, "MAX_ITER": 20, "WARMUP_ITERS": 4,
    },
    "cosine_rescaled": {
        "LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR": 0.02, "MAX_ITER": 20, "WARMUP_ITERS": 4,
        "RESCALE_INTERVAL": True,
    },
    "fixed_gamma": {
        "LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "BASE_LR": 0.02, "MAX_ITER": 20, "NUM_DECAYS": 3,
        "WARMUP_ITERS": 2,
    },
}  # fmt: skip


def solver_config(engine: Engine, keys: dict[str, Any]) -> Any:
    """The default config with some SOLVER keys changed."""
    cfg = engine.get_cfg()
    for key, value in keys.items():
        node, _, last = key.rpartition(".")
        target = cfg.SOLVER
        for part in node.split("."):
            target = target[part] if part else target
        target[last] = value
    return cfg


def learning_rates(engine: Engine, case: str) -> list[float]:
    """Learning rate of each iteration."""
    cfg = solver_config(engine, SCHEDULES[case])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = engine.build_lr_scheduler(cfg, optimizer)
    rates = []
    for iteration in range(cfg.SOLVER.MAX_ITER):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if iteration + 1 < cfg.SOLVER.MAX_ITER:  # one more makes detectron2 fail with WarmupStepWithFixedGammaLR
            scheduler.step()
    return rates


# --- parameter groups -----------------------------------------------------------------------------------------------
GROUPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "norm": {"base_lr": 0.1, "weight_decay": 1e-4, "weight_decay_norm": 0.0},
    "bias": {"base_lr": 0.1, "weight_decay": 1e-4, "bias_lr_factor": 2.0, "weight_decay_bias": 0.0},
    "norm_and_bias": {"base_lr": 0.1, "weight_decay_norm": 0.5, "weight_decay_bias": 0.25},
    "overrides": {"base_lr": 0.1, "overrides": {"scale": {"lr": 0.01, "weight_decay": 0.0}}},
}


class ModelOfAllKinds(nn.Module):
    """Convolution, two normalisations, a parameter used twice, a frozen one and one with its own name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.bn = nn.BatchNorm2d(2)
        self.gn = nn.GroupNorm(1, 2)
        self.fc = nn.Linear(2, 2)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.fc.weight
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(1))


def parameter_groups(engine: Engine, case: str) -> list[dict[str, Any]]:
    """Each group with the names of its parameters in place of the parameters."""
    model = ModelOfAllKinds()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = engine.get_default_optimizer_params(model, **GROUPS[case])
    return [{**group, "params": [names[parameter] for parameter in group["params"]]} for group in groups]


# --- event storage --------------------------------------------------------------------------------------------------
def storage_values(engine: Engine, case: str) -> dict[str, Any]:
    """What a storage shows after 30 iterations with one noisy, one exact and one sparse scalar."""
    with engine.EventStorage(5) as storage:
        for i in range(30):
            storage.iter = 5 + i
            storage.put_scalar("noisy", (i * 7) % 11)
            storage.put_scalar("exact", i * 0.5, smoothing_hint=False)
            if i % 6 == 0:
                storage.put_scalars(sparse=i, cur_iter=100 + i)
        with storage.name_scope("val/"):
            storage.put_scalar("loss", 2)
    return {
        "latest": storage.latest(),
        "shown": storage.latest_with_smoothing_hint(20),
        "shown_7": storage.latest_with_smoothing_hint(7),
        "samples": {name: storage.count_samples(name, 20) for name in storage.histories()},
        "hints": storage.smoothing_hints(),
    }


# --- a whole training -----------------------------------------------------------------------------------------------
class Line(nn.Module):
    """y = w·x + b with the losses (y - 1)² and |w|²."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)
        with torch.no_grad():
            self.line.weight.copy_(torch.tensor([[0.5, -0.25]]))
            self.line.bias.fill_(0.1)

    def forward(self, batch: list[dict[str, torch.Tensor]]) -> Any:
        y = self.line(torch.stack([item["x"] for item in batch]))
        if not self.training:
            return list(y[:, 0])
        return {"loss_fit": (y - 1).square().mean(), "loss_size": self.line.weight.square().sum()}


def shuffled_passes(size: int, seed: int) -> Iterator[int]:
    """Endless shuffled passes over ``size`` indices, in the order of detectron2's TrainingSampler."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(size, generator=generator).tolist()


def batches_of(items: Iterator[Any], batch_size: int) -> Iterator[list[Any]]:
    """Lists of ``batch_size`` items, endless as the items are."""
    while True:
        yield list(itertools.islice(items, batch_size))


def toy_trainer_class(engine: Engine) -> type:
    """A DefaultTrainer on `Line` and 7 points, evaluated by the mean prediction."""
    points = [{"x": [i / 7, 1.0 - i / 3]} for i in range(7)]

    def to_tensor(record: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor(record["x"])}

    class MeanPrediction(engine.DatasetEvaluator):  # type: ignore[name-defined]
        def reset(self) -> None:
            self.values: list[float] = []

        def process(self, inputs: Any, outputs: Any) -> None:
            self.values += [float(value) for value in outputs]

        def evaluate(self) -> dict[str, Any] | None:
            values = [value for part in engine.comm.gather(self.values) for value in part]
            if not engine.comm.is_main_process():
                return None
            return {"toy": {"mean": sum(values) / len(values), "count": len(values)}}

    class ToyTrainer(engine.DefaultTrainer):  # type: ignore[name-defined]
        @classmethod
        def build_model(cls, cfg: Any) -> nn.Module:
            return Line()

        @classmethod
        def build_train_loader(cls, cfg: Any) -> Any:
            rank, size = engine.comm.get_rank(), engine.comm.get_world_size()
            indices = itertools.islice(shuffled_passes(len(points), cfg.SEED), rank, None, size)
            return batches_of((to_tensor(points[i]) for i in indices), cfg.SOLVER.IMS_PER_BATCH // size)

        @classmethod
        def build_test_loader(cls, cfg: Any, dataset_name: str) -> Any:
            sampler = engine.InferenceSampler(len(points))
            return DataLoader(points, sampler=sampler, collate_fn=lambda batch: [to_tensor(point) for point in batch])

        @classmethod
        def build_evaluator(cls, cfg: Any, dataset_name: str) -> Any:
            return MeanPrediction()

    return ToyTrainer


def toy_config(engine: Engine, output_dir: str | Path, **solver: Any) -> Any:
    """12 iterations with warm-up, a step, momentum, two evaluations and two checkpoints."""
    keys = {
        "MAX_ITER": 12,
        "STEPS": (9,),
        "WARMUP_ITERS": 4,
        "BASE_LR": 0.05,
        "CHECKPOINT_PERIOD": 5,
        "IMS_PER_BATCH": 2,
    }
    cfg = solver_config(engine, {**keys, **solver})
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TEST = ("toy",)
    cfg.TEST.EVAL_PERIOD = 5
    cfg.SEED = 3
    cfg.OUTPUT_DIR = str(output_dir)
    return cfg


def toy_training(engine: Engine, case: str) -> dict[str, Any]:
    """Weights after a training, its last evaluation, and the scalars in metrics.json by iteration."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = toy_trainer_class(engine)(toy_config(engine, folder))
        trainer.resume_or_load(resume=False)
        trainer.train()
        lines = [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]
        files = sorted(path.name for path in Path(folder).glob("*.pth"))
    timings = ("time", "data_time", "rank_data_time", "eta_seconds")
    return {
        "weight": trainer.model.line.weight.flatten().tolist(),
        "bias": trainer.model.line.bias.tolist(),
        "results": trainer._last_eval_results,
        "metrics": {
            str(line["iteration"]): {k: v for k, v in line.items() if k not in (*timings, "iteration")}
            for line in lines
        },
        "names": sorted({name for line in lines for name in line}),
        "files": files,
        "state": sorted(trainer.state_dict()),
        "hook_states": trainer.state_dict()["hooks"],
    }


def resumed_training(engine: Engine, case: str) -> dict[str, Any]:
    """Weights, momentum and iteration after going on from a checkpoint that detectron2 wrote after iteration 4."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(GOLDEN_CHECKPOINT, Path(folder) / "model_0000004.pth")
        (Path(folder) / "last_checkpoint").write_text("model_0000004.pth")
        trainer = toy_trainer_class(engine)(toy_config(engine, folder))
        trainer.resume_or_load(resume=True)
        start, rate = trainer.start_iter, trainer.optimizer.param_groups[0]["lr"]
        trainer.train()
    state = trainer.optimizer.state_dict()["state"]
    return {
        "start": start,
        "rate": rate,
        "weight": trainer.model.line.weight.flatten().tolist(),
        "momentum": [state[index]["momentum_buffer"].flatten().tolist() for index in sorted(state)],
    }


def write_golden_checkpoint(engine: Engine) -> None:
    """The checkpoint after iteration 4 of the toy training."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = toy_trainer_class(engine)(toy_config(engine, folder))
        trainer.train()
        shutil.copy(Path(folder) / "model_0000004.pth", GOLDEN_CHECKPOINT)


# --- training a detector --------------------------------------------------------------------------------------------
def detector_config(engine: Engine, fpn: bool, **keys: Any) -> Any:
    """A Faster R-CNN with a thin ResNet-50 and one class, on the CPU."""
    cfg = engine.get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 4
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    if fpn:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.OUT_CHANNELS = 8
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
        cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    return cfg


DETECTORS: dict[str, bool] = {"c4": False, "fpn": True}


def detector_training(engine: Engine, case: str) -> dict[str, list[float]]:
    """Losses of three steps of DefaultTrainer on random images, one batch without any lesion."""
    generator = torch.Generator().manual_seed(0)

    def example(image_id: int, boxes: list[list[float]]) -> dict[str, Any]:
        instances = engine.Instances((96, 128))
        instances.gt_boxes = engine.Boxes(torch.tensor(boxes).reshape(-1, 4))
        instances.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
        image = torch.rand(3, 96, 128, generator=generator) * 255
        return {"image": image, "instances": instances, "height": 96, "width": 128, "image_id": image_id}

    batches = [
        [example(0, [[10.0, 20.0, 60.0, 70.0]]), example(1, [])],
        [example(2, [[30.0, 5.0, 90.0, 80.0], [0.0, 0.0, 40.0, 40.0]]), example(3, [[64.0, 8.0, 127.0, 90.0]])],
        [example(4, []), example(5, [])],
    ]

    class DetectorTrainer(engine.DefaultTrainer):  # type: ignore[name-defined]
        @classmethod
        def build_model(cls, cfg: Any) -> nn.Module:
            model = engine.build_model(cfg)
            with torch.no_grad():
                for _, parameter in sorted(model.named_parameters()):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
            return model

        @classmethod
        def build_train_loader(cls, cfg: Any) -> Any:
            return batches

    with tempfile.TemporaryDirectory() as folder:
        cfg = detector_config(engine, DETECTORS[case])
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 3, 0.01, 0, ()
        cfg.DATASETS.TEST = ()
        cfg.OUTPUT_DIR = folder
        trainer = DetectorTrainer(cfg)
        torch.manual_seed(1)  # the anchors and proposals that are sampled
        trainer.train()
        histories = trainer.storage.histories()
        return {name: [v for v, _ in history.values()] for name, history in histories.items() if "loss" in name}


CASES: dict[str, tuple[Any, list[str]]] = {
    "learning_rates": (learning_rates, list(SCHEDULES)),
    "parameter_groups": (parameter_groups, list(GROUPS)),
    "storage_values": (storage_values, ["storage"]),
    "toy_training": (toy_training, ["training"]),
    "detector_training": (detector_training, list(DETECTORS)),
    "resumed_training": (resumed_training, ["from_detectron2"]),
}


def compute(engine: Engine, group: str, case: str) -> Any:
    """The numbers of one case, as JSON gives them back."""
    return json.loads(json.dumps(CASES[group][0](engine, case)))


def golden() -> dict[str, dict[str, Any]]:
    """The committed numbers of the real detectron2: group -> case -> numbers."""
    return json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    engine = engines.load(engines.DETECTRON2)
    write_golden_checkpoint(engine)
    numbers = {group: {case: compute(engine, group, case) for case in names} for group, (_, names) in CASES.items()}
    GOLDEN.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
