"""The other files that commands read: of runs, of experiments, results, weights.

Commands that train are run as far as they read the file, without the trainings.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from mammo_d2.cli.results import average_scores, report
from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.experiments.cross_validation import deal_out, join_splits
from mammo_d2.experiments.search.search_ranges import load_ranges
from mammo_d2.experiments.variant_runs import load_variants
from mammo_d2.framework import DatasetCatalog, MetadataCatalog
from mammo_d2.framework.weights.weight_files import read_weight_file
from mammo_d2.inference.detected_lesions import records_with_results
from mammo_d2.jobs.job import build_job
from tests.cli.test_mutated_inputs import FILES
from tests.fuzz.mistakes import Mistake, file_mistakes, json_mistakes, table_mistakes, yaml_mistakes
from tests.fuzz.mutations import changed_at
from tests.fuzz.prepare_targets import coco_mistakes
from tests.fuzz.targets import Target
from tests.inference.tiny_model import CROP_FLIP_SCALE
from tests.report.toy_run import LESION, make_dataset, make_run

VARIANTS = {"plain": [], "two stages": ["SOLVER.BASE_LR", 0.01, "SEED", 7], "none": ["MODEL.WEIGHTS", ""]}
RANGES = {
    "SOLVER.BASE_LR": {"float": ["10^-5.5", 0.01], "log": True},
    "SOLVER.MAX_ITER": {"int": [2, 8]},
    "INPUT.FORMAT": {"choice": ["L", "BGR"]},
}
CONFIG = {
    "SOLVER": {"BASE_LR": 0.01, "MAX_ITER": 100, "STEPS": [60, 80]},
    "DATASETS": {"TRAIN": ["mine_train"], "CATEGORIES": ["benign", "malignant"]},
    "INPUT": {"SIZE": [64, 48]},
}
RESULTS = [
    {"image_id": 3, "category_id": 2, "bbox": [10.0, 20.0, 30.0, 30.0], "score": 0.7},
    {"image_id": 4, "category_id": 2, "bbox": [1.0, 1.0, 9.0, 9.0], "score": 0.65},
]
READER = "image_id,malignant,benign\n1,0.5,0.25\n2,0.75,0.125\n3,0.5,0.5\n4,0.25,0\n5,0,0\n6,1,0\n"
PREPARATION = CROP_FLIP_SCALE.to_dict()


def make_report(folder: Path) -> None:
    make_dataset(folder / "data")
    make_run(folder / "run", folder / "data")
    place = folder / "run" / "inference" / "toy_test"
    metrics = json.loads((place / "metrics.json").read_text())
    metrics["regions"] = {"malignant/hits": 1.0}
    metrics["lesion"] = {"auc": 0.75}
    (place / "metrics.json").write_text(json.dumps(metrics))
    (place / "top_regions.json").write_text(json.dumps(RESULTS))
    window = {"bbox": [8, 8, 20, 20], "malignancy": 0.875}
    lesion = {"image_id": 3, "annotation_id": 1, "bbox": LESION, "malignancy": 0.75, "windows": [window], "truth": 1}
    (place / "lesion_scores.json").write_text(json.dumps([lesion]))
    details = {"options": "IoU", "reasons": {"x": "none"}, "intervals": {"malignant/sens@1": [0.5, 1.0]},
               "bootstrap": "95%"}  # fmt: skip
    (place / "froc.json").write_text(json.dumps(details))


def run_report(argv: list[str]) -> int:
    _forget()
    return report.run(argv)


def _forget() -> None:
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in {"toy_train", "toy_test"} & set(catalog.list()):
            catalog.remove(name)


def page(folder: Path) -> str:
    return (folder / "run" / "report.html").read_text()


def no_nan(new: str, valid: str, mistake: Mistake) -> str | None:
    """A report that shows what is no number as one."""
    for word in (">nan<", ">inf<", "score nan", "malignancy nan", "score inf"):
        if new.count(word) > valid.count(word):
            return f"shows {word}"
    return None


def log_mistakes(folder: Path) -> Iterator[Mistake]:
    """Of a training log: one JSON object a line."""
    data = (folder / "run" / "metrics.json").read_bytes()
    yield from (mistake for mistake in file_mistakes(data) if mistake.kind != "missing")
    first, second = data.decode().splitlines()
    for mistake in json_mistakes(json.loads(first)):
        if isinstance(mistake.content, bytes) and mistake.kind != "encoding":
            yield Mistake(mistake.kind, mistake.where, mistake.content + b"\n" + second.encode() + b"\n")


def json_of(file: str) -> Callable[[Path], Iterator[Mistake]]:
    return lambda folder: json_mistakes(json.loads((folder / file).read_text()))


def write(file: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_text(text)


def read_variants(argv: list[str]) -> None:
    for variant in load_variants(argv[0]):
        build_job(load_config("", [item.replace("{seed}", "1") for item in variant.overrides]))


def read_ranges(argv: list[str]) -> None:
    load_ranges(argv[0], "")


def read_config(argv: list[str]) -> None:
    build_job(load_config(argv[0]))


def read_annotations(argv: list[str]) -> None:
    """What a training does before its first step."""
    _forget()
    cfg = load_config("", ["DATASETS.ROOT", argv[0], "DATASETS.TRAIN", "['toy_train']", "DATASETS.TEST", "[]"])
    register_datasets(cfg)
    load_records(cfg, "toy_train")


def read_folds(argv: list[str]) -> None:
    deal_out(join_splits(Path(argv[0])), 2, 0)


def read_results(argv: list[str]) -> None:
    records = [{"image_id": n, "height": 80, "width": 60} for n in (3, 4)]
    found = records_with_results(records, argv[0])
    for record in found:
        for lesion in record["annotations"]:
            assert all(math.isfinite(value) for value in (*lesion["bbox"], lesion["score"]))


def read_preparation(argv: list[str]) -> None:
    Preparation.from_file(argv[0])


def make_scores(folder: Path) -> None:
    for file in ("truth.json", "scores.json"):
        (folder / file).write_text(json.dumps(FILES[file]))
    (folder / "reader.csv").write_text(READER)


def reader_mistakes(folder: Path) -> Iterator[Mistake]:
    yield from table_mistakes(READER.encode(), {"image_id": "text", "malignant": "score", "benign": "score"},
                              ("image_id",))  # fmt: skip
    percent = READER.replace("0.5,0.25", "50,25").replace("0.75", "75")
    yield Mistake("unit", "percent", percent.encode(), bad=True)


def make_weights(folder: Path) -> None:
    torch.save({"model": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}}, folder / "m.pth")


def weight_mistakes(folder: Path) -> Iterator[Mistake]:
    yield from file_mistakes((folder / "m.pth").read_bytes(), text=False)
    content = {"model": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}}
    for value in (None, "x", 1, [], {}, 1.5, torch.zeros(()), {"a": "x"}, {"a": None}, {1: torch.zeros(2)}):
        for changed in (value, {"model": value}, changed_at(content, ("model", "a.bias"), value)):
            stream = io.BytesIO()
            torch.save(changed, stream)
            yield Mistake("type", f"{str(changed)[:60]}", stream.getvalue())


def targets() -> list[Target]:
    """All of them."""
    run = "run/inference/toy_test/"
    reports = [
        Target("report", file, make_report, run_report, lambda folder: ["--run", f"{folder}/run"], mistakes, page,
               no_nan)
        for file, mistakes in (
            *((run + name, json_of(run + name)) for name in
              ("metrics.json", "froc.json", "coco_instances_results.json", "top_regions.json", "lesion_scores.json")),
            ("run/metrics.json", log_mistakes),
            ("data/toy/annotations/test.json", json_of("data/toy/annotations/test.json")),
            ("run/config.yaml", lambda folder: file_mistakes((folder / "run/config.yaml").read_bytes())),
        )
    ]  # fmt: skip

    def texts(command: str, file: str, content: Any, read: Callable[[list[str]], Any]) -> Target:
        is_yaml = file.endswith(".yaml")
        text = yaml.safe_dump(content, sort_keys=False) if is_yaml else json.dumps(content)
        mistakes = yaml_mistakes if is_yaml else json_mistakes
        return Target(command, file, write(file, text), read, lambda folder: [f"{folder}/{file}"],
                      lambda folder: mistakes(content), named=("the command line",))  # fmt: skip

    data = partial(Target, file="data/toy/annotations/train.json", make=lambda folder: make_dataset(folder / "data"),
                   mistakes=lambda folder: coco_mistakes(folder, json.loads(
                       (folder / "data/toy/annotations/train.json").read_text())))  # fmt: skip
    return [
        *reports,
        texts("ablation, cross-validate", "variants.yaml", VARIANTS, read_variants),
        texts("search", "ranges.yaml", RANGES, read_ranges),
        texts("train", "config.yaml", CONFIG, read_config),
        texts("classify-lesions", "results.json", RESULTS, read_results),
        texts("predict", "preparation.json", PREPARATION, read_preparation),
        data("train", run=read_annotations, arguments=lambda folder: [f"{folder}/data"]),
        data("cross-validate", run=read_folds, arguments=lambda folder: [f"{folder}/data/toy"]),
        Target("average-scores", "reader.csv", make_scores, average_scores.run, lambda folder: [
            f"{folder}/scores.json", "--ground-truth", f"{folder}/truth.json", "--reader", f"{folder}/reader.csv"],
            reader_mistakes),
        Target("convert-weights, MODEL.WEIGHTS", "m.pth", make_weights,
               lambda argv: bool(read_weight_file(argv[0])) and 0, lambda folder: [f"{folder}/m.pth"], weight_mistakes),
    ]  # fmt: skip
