"""Ablations: the same config trained in several variants and seeds, side by side in one table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mammo_d2.engine.jobs import LOG_FILE, metrics_file, read_metrics, run_all, run_job, summary_table, write_tables
from mammo_d2.engine.setup import load_config

#: Columns of the table, as far as the evaluators of TEST.EVALUATORS fill them: heading → task and key in metrics.json.
METRICS = {
    "AP50": ("coco", "AP50"),
    "sens@0.25": ("froc", "{first}/sens@0.25"),
    "sens@1": ("froc", "{first}/sens@1"),
    "AUC": ("patient", "auc"),
    "accuracy": ("patient", "accuracy"),
    "sensitivity": ("patient", "sensitivity"),
    "specificity": ("patient", "specificity"),
    "image AUC": ("image", "{first}/auc"),
    "breast AUC": ("image", "{first}/breast_auc"),
    "saliency F1": ("saliency", "{first}/f1"),
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

    def folder(variant: Variant, seed: int) -> Path:
        return output / f"{variant.folder}_seed{seed}"

    def train(run: tuple[Variant, int]) -> None:
        variant, seed = run
        target = folder(variant, seed)
        if metrics_file(target) is None:
            name = f"the run {variant.name!r} with seed {seed}"
            settings = [*overrides, *variant.overrides, "SEED", str(seed)]
            run_job(target, name, config_file, settings, jobs, "--resume")

    load_config(config_file, list(overrides))  # a wrong key is an error before hours of training
    run_all(train, runs, jobs)
    rows = [_read_run(variant.name, seed, folder(variant, seed)) for variant, seed in runs]
    write_tables(rows, variants_table(rows, [variant.name for variant in variants]), output, "ablation")
    return rows


def _read_run(name: str, seed: int, folder: Path) -> dict:
    path = metrics_file(folder)
    if path is None:
        raise RuntimeError(f"{folder} has no finished evaluation; see {folder / LOG_FILE}")
    metrics = read_metrics(path)
    first = next(iter(metrics["froc"])).split("/")[0]
    row: dict = {"variant": name, "seed": seed}
    for heading, (task, key) in METRICS.items():
        if task in metrics:
            row[heading] = metrics[task][key.format(first=first)]
    return row


def variants_table(rows: Sequence[dict], names: Sequence[str]) -> str:
    """Mean ± standard deviation over the seeds, one row a variant."""
    columns = [heading for heading in METRICS if all(heading in row for row in rows)]
    return summary_table(rows, names, columns, by="variant", count="seeds")
