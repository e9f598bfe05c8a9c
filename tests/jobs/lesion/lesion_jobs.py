"""A tiny job of the lesion classifier for tests: data, context network, config."""

import argparse
from pathlib import Path

import torch
from torch import nn

from mammo_d2.config.loading import load_config
from mammo_d2.framework import build_model
from mammo_d2.jobs import job
from tests.data.lesion_dataset import write_lesion_dataset

CONTEXT = """
MODEL:
  META_ARCHITECTURE: GMIC
  PIXEL_MEAN: [30.0]
  PIXEL_STD: [30.0]
  BACKBONE: {NAME: ResNet22}
  RESNET22: {STEM_CHANNELS: 2}
  GMIC: {VARIANT: loc}
DATASETS: {CATEGORIES: [benign, malignant]}
INPUT: {SIZE: [96, 80]}
"""

JOB = """
JOB: LesionContextJob
MODEL:
  META_ARCHITECTURE: LesionContextClassifier
  DEVICE: cpu
  WEIGHTS: ""
  PIXEL_MEAN: [30.0]
  PIXEL_STD: [30.0]
  LESION:
    EPOCH: [2, 2, 6, 6]
    WINDOW_SIDES: [16, 40]
    PATCH_SIZE: 16
    WINDOWS: 5
    NETWORK: tiny
    EMBEDDING: 4
    MAP_SIZE: [6, 5]
    CHANNELS: 4
    STORED_EPOCHS: 2
    PATCH_STAGE: [SOLVER.IMS_PER_BATCH, 4]
    CONTEXT_STAGE: [SOLVER.IMS_PER_BATCH, 8, SOLVER.BASE_LR, 0.01]
DATASETS:
  CATEGORIES: [benign, malignant]
  TRAIN: [lesions_train]
  TEST: [lesions_train]
DATALOADER: {NUM_WORKERS: 0}
SOLVER: {OPTIMIZER: Adam, BASE_LR: 0.001, MAX_ITER: 6, STEPS: [], WARMUP_ITERS: 0, CHECKPOINT_PERIOD: 2}
TEST: {EVALUATORS: [lesion], EVAL_PERIOD: 3, BEST_METRIC: lesion/auc}
SEED: 3
"""


def tiny_network():
    """A patch network without embedding layer and its number of features; registered as "tiny" by the tests."""
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU()), 6


def write_job(folder: Path) -> Path:
    """Write the data set, ``context.yaml``, ``context.pth`` and ``job.yaml``; returns the folder."""
    write_lesion_dataset(folder)
    (folder / "context.yaml").write_text(CONTEXT)
    (folder / "job.yaml").write_text(JOB)
    torch.manual_seed(0)
    context = load_config(str(folder / "context.yaml"), ["MODEL.DEVICE", "cpu"])
    torch.save({"model": build_model(context).state_dict()}, folder / "context.pth")
    return folder


def places(folder: Path) -> list[str]:
    """Overrides that name the job's files."""
    opts = ["DATASETS.ROOT", str(folder), "MODEL.LESION.CONTEXT_CONFIG", str(folder / "context.yaml")]
    return [*opts, "MODEL.LESION.CONTEXT_WEIGHTS", str(folder / "context.pth")]


def run(folder: Path, *overrides: str, out: str = "out", **flags: bool):
    """The job in this process; ``resume``, ``eval_only``, ``shared_only`` as flags."""
    opts = [*places(folder), "OUTPUT_DIR", str(folder / out), *overrides]
    switches = {"resume": False, "eval_only": False, "shared_only": False, "strict_weights": False} | flags
    return job.main(argparse.Namespace(config_file=str(folder / "job.yaml"), opts=opts, num_gpus=0, **switches))
