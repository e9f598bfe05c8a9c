"""What each process does in the tests of launch; writes its findings to FOLDER/rankN.json.

torchrun --nproc-per-node 2 -m tests.framework.launch_jobs FOLDER
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from mammo_d2.framework import ENGINE, DatasetEvaluator, InferenceSampler, comm, launch
from mammo_d2.framework.embedded.engine.job_setup import create_ddp_model
from tests.framework import engines, job_cases


class Gather(DatasetEvaluator):
    """All images and the rank that saw each."""

    def reset(self) -> None:
        self.seen: list[list[int]] = []

    def process(self, inputs: list[int], outputs: list[int]) -> None:
        self.seen += [[image, comm.get_rank()] for image in outputs]

    def evaluate(self) -> dict[str, Any] | None:
        parts = comm.gather(self.seen)
        return {"seen": [pair for part in parts for pair in part]} if comm.is_main_process() else None


def gradient_of_a_step() -> list[float]:
    """The gradient after one distributed step in which rank r has the batch (r + 1, r + 2)."""
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)
    wrapped = create_ddp_model(model, broadcast_buffers=False)
    batch = torch.tensor([[comm.get_rank() + 1.0], [comm.get_rank() + 2.0]])
    wrapped(batch).square().mean().backward()
    return [model.weight.grad.item(), model.bias.grad.item()]


def main(folder: str) -> None:
    """Run the checks that need several processes."""
    torch.set_num_threads(1)
    rank = comm.get_rank()
    engine = engines.load(ENGINE)
    found = {
        "rank": rank,
        "size": comm.get_world_size(),
        "local": comm.get_local_rank(),
        "main": comm.is_main_process(),
        "all_gather": comm.all_gather({"rank": rank}),
        "gather": comm.gather(rank * 10),
        "gather_to_1": comm.gather(rank, dst=1),
        "seed": comm.shared_random_seed(),
        "results": engine.inference_on_dataset(
            lambda batch: batch, DataLoader(range(5), sampler=InferenceSampler(5), collate_fn=list), Gather()
        ),
    }
    if ENGINE == "embedded":  # detectron2's wrapper needs GPUs
        found["gradient"] = gradient_of_a_step()
        trainer = job_cases.toy_trainer_class(engine)(job_cases.toy_config(engine, folder))
        trainer.train()
        found["weight"] = trainer.model.module.line.weight.flatten().tolist()
        found["toy"] = trainer._last_eval_results
    comm.synchronize()
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(found))


def thread_names() -> list[str]:
    """Names of the threads of this process, as Linux knows them."""
    return [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


if __name__ == "__main__":
    launch(main, 1, args=(sys.argv[1],))
    if sys.platform == "linux":
        (Path(sys.argv[1]) / f"threads{os.environ['RANK']}.json").write_text(json.dumps(thread_names()))
