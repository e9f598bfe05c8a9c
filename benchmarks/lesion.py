"""The lesion classifier on one thread: patches per second from the memory-mapped images and the memory of an epoch of
them; the windows of a lesion against one batched forward of as many patches."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tabulate import tabulate

from mammo_d2.config.loading import load_config
from mammo_d2.data.lesions.patch_store import PatchStore
from mammo_d2.data.lesions.patches import LesionPatchMapper, LesionTestMapper, PatchSampler, patch_sources
from mammo_d2.data.lesions.windows import WindowRule
from mammo_d2.data.loading.mapped_images import TrainingImages, UnusableImage
from mammo_d2.framework import build_model

CLASSES = ("benign", "malignant")
GRID, SALIENCY_MAPS = (46, 30), 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=24, help="16-bit images to cut from")
    parser.add_argument("--size", type=int, nargs=2, default=[3328, 2560], help="their rows and columns")
    parser.add_argument("--epoch", type=int, nargs=4, default=[20, 35, 5000, 4945], help="patches of each class")
    parser.add_argument("--sides", type=int, nargs=2, default=[128, 384], help="smallest and largest window")
    parser.add_argument("--patch", type=int, default=256, help="side of a patch")
    parser.add_argument("--networks", nargs="*", default=["densenet121"], help="patch networks; none: reading only")
    parser.add_argument("--windows", type=int, default=100, help="windows of the lesion")
    parser.add_argument("--rounds", type=int, default=3, help="counted turns of each contender")
    parser.add_argument("--threads", type=int, default=1, help="torch and OpenCV threads")
    parser.add_argument("--output", default="", help="also write the figures to this JSON file")


def run(args: argparse.Namespace) -> dict:
    """Run the benchmark and print tables.

    Returns:
        {"reading": of ``read_epoch``, "windows": {network: of ``race_windows``}}.
    """
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        records = write_images(Path(folder), args.images, args.size)
        store = PatchStore(Path(folder) / "store")
        for record in records:
            store.path(record)
        rule = WindowRule(tuple(args.sides))
        reading = read_epoch(records, LesionPatchMapper(store, rule, args.patch, CLASSES), args.epoch)
        print(tabulate(reading.items(), ("reading patches", ""), floatfmt=".1f"))
        mapper = LesionTestMapper(store, rule, args.patch, args.windows)
        windows = {name: race_windows(name, mapper, records[0], args.rounds) for name in args.networks}
    if windows:
        rows = [[name, *values.values()] for name, values in windows.items()]
        print(tabulate(rows, ("network", *next(iter(windows.values()))), floatfmt=".3f"))
    figures = {"reading": reading, "windows": windows}
    if args.output:
        Path(args.output).write_text(json.dumps(figures, indent=1))
    return figures


def write_images(folder: Path, count: int, size: Sequence[int]) -> list[dict]:
    """Write 16-bit noise images and return their records: malignant, benign and two without finding in turns."""
    height, width = size
    records = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 65536, (height, width), dtype=np.uint16)
        path = folder / f"{number}.png"
        if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0]):
            raise OSError(f"{path} could not be written")
        record: dict = {"image_id": number, "file_name": str(path), "height": height, "width": width}
        annotations = []
        labels = dict.fromkeys(CLASSES, 0)
        if number % 4 < 2:
            kind = ("malignant", "benign")[number % 4]
            labels[kind] = 1
            box = [width // 3, height // 3, width // 12, height // 14]
            annotations.append({"bbox": box, "bbox_mode": 1, "category_id": CLASSES.index(kind), "pathology": kind})
        records.append({**record, "annotations": annotations, "labels": labels})
    return records


def read_epoch(records: Sequence[dict], mapper: LesionPatchMapper, epoch: Sequence[int]) -> dict[str, float]:
    """Cut the patches of one training epoch, as training does, and record the memory of the process.

    Anonymous memory is what the process has allocated. Pages of the mapped images are the operating system's: they are
    shared among processes and given back when memory is short.

    Returns:
        ``patches``, ``patches_per_second`` (by the wall clock) and ``patches_per_cpu_second``; in MiB anonymous and
        whole resident memory after a tenth of the epoch and their largest growth from there on (NaN off Linux).
    """
    sources = patch_sources(list(records), CLASSES, smallest=mapper.rule.sides[0], source="benchmark")
    sampler = PatchSampler(sources.pools, epoch, seed=0)
    patches = TrainingImages(sources.records, mapper, 0)
    total, memory = sum(epoch), []
    start, cpu = time.perf_counter(), time.process_time()
    for position in range(total):
        sample = patches[position, sampler.index_at(position)]
        if isinstance(sample, UnusableImage):
            raise sample.error
        if position >= total // 10 and position % max(1, total // 200) == 0:
            memory.append(resident_mib())
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    anonymous, whole = np.array(memory).T
    return {
        "patches": total,
        "patches_per_second": total / seconds,
        "patches_per_cpu_second": total / cpu_seconds,
        "anonymous_mib": float(anonymous[0]),
        "anonymous_growth_mib": float((anonymous - anonymous[0]).max()),
        "resident_mib": float(whole[0]),
        "resident_growth_mib": float((whole - whole[0]).max()),
    }


def resident_mib() -> tuple[float, float]:
    """Anonymous and whole resident memory of this process, MiB; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan"), float("nan")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return tuple(int(fields[key].split()[0]) / 1024 for key in ("RssAnon", "VmRSS"))  # type: ignore[return-value]


def race_windows(network: str, mapper: LesionTestMapper, record: dict, rounds: int) -> dict[str, float]:
    """A lesion's malignancy (reading its windows, both networks) and one forward of as many patches, in turns.

    Returns:
        Medians of CPU seconds: ``lesion_s``, ``forward_s`` (the patch network on one batch) and their median ``ratio``.
    """
    torch.manual_seed(0)
    settings = ["MODEL.META_ARCHITECTURE", "LesionContextClassifier", "MODEL.LESION.NETWORK", network]
    settings += ["MODEL.LESION.MAP_SIZE", str(list(GRID)), "MODEL.LESION.SALIENCY_MAPS", str(SALIENCY_MAPS)]
    settings += ["MODEL.LESION.WINDOWS_PER_FORWARD", str(mapper.count), "MODEL.DEVICE", "cpu"]
    settings += ["MODEL.PIXEL_MEAN", "[60.0]", "MODEL.PIXEL_STD", "[50.0]"]
    model = build_model(load_config("", settings)).eval()
    saliency = torch.rand(SALIENCY_MAPS, *GRID)
    patches = mapper(record)["patches"]

    def lesion() -> None:
        model.forget_embeddings()  # type: ignore[operator]
        model([{**mapper(record), "saliency": saliency}])

    def forward() -> None:
        model.network(model.normalize(patches))  # type: ignore[operator]

    seconds: dict[str, list[float]] = {"lesion_s": [], "forward_s": []}
    with torch.inference_mode():
        for number in range(rounds + 1):  # the first is not counted
            for name, job in (("lesion_s", lesion), ("forward_s", forward)):
                start = time.process_time()
                job()
                if number:
                    seconds[name].append(time.process_time() - start)
    pairs = zip(seconds["lesion_s"], seconds["forward_s"], strict=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {**medians, "ratio": statistics.median(lesion_s / forward_s for lesion_s, forward_s in pairs)}
