"""One contender of a training benchmark: it makes a training step whenever it is asked to, in a process of its own."""

import argparse
import json
import os
import sys
import tempfile
import time
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.memory import peak_mib
from mammo_d2.config.loading import load_config
from mammo_d2.core.processes.kept_memory import keep_freed_memory
from mammo_d2.engine.step import StepTrainer
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import Boxes, CfgNode, EventStorage, Instances, SimpleTrainer
from mammo_d2.framework.weights.weight_files import read_weight_file

TRAINERS = ("ours", "plain")
# Random weights: the last normalisation of a residual block, or its sums grow with the depth beyond float16.
_LAST_NORM, _CALM = "conv3.norm.weight", 0.1


def synthetic_batch(cfg: CfgNode) -> list[dict]:
    """IMS_PER_BATCH random images of INPUT.SIZE; every other one has three boxes, the rest are negative.

    Labels say the same: the categories of the first are present, of the second absent, and so on.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = cfg.INPUT.SIZE
    batch = []
    for index in range(cfg.SOLVER.IMS_PER_BATCH):
        instances = Instances((height, width))
        corners = torch.rand(3 if index % 2 == 0 else 0, 4, generator=generator)
        scale = torch.tensor([width * 0.8, height * 0.8, width * 0.1, height * 0.1])
        x, y, w, h = (corners * scale).unbind(1)
        instances.gt_boxes = Boxes(torch.stack([x, y, x + w + 16, y + h + 16], dim=1))
        instances.gt_classes = torch.zeros(len(corners), dtype=torch.long)
        image = torch.rand(len(cfg.MODEL.PIXEL_MEAN), height, width, generator=generator)
        image = (image - 0.5) * 3.46 if cfg.INPUT.PREPROCESSING == "breast_window" else image * 255
        labels = dict.fromkeys(cfg.DATASETS.CATEGORIES, int(index % 2 == 0))
        batch.append({"image": image, "instances": instances, "height": height, "width": width,
                      "labels": labels, "image_id": index, "file_name": f"synthetic {index}"})  # fmt: skip
    return batch


class StepWorker:
    """A model, one batch and a trainer; steps on request.

    Attributes:
        losses: total loss of each step made.
    """

    def __init__(self, cfg: CfgNode, weights: str, trainer: str = "ours", calm: bool = False, threads: int = 0):
        """
        Args:
            cfg: the config.
            weights: file of the first contender's weights; written if it is not there.
            trainer: "ours" (``StepTrainer``) or "plain" (the engine's ``SimpleTrainer``, and where the config has
                mixed precision on a GPU detectron2's ``AMPTrainer``).
            calm: scale down the residual branches of random weights.
            threads: of torch; 1 measures CPU seconds on a CPU.
        """
        self.cfg = cfg
        self._gpu = torch.device(cfg.MODEL.DEVICE).type == "cuda"
        # Neighbours on the machine change the CPU seconds of one thread less than they change the wall clock's.
        self._clock = time.process_time if threads == 1 and not self._gpu else time.perf_counter
        torch.manual_seed(0)
        model = MammoTrainer.build_model(cfg)
        if os.path.isfile(weights):
            model.load_state_dict(read_weight_file(weights)["model"])
        else:
            if calm:
                calm_down(model)
            torch.save({"model": model.state_dict()}, weights)
        if torch.distributed.is_initialized():
            model = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        self._batch = synthetic_batch(cfg)
        self.trainer = _trainer(trainer, cfg, model)
        self.losses: list[float] = []
        self._storage = EventStorage(0)

    def step(self) -> dict[str, Any]:
        """{"seconds", "loss", "peak_mb"}: of the process, on a GPU what torch has allocated there."""
        start = self._step()
        seconds = self._clock() - start
        peak = torch.cuda.max_memory_allocated() / 2**20 if self._gpu else peak_mib()
        return {"seconds": seconds, "loss": self.losses[-1], "peak_mb": peak}

    def busy(self) -> dict[str, Any]:
        """{"device_s"}: seconds that the GPU computes in a step, from its kernels; None on a CPU."""
        if not self._gpu:
            self._step()
            return {"device_s": None}
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            self._step()
        return {"device_s": sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6}

    def _step(self) -> float:
        """Make a step; when it began."""
        trainer, iteration = self.trainer, len(self.losses)
        trainer._data_loader_iter_obj = iter([self._batch] * self.cfg.SOLVER.ACCUMULATE)
        trainer.iter = self._storage.iter = iteration
        torch.manual_seed(iteration)
        with self._storage:
            self._wait()
            start = self._clock()
            trainer.run_step()
            self._wait()
        self.losses.append(self._storage.latest()["total_loss"][0])
        return start

    def _wait(self) -> None:
        if self._gpu:
            torch.cuda.synchronize()


def calm_down(model: nn.Module) -> None:
    """Scale the last normalisation of every residual block of detectron2's ResNets, in place."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(_LAST_NORM):
                tensor.mul_(_CALM)


def _trainer(kind: str, cfg: CfgNode, model: nn.Module) -> SimpleTrainer:
    optimizer = MammoTrainer.build_optimizer(cfg, model)
    if kind == "ours":
        return StepTrainer(cfg, model, [], optimizer)
    if kind != "plain":
        raise ValueError(f"a trainer is one of {', '.join(TRAINERS)}, not {kind!r}")
    if not cfg.SOLVER.AMP.ENABLED:
        return SimpleTrainer(model, [], optimizer)
    from detectron2.engine import AMPTrainer  # of this engine only

    return AMPTrainer(model, [], optimizer, precision=getattr(torch, cfg.SOLVER.AMP.DTYPE))


def join_alone(cfg: CfgNode) -> None:
    """A process group of this process alone: NCCL on a GPU, gloo on a CPU."""
    backend = "nccl" if torch.device(cfg.MODEL.DEVICE).type == "cuda" else "gloo"
    meeting = tempfile.NamedTemporaryFile(delete=False)  # noqa: SIM115  lives as long as the group
    torch.distributed.init_process_group(backend, init_method=f"file://{meeting.name}", rank=0, world_size=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file")
    parser.add_argument("--weights")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--trainer", choices=TRAINERS, default="ours")
    parser.add_argument("--calm", action="store_true")
    parser.add_argument("--group", action="store_true")
    parser.add_argument("--keep-memory", action="store_true")
    parser.add_argument("--torchvision-roi-align", action="store_true")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if args.keep_memory:  # as the training command does
        keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.torchvision_roi_align:
        from mammo_d2.framework.embedded.backbone.layers import ROIAlign  # of this engine only

        ROIAlign.trains_sparsely = lambda self, input: False  # type: ignore[method-assign]
    cfg = load_config(args.config_file, args.opts)
    if args.group:
        join_alone(cfg)
    worker = StepWorker(cfg, args.weights, args.trainer, args.calm, args.threads)
    answers = {"ready": lambda: {"ready": True}, "step": worker.step, "busy": worker.busy}
    for request in sys.stdin:
        print(json.dumps(answers[request.strip()]()), flush=True)


if __name__ == "__main__":
    main()
