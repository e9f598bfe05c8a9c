"""One contender of the training benchmark: a process that makes a training step whenever it is asked to."""

import argparse
import json
import os
import resource
import sys
import time

import torch

from mammo_d2.config.loading import load_config
from mammo_d2.engine.step import StepTrainer
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import Boxes, EventStorage, Instances
from mammo_d2.framework.weights.weight_files import read_weight_file


def synthetic_batch(cfg) -> list[dict]:
    """IMS_PER_BATCH random images of INPUT.SIZE; every other one has three boxes, the rest are negative."""
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
        image = torch.rand(len(cfg.MODEL.PIXEL_MEAN), height, width, generator=generator) * 255
        batch.append({"image": image, "instances": instances, "height": height, "width": width})
    return batch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file")
    parser.add_argument("--weights")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--torchvision-roi-align", action="store_true")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # Neighbours on the machine change the CPU seconds of one thread less than they change the wall clock's.
    clock = time.process_time if args.threads == 1 else time.perf_counter
    if args.torchvision_roi_align:
        from mammo_d2.framework.embedded.backbone.layers import ROIAlign  # of this engine only

        ROIAlign.trains_sparsely = lambda self, input: False  # type: ignore[method-assign]
    cfg = load_config(args.config_file, args.opts)
    torch.manual_seed(0)
    model = MammoTrainer.build_model(cfg)
    if os.path.isfile(args.weights):  # the first contender's weights are everybody's
        model.load_state_dict(read_weight_file(args.weights)["model"])
    else:
        torch.save({"model": model.state_dict()}, args.weights)
    batch = synthetic_batch(cfg)
    trainer = StepTrainer(cfg, model, [], MammoTrainer.build_optimizer(cfg, model))
    iteration = 0
    with EventStorage(0) as storage:
        for request in sys.stdin:
            if request.strip() == "ready":
                print(json.dumps({"ready": True}), flush=True)
                continue
            trainer._data_loader_iter_obj = iter([batch] * cfg.SOLVER.ACCUMULATE)
            trainer.iter = storage.iter = iteration
            torch.manual_seed(iteration)
            start = clock()
            trainer.run_step()
            seconds = clock() - start
            iteration += 1
            loss = storage.latest()["total_loss"][0]
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"seconds": seconds, "loss": loss, "peak_mb": peak_mb}), flush=True)


if __name__ == "__main__":
    main()
