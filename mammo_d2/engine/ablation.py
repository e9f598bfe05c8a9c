"""Ablations: the same config trained in several variants and seeds, side by side in one table."""

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from tabulate import tabulate

from mammo_d2.engine.setup import load_config

#: Columns of the table: heading → task and key in metrics.json.
METRICS = {
    "AP50": ("coco", "AP50"),
    "sens@0.25": ("froc", "{first}/sens@0.25"),
    "sens@1": ("froc", "{first}/sens@1"),
    "AUC": ("patient", "auc"),
    "accuracy": ("patient", "accuracy"),
    "sensitivity": ("patient", "sensitivity"),
    "specificity": ("patient", "specificity"),
}


@dataclass
class Variant:
    """One row: its name and the overrides that make it."""

    name: str
    overrides: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        return "".join(c if c.isalnum() else "_" for c in self.name.lower()).strip("_")


def load_variants(path: str) -> list[Variant]:
    """Read variants from YAML: a mapping of row name → list of KEY, VALUE overrides (may be empty).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not such a mapping.
    """
    content = yaml.safe_load(Path(path).read_text())
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected a mapping of variant name to a list of overrides, got {content!r}")
    variants = []
    for name, overrides in content.items():
        if not isinstance(overrides, list) or len(overrides) % 2:
            raise ValueError(f"{path}: variant {name!r} needs a list of KEY, VALUE pairs, got {overrides!r}")
        variants.append(Variant(str(name), [str(item) for item in overrides]))
    return variants


def run_ablation(
    config_file: str,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    output: Path,
    overrides: Sequence[str] = (),
    jobs: int = 1,
) -> list[dict]:
    """Train and evaluate every variant with every seed, each in a process of its own; finished runs are kept.

    Args:
        config_file: the config that all variants start from.
        seeds: values of SEED.
        output: folder; one sub-folder a run, and ``ablation.md``, ``ablation.csv``, ``ablation.json``.
        overrides: KEY VALUE overrides for all runs.
        jobs: runs at the same time; they share the processor cores, unless OMP_NUM_THREADS gives each a number.

    Returns:
        One dict a run: variant, seed and every metric (NaN where undefined).

    Raises:
        RuntimeError: a run failed; its log is named.
    """
    runs = [(variant, seed) for variant in variants for seed in seeds]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))

    def folder(variant: Variant, seed: int) -> Path:
        return output / f"{variant.folder}_seed{seed}"

    def train(run: tuple[Variant, int]) -> None:
        variant, seed = run
        target = folder(variant, seed)
        if _metrics_file(target) is not None:
            return
        target.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mammo_d2.engine.cli", "--config-file", config_file, "--resume"]
        command += [*overrides, *variant.overrides, "SEED", str(seed), "OUTPUT_DIR", str(target)]
        with open(target / "stdout.txt", "w") as log:
            environment = {"OMP_NUM_THREADS": threads, **os.environ}
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment).returncode
        if status != 0:
            raise RuntimeError(f"the run {variant.name!r} with seed {seed} failed; see {target / 'stdout.txt'}")

    load_config(config_file, list(overrides))  # a wrong key is an error before hours of training
    with ThreadPoolExecutor(jobs) as pool:
        for number, _ in enumerate(pool.map(train, runs), 1):
            print(f"{number}/{len(runs)} runs done", flush=True)
    rows = [_read_run(variant.name, seed, folder(variant, seed)) for variant, seed in runs]
    _write_tables(rows, [variant.name for variant in variants], output)
    return rows


def _metrics_file(folder: Path) -> Path | None:
    found = sorted(folder.glob("inference/*/metrics.json"))
    return found[0] if found and (folder / "model_final.pth").is_file() else None


def _read_run(name: str, seed: int, folder: Path) -> dict:
    path = _metrics_file(folder)
    if path is None:
        raise RuntimeError(f"{folder} has no finished evaluation; see {folder / 'stdout.txt'}")
    metrics = json.loads(path.read_text())
    first = next(iter(metrics["froc"])).split("/")[0]
    row: dict = {"variant": name, "seed": seed}
    for heading, (task, key) in METRICS.items():
        value = metrics[task][key.format(first=first)]
        row[heading] = math.nan if value is None else float(value)
    return row


def summary_table(rows: Sequence[dict], names: Sequence[str], style: str = "github") -> str:
    """Mean ± standard deviation over the seeds, one row a variant."""
    lines = []
    for name in names:
        mine = [row for row in rows if row["variant"] == name]
        cells = []
        for heading in METRICS:
            values = [row[heading] for row in mine]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        lines.append([name, len(mine), *cells])
    return tabulate(lines, ["variant", "seeds", *METRICS], tablefmt=style)


def _write_tables(rows: list[dict], names: list[str], output: Path) -> None:
    (output / "ablation.md").write_text(summary_table(rows, names) + "\n")
    (output / "ablation.json").write_text(json.dumps(rows, indent=1))
    with open(output / "ablation.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
