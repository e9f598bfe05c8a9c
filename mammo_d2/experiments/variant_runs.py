"""Ablations: the same config trained in several variants and seeds, side by side in one table.

What the variants of a seed share, as the lesion classifier's patch network, is trained once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import find_config
from mammo_d2.core.files import read_yaml
from mammo_d2.experiments.cells import (
    Cell,
    predictions_by_row,
    recorded_job,
    run_cells,
    turns_of,
)
from mammo_d2.experiments.comparison.paired_tables import TableOptions, as_text, write_comparison
from mammo_d2.experiments.processes import read_metrics, summary_table, write_tables
from mammo_d2.jobs.job import build_job

#: Columns of the table, as far as the evaluators of TEST.EVALUATORS fill them: heading → task and key in metrics.json.
#: "{first}" is the first class.
ABLATION_COLUMNS = {
    "AP50": ("coco", "{first}/AP50"),
    "VOC AP50": ("voc", "{first}/AP50"),
    "sens@0.25": ("froc", "{first}/sens@0.25"),
    "sens@1": ("froc", "{first}/sens@1"),
    "AUC": ("patient", "auc"),
    "accuracy": ("patient", "accuracy"),
    "sensitivity": ("patient", "sensitivity"),
    "specificity": ("patient", "specificity"),
    "image AUC": ("image", "{first}/auc"),
    "breast AUC": ("image", "{first}/breast_auc"),
    "saliency F1": ("saliency", "{first}/f1"),
    "pointing": ("saliency", "{first}/pointing"),
    "lesion AUC": ("lesion", "auc"),
    "TNR@FNR0": ("lesion", "tnr@fnr0"),
    "TNR@FNR2%": ("lesion", "tnr@fnr0.02"),
    "TNR@FNR5%": ("lesion", "tnr@fnr0.05"),
}


_DEFAULT = TableOptions()


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
        ValueError: the file is not such a mapping, or two names give the same folder.
    """
    content = read_yaml(find_config(path))
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected a mapping of variant name to a list of overrides, got {content!r:.80}")
    variants = []
    for name, overrides in content.items():
        if not isinstance(overrides, list) or len(overrides) % 2:
            raise ValueError(f"{path}: variant {name!r} needs a list of KEY, VALUE pairs, got {overrides!r:.80}")
        wrong = [item for item in overrides if item is None or isinstance(item, dict)]
        if wrong or not all(isinstance(key, str) for key in overrides[::2]):
            raise ValueError(
                f"{path}: variant {name!r}: {overrides!r:.80} is no list of KEY, VALUE pairs; a key is a text, and no "
                "value is empty or a mapping (write '' for an empty text)"
            )
        variants.append(Variant(str(name), [str(item) for item in overrides]))
    names: dict[str, str] = {}
    for variant in variants:
        other = names.setdefault(variant.folder, variant.name)
        if other != variant.name:
            raise ValueError(
                f"{path}: variants {other!r} and {variant.name!r} would share the folder {variant.folder!r}, and so "
                "their results; let their names differ in letters or digits"
            )
    return variants


def run_ablation(
    config_file: str,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    output: Path,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    options: TableOptions = _DEFAULT,
) -> list[dict]:
    """Train and evaluate every variant with every seed, each in a separate process.

    Finished runs are kept and interrupted ones resumed, as long as config and data have not changed.

    Args:
        config_file: the config that all variants start from.
        seeds: values of SEED.
        output: folder; one sub-folder a run, and ``ablation.md``, ``ablation.csv``, ``ablation.json`` and
            ``paired_<class>.json`` (see ``paired_tables.py``).
        overrides: KEY VALUE overrides for all runs. In a value, here or in a variant's, "{seed}" is the run's seed.
            In a variant's, "{weights:ROW}" is the file of the weights of another row with the same seed; such runs come
            after the others.
        jobs: number of parallel runs, see ``run_job``.
        options: what the tables show.

    Returns:
        One dict a run: variant, seed and every metric (NaN where undefined).

    Raises:
        RunConflictError: a folder holds a run of another config or other data; nothing is started.
        ValueError: "{weights:ROW}" of a row that there is not.
        ChildProcessError: a run failed; its log is named.
    """
    turns = turns_of({variant.name: variant.overrides for variant in variants})
    cells = [
        _cell(turns[variant.name], config_file, variant, seed, output, overrides, options.only_tables)
        for variant in variants
        for seed in seeds
    ]
    configs = {cell.row: cell.job.cfg for cell in reversed(cells)}
    configs = {variant.name: configs[variant.name] for variant in variants}
    options.rules(configs)  # a wrong option is an error before hours of training
    if not options.only_tables:
        run_cells(cells, output, jobs)
    rows = [_read_run(cell.row, cell.seed, cell.finished_metrics()) for cell in cells]
    tables = write_comparison(predictions_by_row(cells), configs, options, output, f"Mean over {len(seeds)} seed(s)")
    text = variants_table(rows, [variant.name for variant in variants])
    write_tables(rows, "\n\n".join([text, as_text(tables)]) if tables else text, output, "ablation")
    return rows


def _cell(
    turn: int, config: str, variant: Variant, seed: int, output: Path, overrides: Sequence[str], is_recorded: bool
) -> Cell:
    """The run of a variant with a seed; ``is_recorded``: by its own ``config.yaml``."""
    items = (*overrides, *variant.overrides, "SEED", str(seed))
    settings = [item.replace("{seed}", str(seed)) for item in items]
    folder = output / f"{variant.folder}_seed{seed}"
    job = recorded_job(folder) if is_recorded else build_job(load_config(config, settings))
    title = f"the run {variant.name!r} with seed {seed}"
    return Cell(variant.name, seed, None, title, folder, config, settings, job, turn=turn)


def _read_run(name: str, seed: int, path: Path) -> dict:
    metrics = read_metrics(path)
    keys = [key for task in ("froc", "image", "saliency") for key in metrics.get(task, ())]
    first = keys[0].split("/")[0] if keys else ""
    row: dict = {"variant": name, "seed": seed}
    for heading, (task, key) in ABLATION_COLUMNS.items():
        if task in metrics:
            numbers, of_class = metrics[task], key.format(first=first)
            row[heading] = numbers[of_class if of_class in numbers else key.removeprefix("{first}/")]
    return row


def variants_table(rows: Sequence[dict], names: Sequence[str]) -> str:
    """Mean ± standard deviation over the seeds, one row a variant.

    Args:
        rows: of ``run_ablation``.
        names: of the variants, in order.
    """
    columns = [heading for heading in ABLATION_COLUMNS if all(heading in row for row in rows)]
    return summary_table(rows, names, columns, by="variant", count="seeds")
