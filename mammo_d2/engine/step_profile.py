"""Where the time of a training step goes: its parts in CPU and wall seconds, the loader's functions, the operators.

The parts are taken by clocks around the trainer's own functions, the loader's functions by ``cProfile`` and the
operators by ``torch.profiler``, each in steps of its own, so that none disturbs the others.
"""

from __future__ import annotations

import cProfile
import functools
import itertools
import pstats
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from mammo_d2.data.breast.breast_window import BreastWindow
from mammo_d2.data.breast.tissue_map import tissue_map
from mammo_d2.data.lesions.patch_store import PatchStore, cut_patch
from mammo_d2.data.loading.augmentation import Augmentation
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.data.loading.resize import resize_image
from mammo_d2.data.reading.intensity import scale_intensity
from mammo_d2.data.reading.reader import read_image
from mammo_d2.engine.cost import peak_memory
from mammo_d2.engine.trainer import MammoTrainer, unwrap
from mammo_d2.framework import CfgNode, EventStorage, seed_all_rng
from mammo_d2.framework.machine import machine_facts

#: Parts of a step, in its order.
LOADER, TRANSFER, FORWARD, BACKWARD, UPDATE, HOOKS, OTHER = STEP_PARTS = (
    "loader", "transfer and normalisation", "forward", "backward", "optimizer", "hooks", "other",
)  # fmt: skip

# Functions of the loader, none inside another; the name in the table is that of the work.
_LOADER_FUNCTIONS: dict[str, tuple[Callable, ...]] = {
    "reading and decoding": (read_image,),
    "grey levels": (scale_intensity,),
    "resizing": (resize_image,),
    "breast window": (BreastWindow.__call__,),
    "tissue map": (tissue_map,),
    "augmentation": (Augmentation.__call__,),
    "tensors": (MammoMapper.to_tensor,),
    "opening stored images": (PatchStore.open,),
    "cutting patches": (cut_patch,),
}


