"""Region features of the dual branch on one thread: shared maps, the cache of frozen features, and peak memory.

Contenders share their weights and take turns in one process; seconds are those of the processor. Memory is that of a
process of its own, without loader processes.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

from benchmarks.memory import peak_mib
from mammo_d2.config.loading import load_config
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.framework import EventStorage, build_model
from mammo_d2.modeling.backbone.vgg_m import SURROUNDINGS, WINDOW, WINDOW_CELLS

# A WeaklySupervisedRCNN with SlidingWindowRegions and DualBranchROIHeads.
Model = Any

CONFIG = "configs/dual_branch/VGGM128_cls_det_rs_cached.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", default=CONFIG, help="a frozen dual branch on VGG-M")
    parser.add_argument("--rounds", type=int, default=2, help="counted turns of each contender")
    parser.add_argument("--batch", type=int, default=8, help="single windows that go through the network together")
    parser.add_argument("--images", type=int, default=3, help="images of an epoch")
    parser.add_argument("--accumulate", type=int, default=3, help="rounds without cache of the step's memory")
    parser.add_argument("--output", default="", help="also write the figures to this JSON file")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")


def run(args: argparse.Namespace) -> dict:
    """Run the benchmark on one thread and print tables.

    Returns:
        {"features": {contender: {"median_s", "ratio", "largest_difference", "relative_difference"}}, "windows": number,
        "epoch": {contender: {"load_s", "step_s"}} per image, "epoch_ratio": {what: ratio},
        "memory": {mode: {"regions", "peak_mib" after each round and after the step}}}.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    opts = [*args.opts, "MODEL.DEVICE", "cpu"]
    figures: dict[str, Any] = _features(load_config(args.config_file, opts), args.rounds, args.batch)
    with tempfile.TemporaryDirectory() as folder:
        records = [write_image(Path(folder), number, args.config_file, opts) for number in range(args.images)]
        figures |= _epochs(args.config_file, opts, folder, records, args.rounds)
        jobs = [("cached features", True, None), ("frozen, no cache", False, args.accumulate)]
        figures["memory"] = {}
        for name, cached, rounds in jobs:
            if rounds == 0:
                continue
            job = (args.config_file, opts, folder, records, cached, rounds)
            figures["memory"][name] = in_new_process(training_step_memory, job)
    rows = []
    for name, found in figures["memory"].items():
        peaks = found["peak_mib"]
        shown = ", ".join(f"{peak:.0f}" for peak in dict.fromkeys([*peaks[:3], peaks[-2], peaks[-1]]))
        rows.append([name, found["regions"], found["images"], shown, max(peaks)])
    headers = ("training step", "regions/image", "images", "MiB after rounds 1, 2, 3, the last, the step", "peak MiB")
    print(tabulate(rows, headers, floatfmt=".0f"))
    if args.output:
        with open(args.output, "w") as file:
            json.dump(figures, file, indent=1)
    return figures


