"""Evaluation speed: FROC, its patient bootstrap and COCO AP on synthetic results of growing size, with peak memory.

Every measurement is a process of its own, because peak memory is per process. Seconds are the process's own CPU seconds
on one core, which neighbours on the machine change little; wall-clock seconds stand beside them. Making the data and
loading files is not part of FROC's or AP's time; loading is a measurement of its own. "command" is all that a user of
``mammo-d2 evaluate`` waits for, from the start of Python to the last plot, with its default options; "command npz" the
same with the detections in a .npz file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.core.boxes import xyxy_to_xywh
from mammo_d2.core.files import write_json
from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.detection_files import load_detections, write_detections
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan, bootstrap, draw_weights
from mammo_d2.evaluation.metrics.detection.coco_map import coco_average_precision
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at, summarize_froc
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.scores.levels import aggregate_truth
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, ImageTable, LesionTable

VIEWS = 4  # images per patient
EMPTY = 0.7  # part of the images without a lesion


def make_data(images: int, per_image: int, seed: int = 0) -> EvaluationData:
    """Synthetic results: 70 % of the images empty, 1 or 2 lesions in the others, 80 % of the lesions hit by a box."""
    rng = np.random.default_rng(seed)
    counts = np.where(rng.random(images) < EMPTY, 0, rng.integers(1, 3, images))
    owner = np.repeat(np.arange(images), counts)

    def boxes(number: int) -> np.ndarray:
        corner = rng.uniform(0, 900, (number, 2))
        return np.hstack([corner, corner + rng.uniform(30, 120, (number, 2))])

    lesions, found = boxes(len(owner)), boxes(images * per_image)
    scores = rng.beta(1, 4, len(found))
    hit = rng.random(len(owner)) < 0.8
    rows = owner[hit] * per_image + rng.integers(0, per_image, int(hit.sum()))
    found[rows] = lesions[hit] + rng.normal(0, 6, (len(rows), 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    scores[rows] = rng.beta(3, 2, len(rows))
    patient = np.arange(images) // VIEWS
    table = ImageTable(
        ids=tuple(range(images)),
        classes=("malignant",),
        patient=patient,
        exam=patient,
        breast=np.arange(images) // 2,
        truth=(counts > 0).astype(float)[:, None],
        size=np.full((images, 2), 1000.0),
        spacing=np.full((images, 2), np.nan),
        patient_known=np.ones(images, bool),
    )
    none = np.zeros(len(owner), bool)
    area = (lesions[:, 2] - lesions[:, 0]) * (lesions[:, 3] - lesions[:, 1])
    truth = LesionTable(lesions, owner, np.zeros(len(owner), np.int64), none, none, area)
    label = np.zeros(len(found), np.int64)
    return EvaluationData(table, truth, DetectionTable(found, scores, np.repeat(np.arange(images), per_image), label))


def _froc(data: EvaluationData, args: argparse.Namespace) -> Callable[[], str]:
    def work() -> str:
        rule = FrocRule()
        return f"mean sensitivity {summarize_froc(froc_events(data, rule, 0), rule).mean_sensitivity:.4f}"

    return work


def _bootstrap(data: EvaluationData, args: argparse.Namespace) -> Callable[[], str]:
    rule = FrocRule()
    events = froc_events(data, rule, 0)
    patient = data.images.patient

    def work() -> str:
        strata = aggregate_truth(data.images.truth[:, 0], patient)
        plan = BootstrapPlan(args.replicates)
        values = bootstrap({"froc": FrocStatistic(events, patient, rule)}, int(patient.max()) + 1, plan, strata)
        # One replicate again the plain way, to the last bit.
        weights = draw_weights(int(patient.max()) + 1, range(1), plan.seed, strata)[patient, 0]
        plain = sensitivity_at(froc_curve(events, weights), rule.rates, rule.interpolation, rule.beyond)
        same = all(values["froc"][row, 0] == point.sensitivity for row, point in enumerate(plain))
        return f"{args.replicates} replicates, first bit-equal: {same}"

    return work


def _coco(backend: str) -> Callable[[EvaluationData, argparse.Namespace], Callable[[], str]]:
    def prepare(data: EvaluationData, args: argparse.Namespace) -> Callable[[], str]:
        return lambda: f"AP {coco_average_precision(data, backend).numbers['AP']:.15f}"

    return prepare


def _load(data: EvaluationData, args: argparse.Namespace) -> Callable[[], str]:
    folder = Path(args.folder)

    def work() -> str:
        truth = load_ground_truth(folder / "truth.json")
        return f"{len(load_detections(folder / 'results.json', truth)[0])} detections"

    return work


def _write(data: EvaluationData, args: argparse.Namespace) -> Callable[[], str]:
    def work() -> str:
        write_files(data, Path(args.folder), args.files)
        return "files written"

    return work


COMMANDS = {"command": "results.json", "command npz": "results.npz"}
MEASUREMENTS = {
    "froc": _froc,
    "bootstrap": _bootstrap,
    "coco numpy": _coco("numpy"),
    "coco pycocotools": _coco("pycocotools"),
    "coco faster_coco_eval": _coco("faster_coco_eval"),
    "write": _write,
    "load": _load,
}


def write_files(data: EvaluationData, folder: Path, results: Sequence[str] = tuple(COMMANDS.values())) -> None:
    """The data as a COCO ground truth and files of results; each holds all detections as Python objects for a while."""
    boxes = xyxy_to_xywh(data.lesions.boxes)
    images = [
        {
            "id": n,
            "height": 1000,
            "width": 1000,
            "patient_id": n // VIEWS,
            "laterality": "LR"[n // 2 % 2],
            "view": ("CC", "MLO")[n % 2],
        }
        for n in range(len(data.images))
    ]
    annotations = [
        {"id": n, "image_id": image, "category_id": 1, "bbox": box}
        for n, (image, box) in enumerate(zip(data.lesions.image.tolist(), boxes.tolist(), strict=True), start=1)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "malignant"}]}
    write_json(folder / "truth.json", content, indent=2, nan_as_null=True)
    for name in results:
        write_detections(folder / name, data.detections, data.images, (1,))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``tools/benchmark.py evaluation``."""
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--per-image", type=int, nargs="+", default=[20], help="detections per image")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument(
        "--measure",
        nargs="+",
        choices=[*MEASUREMENTS, *COMMANDS],
        default=["froc", "bootstrap", "coco numpy", "command"],
    )
    parser.add_argument("--output", type=Path, help="also write the rows as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs="*", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    """Measure, print the table, write it on request."""
    if args.one:
        print(json.dumps(_measure_here(args)))
        return
    rows = []
    for per_image in args.per_image:
        for images in args.images:
            with tempfile.TemporaryDirectory() as folder:
                if {"load", *COMMANDS} & set(args.measure):
                    # In a process of its own as well: a child's peak memory starts from its parent's.
                    read = {
                        COMMANDS.get(name, COMMANDS["command"]) for name in args.measure if name in {"load", *COMMANDS}
                    }
                    _measure_apart("write", images, per_image, 0, folder, sorted(read))
                for name in args.measure:
                    measure = _measure_command if name in COMMANDS else _measure_apart
                    rows.append(measure(name, images, per_image, args.replicates, folder))
                    print(f"{name}, {images} x {per_image}: {rows[-1]['cpu_s']:.2f} s", file=sys.stderr)
    keys = ["measurement", "images", "per_image", "cpu_s", "wall_s", "us_per_image", "peak_mb", "result"]
    print(tabulate([[row[key] for key in keys] for row in rows], keys, floatfmt=".2f"))
    if args.output is not None:
        args.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _measure_apart(
    name: str, images: int, per_image: int, replicates: int, folder: str, files: Sequence[str] = ()
) -> dict:
    """One measurement in a process of its own, on one thread."""
    command = [sys.executable, "-c", _CHILD, "--one", name, "--images", str(images), "--per-image", str(per_image)]
    command += ["--replicates", str(replicates), "--folder", folder, "--files", *files]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        last = result.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"measurement {name!r} of {images} x {per_image} failed: {last[0]}")
    return json.loads(result.stdout)


def _measure_command(name: str, images: int, per_image: int, replicates: int, folder: str) -> dict:
    """``mammo-d2 evaluate`` on the files of a folder, on one thread."""
    files = ["--ground-truth", f"{folder}/truth.json", f"{folder}/{COMMANDS[name]}", "--output", f"{folder}/out"]
    command = [sys.executable, "-m", "mammo_d2", "evaluate", *files, "--bootstrap", str(replicates)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    wall = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"measurement {name!r} of {images} x {per_image} failed with code {child.returncode}")
    cpu = used.ru_utime + used.ru_stime
    return {
        "measurement": name,
        "images": images,
        "per_image": per_image,
        "cpu_s": cpu,
        "wall_s": time.perf_counter() - wall,
        "us_per_image": cpu / images * 1e6,
        "peak_mb": used.ru_maxrss / 1024,
        "loaded_mb": 0.0,
        "result": f"{replicates} replicates",
    }


_CHILD = """
import argparse, os
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
from benchmarks import evaluation
parser = argparse.ArgumentParser()
evaluation.add_arguments(parser)
evaluation.run(parser.parse_args())
"""


def _measure_here(args: argparse.Namespace) -> dict:
    images, per_image = args.images[0], args.per_image[0]
    data = make_data(images if args.one != "load" else 1, per_image)
    work = MEASUREMENTS[args.one](data, args)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "measurement": args.one,
        "images": images,
        "per_image": per_image,
        "cpu_s": cpu,
        "wall_s": wall,
        "us_per_image": cpu / images * 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loaded_mb": loaded,
        "result": result,
    }