class PartClock:
    """Seconds of named parts that do not overlap: while a part runs inside another, the outer one's clock stands.

    Attributes:
        cpu, wall: {part: seconds}.
    """

    def __init__(self, device: str = "cpu"):
        """
        Args:
            device: where the model is; a GPU is waited for wherever a part begins or ends.
        """
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.wall: defaultdict[str, float] = defaultdict(float)
        self._gpu = torch.device(device).type == "cuda"
        self._open: list[str] = []
        self._since = (0.0, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block is the part ``name``."""
        self._take()
        self._open.append(name)
        try:
            yield
        finally:
            self._take()
            self._open.pop()

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Every call of a method of an object becomes the part ``name``."""
        function = getattr(owner, method)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        setattr(owner, method, timed)

    def _take(self) -> None:
        """Give the time since the last change to the part that is running."""
        if self._gpu:
            torch.cuda.synchronize()
        now = (time.process_time(), time.perf_counter())
        if self._open:
            self.cpu[self._open[-1]] += now[0] - self._since[0]
            self.wall[self._open[-1]] += now[1] - self._since[1]
        self._since = now


def profile_training(
    trainer_class: type[MammoTrainer], cfg: CfgNode, steps: int, warmup: int = 1, operators: int = 12
) -> dict[str, Any]:
    """Profile the first steps of a training; its data sets are registered. Nothing is evaluated or kept.

    Args:
        trainer_class: of the training.
        cfg: its config, with a SEED of at least 0; OUTPUT_DIR gets the events of the steps. With
            DATALOADER.NUM_WORKERS 0 the loader's CPU time is that of this process; with workers that of waiting.
        steps: counted.
        warmup: steps before that.
        operators: number of operators in the result.

    Returns:
        A dict for JSON. Seconds are of a step, "share" is of the step's CPU seconds:
        "step" {"cpu_s", "wall_s", "images", "images_per_s"}; "parts" {part: {"cpu_s", "wall_s", "share"}};
        "loader" {"first_cpu_s", "again_cpu_s" (the same images once more: from the cache, if there is one),
        "functions" {what: CPU seconds}}; "operators" [{"name", "calls", "self_s", "share"}] on the device;
        "memory"; "machine"; "loss", that of the last counted step.

    Raises:
        ValueError: no step.
    """
    if steps < 1 or warmup < 0:
        raise ValueError(f"a profile needs at least 1 step and no negative warm-up, not {steps} and {warmup}")
    cfg = _without_periodic_work(cfg, warmup + steps + 1)
    seed_all_rng(cfg.SEED)  # as the set-up of a training does
    trainer = trainer_class(cfg)
    clock = PartClock(cfg.MODEL.DEVICE)
    loss = _run_steps(trainer, clock, steps, warmup)
    found: dict[str, Any] = {"steps": steps, "warmup": warmup}
    cpu, wall = sum(clock.cpu.values()) / steps, sum(clock.wall.values()) / steps
    images = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATE
    found["step"] = {"cpu_s": cpu, "wall_s": wall, "images": images, "images_per_s": images / wall}
    found["parts"] = {
        name: {"cpu_s": clock.cpu[name] / steps, "wall_s": clock.wall[name] / steps,
               "share": clock.cpu[name] / steps / cpu if cpu else 0.0}
        for name in STEP_PARTS
    }  # fmt: skip
    found["loader"] = _loader_functions(trainer_class, cfg, steps * cfg.SOLVER.ACCUMULATE)
    found["operators"] = _operators(trainer, operators) if operators else []
    found |= {"memory": peak_memory(), "loss": loss, "machine": machine_facts()}
    return found


def _without_periodic_work(cfg: CfgNode, iterations: int) -> CfgNode:
    """The config of a training that evaluates and saves nothing within its iterations."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.EPOCHS = 0
    cfg.SOLVER.MAX_ITER = cfg.SOLVER.CHECKPOINT_PERIOD = max(cfg.SOLVER.MAX_ITER, iterations + 1)
    cfg.TEST.EVAL_PERIOD = cfg.TEST.LOSS_PERIOD = 0
    cfg.TEST.BEST_METRIC = ""
    cfg.freeze()
    return cfg


def _run_steps(trainer: MammoTrainer, clock: PartClock, steps: int, warmup: int) -> float:
    """Make the steps with all of the trainer's hooks; the counted ones are on the clock. The last total loss."""
    step, loss = trainer._step, 0.0
    with EventStorage(0) as trainer.storage:
        trainer.before_train()
        for trainer.iter in range(warmup + steps):
            if trainer.iter == warmup:
                iterator = step._data_loader_iter
                step._data_loader_iter_obj = iter(_Timed(iterator, clock))
                clock.wrap(step, "_forward", FORWARD)
                clock.wrap(step, "_backward", BACKWARD)
                clock.wrap(step, "_update", UPDATE)
                model = unwrap(trainer.model)
                if hasattr(model, "preprocess_image"):
                    clock.wrap(model, "preprocess_image", TRANSFER)
                clock.wrap(trainer, "before_step", HOOKS)
                clock.wrap(trainer, "after_step", HOOKS)
                clock.wrap(trainer, "run_step", OTHER)
            trainer.before_step()
            trainer.run_step()
            loss = trainer.storage.latest()["total_loss"][0]
            trainer.after_step()
    return float(loss)


class _Timed:
    """The batches of an iterator; taking one is the part ``LOADER``."""

    def __init__(self, batches: Iterator[Any], clock: PartClock):
        self._batches, self._clock = batches, clock

    def __iter__(self) -> _Timed:
        return self

    def __next__(self) -> Any:
        with self._clock.part(LOADER):
            return next(self._batches)


def _loader_functions(trainer_class: type[MammoTrainer], cfg: CfgNode, batches: int) -> dict[str, Any]:
    """The first batches of a fresh loader, twice: what its functions take, and what the second time costs."""
    loader = trainer_class.build_train_loader(cfg)
    clock = PartClock()
    profiler = cProfile.Profile(time.process_time)
    with clock.part("first"):
        profiler.runcall(_take, loader, batches)
    with clock.part("again"):
        _take(loader, batches)
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]  # {function: (calls, ..., self, cumulative, ...)}
    codes = {
        (code.co_filename, code.co_firstlineno, code.co_name): what
        for what, functions in _LOADER_FUNCTIONS.items()
        for code in (function.__code__ for function in functions)
    }
    seconds: dict[str, float] = {}
    for key, (_, _, _, cumulative, _) in stats.items():
        if key in codes:
            seconds[codes[key]] = seconds.get(codes[key], 0.0) + cumulative / batches
    first = clock.cpu["first"] / batches
    ordered = {what: seconds[what] for what in _LOADER_FUNCTIONS if what in seconds}
    ordered["other"] = max(0.0, first - sum(seconds.values()))
    return {"first_cpu_s": first, "again_cpu_s": clock.cpu["again"] / batches, "functions": ordered}


def _take(loader: Any, batches: int) -> None:
    for _ in itertools.islice(loader, batches):
        pass


def _operators(trainer: MammoTrainer, count: int) -> list[dict[str, Any]]:
    """The operators of one more step that take longest by themselves, on the device of the model."""
    gpu = torch.device(trainer.cfg.MODEL.DEVICE).type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with EventStorage(trainer.iter) as trainer.storage, profile(activities=activities) as profiler:
        trainer.run_step()
    events = profiler.key_averages()

    def self_time(event: Any) -> float:
        return event.self_device_time_total if gpu else event.self_cpu_time_total

    total = sum(self_time(event) for event in events) or 1.0
    return [
        {"name": event.key, "calls": event.count, "self_s": self_time(event) / 1e6, "share": self_time(event) / total}
        for event in sorted(events, key=self_time, reverse=True)[:count]
    ]
