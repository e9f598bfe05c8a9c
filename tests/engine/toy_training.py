"""A tiny training job on a toy data set, for tests of the trainer; can be run as a process that kills itself.

``python -m tests.engine.toy_training FOLDER KILL_AT[:SIGNAL[:RANK]] [KEY VALUE ...]`` trains and is killed after the
step KILL_AT, before any hook of that step has run. SIGNAL (SIGKILL) goes to all processes of its group; in a job of
several processes under torchrun, where each has a group of its own, all send it, or that of RANK alone.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import comm, launch
from mammo_d2.jobs.job import main as train_main

SETTINGS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.PIXEL_MEAN": "[128.0]",
    "MODEL.PIXEL_STD": "[64.0]",
    "MODEL.BACKBONE.FREEZE_AT": "0",
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "4",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "2",
    "MODEL.ANCHOR_GENERATOR.SIZES": "[[8, 16]]",
    "MODEL.PROPOSAL_GENERATOR.NAME": "TopLikelihoodRPN",
    "MODEL.ROI_HEADS.NAME": "SimilarityRes5ROIHeads",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "8",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": "4",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": "20",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "10",
    "DATASETS.TRAIN": "['toy_train']",
    "DATASETS.TEST": "['toy_train']",
    "INPUT.SIZE": "[64, 48]",
    "INPUT.AUG.SHIFT": "0.05",
    "INPUT.AUG.ROTATION": "10.0",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.BASE_LR": "0.001",
    "SOLVER.WARMUP_ITERS": "2",
    "SOLVER.STEPS": "[4]",
    "SOLVER.MAX_ITER": "6",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.CHECKPOINT_PERIOD": "2",
    "SEED": "3",
}


def run(folder: Path, *overrides: str, resume: bool = False, eval_only: bool = False):
    """Train in this process; the data set lies under ``folder``, the output in ``folder/out`` unless overridden."""
    settings = {**SETTINGS, "DATASETS.ROOT": str(folder), "OUTPUT_DIR": str(folder / "out")}
    settings.update(zip(overrides[::2], overrides[1::2], strict=True))
    opts = [item for pair in settings.items() for item in pair]
    args = argparse.Namespace(
        config_file="", opts=opts, resume=resume, eval_only=eval_only, strict_weights=False, num_gpus=0
    )
    return train_main(args)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    kill_at, kind, rank = [*sys.argv[2].split(":"), "", ""][:3]
    run_step = MammoTrainer.run_step

    def run_step_then_die(self):
        run_step(self)
        if self.iter == int(kill_at) and rank in ("", str(comm.get_rank())):
            os.killpg(0, signal.Signals[kind or "SIGKILL"])

    MammoTrainer.run_step = run_step_then_die
    run_tool(lambda argv: launch(run, 1, args=(Path(argv[0]), *argv[2:])) and 0)
