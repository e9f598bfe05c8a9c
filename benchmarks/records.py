"""From an annotation file of N images to the first training batch: seconds and memory, with and without a record store.

Three starts, each a process of its own: "list" (DATASETS.RECORD_STORE never), "first" (always, no store yet) and
"second" (always, the store is there). A start registers a training and a test set, looks for shared patients, builds
the training loader with ExamSampler and breast labels and takes a batch from one worker process. Image files are empty:
the mapper reads none, so that only the records count. "worker" is the memory (MiB) that the worker process has for
itself, "private" that of the main process, "peak" its highest resident memory.

Seconds are CPU seconds of the main process, which neighbours on the machine change little.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from benchmarks.memory import peak_mib

STARTS = ("list", "first", "second")
VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))


def write_split(folder: Path, split: str, images: int, per_folder: int) -> None:
    """An annotation file like those of ``mammo-d2 prepare``, written in pieces, and empty image files."""
    rng = random.Random(split)
    annotations: list[str] = []
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    with open(folder / "annotations" / f"{split}.json", "w") as file:
        file.write(
            '{"info": {}, "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}], "images": ['
        )
        for number in range(1, images + 1):
            name = _touch(
                folder / "images", f"{split}{number // per_folder:06d}", f"{number:07d}.png", number % per_folder
            )
            patient, (side, view) = f"{split}{number // 4:032x}", VIEWS[number % 4]
            found = rng.random() < 0.05
            image = {
                "id": number, "file_name": name, "height": 2294, "width": 1914, "patient_id": patient,
                "exam_id": f"{patient}.1", "laterality": side, "view": view,
                "labels": {"benign": int(rng.random() < 0.1), "malignant": int(found)},
                "birads": 2, "density": "B", "pixel_spacing": [0.07, 0.07], "pixel_spacing_source": "PixelSpacing",
                "breast_box": [0, 10, 1900, 2200],
                "source": {"file": f"{patient}/{number}.dcm", "sha256": f"{rng.getrandbits(256):064x}"},
                "transform": {
                    "source_size": [3328, 2560], "crop": [20, 30, 1914, 2294], "flip": side == "R", "scale": [1.0, 1.0],
                },
            }  # fmt: skip
            file.write((", " if number > 1 else "") + json.dumps(image))
            if found:
                box = [rng.uniform(0, 1500), rng.uniform(0, 1800), 80.5, 90.25]
                annotations.append(
                    json.dumps({
                        "id": len(annotations) + 1, "image_id": number, "category_id": 2, "bbox": box,
                        "area": box[2] * box[3], "iscrowd": 0, "pathology": "malignant", "lesion_id": f"{number}",
                    })
                )  # fmt: skip
        file.write('], "annotations": [' + ", ".join(annotations) + "]}")


def _touch(root: Path, folder: str, name: str, position: int) -> str:
    if position == 0 or not (root / folder).is_dir():
        (root / folder).mkdir(parents=True, exist_ok=True)
    os.close(os.open(root / folder / name, os.O_CREAT, 0o644))
    return f"{folder}/{name}"


def private_mib() -> float:
    """Memory that is this process's own: neither shared nor a mapped file's; Linux only."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty")) / 1024


def memory_sample(record: dict, rng: object) -> dict:
    """In place of a mapper: what the worker process has for itself."""
    return {"image_id": record["image_id"], "private": private_mib()}


def measure(root: Path, start: str) -> dict[str, float]:
    """One start, in this process."""
    began = time.process_time(), time.perf_counter()
    from mammo_d2.config.keys import add_mammo_config
    from mammo_d2.data.format.catalog import register_datasets
    from mammo_d2.data.loading.loader import build_train_loader
    from mammo_d2.engine.setup import check_patients_apart
    from mammo_d2.framework import get_cfg

    base = peak_mib()
    imported = time.process_time(), time.perf_counter()
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.DATASETS.ROOT = str(root)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("big_train",), ("big_test",)
    cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
    cfg.DATASETS.LABEL_LEVEL = "breast"
    cfg.DATASETS.RECORD_STORE = "never" if start == "list" else "always"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_WORKERS = "ExamSampler", 1
    cfg.SOLVER.IMS_PER_BATCH, cfg.SEED = 512, 1
    register_datasets(cfg)
    check_patients_apart(cfg)
    apart = time.process_time(), time.perf_counter()
    loader = build_train_loader(cfg, mapper=memory_sample)
    built = time.process_time(), time.perf_counter()
    batches = iter(loader)
    batch = next(batches)
    first = time.process_time(), time.perf_counter()
    return {
        "import": imported[0] - began[0],
        "splits": apart[0] - imported[0],
        "loader": built[0] - apart[0],
        "batch": first[0] - built[0],
        "cpu": first[0] - imported[0],
        "wall": first[1] - imported[1],
        "peak": peak_mib(),
        "imported": base,
        "private": private_mib(),
        "worker": max(sample["private"] for sample in batch),
        "ids": sum(sample["image_id"] for sample in batch),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``run``."""
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000], help="training images")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--per-folder", type=int, default=1000, help="images in each folder of image files [1000]")
    parser.add_argument("--folder", type=Path, help="kept there, and used again; default: a temporary folder")


def run(args: argparse.Namespace) -> None:
    """Print a table of the starts."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for images in args.images:
            root = (args.folder or Path(temporary)).resolve() / str(images)
            folder = root / "big"
            for split, count in (("train", images), ("test", max(4, images // 10))):
                if not (folder / "annotations" / f"{split}.json").is_file():
                    write_split(folder, split, count, args.per_folder)
            for start in args.starts:
                if start == "first":
                    for store in (folder / "annotations").glob("*.records"):
                        store.unlink()
                command = [sys.executable, "-m", "benchmarks.records", str(root), start]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
                rows.append({"images": images, "start": start, **json.loads(done.stdout.splitlines()[-1])})
                print(rows[-1], file=sys.stderr, flush=True)
    print(tabulate(rows, headers="keys", floatfmt=".1f", tablefmt="github"))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]).resolve(), sys.argv[2])))