# --- shared maps ----------------------------------------------------------------------------------------------------
def _features(cfg: Any, rounds: int, batch: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model: Model = build_model(cfg).eval()
    height, width = cfg.INPUT.SIZE
    boxes = model.proposal_generator.windows((height, width), None)  # all windows of the image
    image = torch.randn(1, len(cfg.MODEL.PIXEL_MEAN), height, width, generator=torch.Generator().manual_seed(0)) * 50
    contenders: dict[str, Callable[[], Tensor]] = {
        "shared maps": lambda: model.roi_heads.encoder(model.backbone(image)["conv5"], [boxes]),
        "each window in its surroundings": lambda: window_codes(model, image, boxes, batch),
        "each window padded inside (not equal)": lambda: padded_window_codes(model, image, boxes, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    codes = {}
    with torch.inference_mode():
        for number in range(rounds + 1):  # the first, which allocates, is not counted
            for name, contender in contenders.items():
                if number == 0 and name != "shared maps":
                    continue  # windows reach their speed within the first few
                start = time.process_time()
                codes[name] = contender()
                if number:
                    seconds[name].append(time.process_time() - start)
    shared, figures = codes["shared maps"], {}
    for name, found in codes.items():
        difference = float((found - shared).abs().max())
        figures[name] = {
            "median_s": statistics.median(seconds[name]),
            "ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds["shared maps"], strict=True)),
            "largest_difference": difference,
            "relative_difference": difference / float(shared.abs().max()),
        }
    headers = (f"{len(boxes)} windows of {height}x{width}", "median CPU s", "ratio", "largest difference", "relative")
    rows = [[name, *values.values()] for name, values in figures.items()]
    print(tabulate(rows, headers, floatfmt=("", ".2f", ".2f", ".1e", ".1e")))
    return {"features": figures, "windows": len(boxes)}


def window_codes(model: Model, image: Tensor, boxes: Tensor, batch: int) -> Tensor:
    """Codes (m, D) of windows cut out of a normalised image (1, C, H, W) with the surroundings that they see."""
    padded = F.pad(image, SURROUNDINGS * 2)
    side = WINDOW + sum(SURROUNDINGS)
    return _codes_of_crops(model, model.backbone.without_padding, padded, boxes, side, batch)


def padded_window_codes(model: Model, image: Tensor, boxes: Tensor, batch: int) -> Tensor:
    """Codes of the windows alone, with the published network's zero padding inside: other numbers at their borders."""
    return _codes_of_crops(model, lambda x: model.backbone.windows(x)["conv5"], image, boxes, WINDOW, batch)


def _codes_of_crops(
    model: Model, layers: Callable[[Tensor], Tensor], image: Tensor, boxes: Tensor, side: int, batch: int
) -> Tensor:
    """Layers window by window, then one product for all: the encoder's rounding depends on how many rows it gets."""
    corners = boxes[:, :2].int().tolist()
    cells = []
    for first in range(0, len(corners), batch):
        crops = torch.cat([image[:, :, y : y + side, x : x + side] for x, y in corners[first : first + batch]])
        cells.append(layers(crops))
    assert cells[0].shape[2:] == (WINDOW_CELLS, WINDOW_CELLS)
    whole = torch.tensor([[0.0, 0.0, WINDOW, WINDOW]])
    return model.roi_heads.encoder(torch.cat(cells), [whole] * len(corners))


# --- cache ----------------------------------------------------------------------------------------------------------
def write_image(folder: Path, number: int, config_file: str, opts: list[str]) -> dict[str, Any]:
    """A 12-bit breast of noise that fills most of INPUT.SIZE as a 16-bit PNG, and its dataset record."""
    height, width = load_config(config_file, opts).INPUT.SIZE
    y, x = np.mgrid[:height, :width]
    breast = ((y / height - 0.5) / 0.48) ** 2 + (x / width / 0.8) ** 2 < 1
    noise = cv2.GaussianBlur(np.random.default_rng(number).standard_normal((height, width)), (0, 0), 8) * 8000
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), np.where(breast, 1500 + noise, 0).clip(0, 4095).astype(np.uint16))
    labels = {"benign": number % 2, "malignant": 1}
    record = {"file_name": str(path), "image_id": number, "height": height, "width": width, "annotations": []}
    return {**record, "labels": labels, "laterality": "L", "view": "MLO"}


def _epochs(config_file: str, opts: list[str], folder: str, records: list[dict], rounds: int) -> dict[str, Any]:
    settings = {
        "no cache": ("MODEL.DUAL_BRANCH.CACHE_DIR", ""),
        "cached": ("MODEL.DUAL_BRANCH.CACHE_DIR", folder),
        "no cache, images in memory": ("MODEL.DUAL_BRANCH.CACHE_DIR", "", "DATALOADER.CACHE_MB", 1_000_000),
        "cached, images in memory": ("MODEL.DUAL_BRANCH.CACHE_DIR", folder, "DATALOADER.CACHE_MB", 1_000_000),
    }
    contenders = {}
    for name, more in settings.items():
        cfg = load_config(config_file, [*opts, *map(str, more)])
        torch.manual_seed(0)
        contenders[name] = (MammoMapper(cfg, is_train=True), build_model(cfg).train())
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(rounds + 1):  # the first fills the caches
        for name, (mapper, model) in contenders.items():
            # Without a cache all epochs are alike; the one with images from memory still has to read them once.
            parts = [_timed(mapper, model, record, number > 0) for record in records]
            if number:
                seconds[name].append(tuple(float(np.mean(part)) for part in zip(*parts, strict=True)))  # type: ignore[arg-type]
    figures = {
        name: {
            "load_s": statistics.median(load for load, _ in found),
            "step_s": statistics.median(step for _, step in found),
        }
        for name, found in seconds.items()
    }
    total = {name: [load + step for load, step in found] for name, found in seconds.items()}
    step = {name: [step for _, step in found] for name, found in seconds.items()}
    ratios = {
        "model": _ratio(step["no cache"], step["cached"]),
        "images read from disk": _ratio(total["no cache"], total["cached"]),
        "images in memory": _ratio(total["no cache, images in memory"], total["cached, images in memory"]),
    }
    rows = [[name, *values.values()] for name, values in figures.items()]
    print(tabulate(rows, ("epoch, per image", "loading, CPU s", "training, CPU s"), floatfmt=".3f"))
    print(tabulate(ratios.items(), ("epoch without cache / with", "ratio"), floatfmt=".1f"))
    return {"epoch": figures, "epoch_ratio": ratios}


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def _timed(mapper: MammoMapper, model: Model, record: dict, counts: bool) -> tuple[float, float]:
    """Seconds of loading an image and of training on it."""
    start = time.process_time()
    sample = mapper(record)
    loaded = time.process_time()
    if counts or getattr(model, "cache", None) is not None:
        _train(model, [sample])
    return loaded - start, time.process_time() - loaded


def _train(model: Model, samples: list[dict]) -> None:
    with EventStorage():
        sum(model(samples).values()).backward()


# --- memory ---------------------------------------------------------------------------------------------------------
def training_step_memory(
    config_file: str, opts: list[str], folder: str, records: list[dict], cached: bool, rounds: int | None
) -> dict[str, Any]:
    """Peak memory of one step of SOLVER.ACCUMULATE rounds of SOLVER.IMS_PER_BATCH images, read anew for each round.

    Args:
        config_file, opts: the configuration.
        folder: of the cache.
        records: images that take turns.
        cached: use the cache.
        rounds: other than SOLVER.ACCUMULATE.

    Returns:
        Mean "regions" of an image, "images" of the step, "peak_mib" after every round and after the step.
    """
    torch.set_num_threads(1)
    cfg = load_config(config_file, [*opts, "MODEL.DUAL_BRANCH.CACHE_DIR", folder if cached else ""])
    torch.manual_seed(0)
    mapper = MammoMapper(cfg, is_train=True)
    model: Model = build_model(cfg).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], cfg.SOLVER.BASE_LR)
    turns = _endless(records)
    size, count = cfg.SOLVER.IMS_PER_BATCH, rounds or cfg.SOLVER.ACCUMULATE
    peaks, regions = [], []
    for _ in range(count):
        samples = [mapper(next(turns)) for _ in range(size)]
        windows = model.proposal_generator.windows
        regions += [len(windows(tuple(sample["image"].shape[1:]), sample.get("tissue"))) for sample in samples]
        _train(model, samples)
        peaks.append(peak_mib())
    optimizer.step()
    return {"regions": float(np.mean(regions)), "images": size * count, "peak_mib": [*peaks, peak_mib()]}


def in_new_process(function: Callable[..., Any], args: tuple) -> Any:
    """The result of a call in a process that did nothing before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def _endless(records: list[dict]) -> Iterator[dict]:
    while True:
        yield from records
