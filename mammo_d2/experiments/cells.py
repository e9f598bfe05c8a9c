"""The cells of an experiment: every row (method, variant) trained for every seed and fold, with its test.

Ablation, cross-validation and comparison make their cells and hand them to ``run_cells``; it does what is missing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import check_names, register_datasets
from mammo_d2.engine.run_files.run_folder import CONFIG_FILE, LOG_FILE, METRICS_FILE, config_file, inference_folder
from mammo_d2.engine.run_files.run_record import claim_folders
from mammo_d2.experiments.comparison.predictions import Predictions, has_predictions, join_folds, read_predictions
from mammo_d2.experiments.processes import run_all, run_job
from mammo_d2.experiments.shared_work import make_shared
from mammo_d2.framework import MetadataCatalog
from mammo_d2.jobs.job import Job, build_job

# In an override: the weights that another row ends with, of the same seed and fold.
_WEIGHTS = re.compile(r"\{weights:([^{}]+)\}")


@dataclass(frozen=True)
class Cell:
    """One training, and the evaluation of its result.

    Attributes:
        row: name of its row.
        seed, fold: of the row's cells; the fold is None without folds.
        title: in words, for messages.
        folder: OUTPUT_DIR of the training.
        config: the config file.
        settings: KEY VALUE overrides of the training.
        job: by config and overrides.
        test_folder: OUTPUT_DIR of a separate test, where the job needs one; None: the training evaluates its result.
        test_settings: KEY VALUE overrides of the separate test, without the weights.
        dataset: registered name of the tested data set; empty: the only one that the training evaluates.
        annotations: its COCO file; None: as registered.
        record: folder that keeps the record of config and data; None: that of the training.
        shares: uses what several cells can share, see ``Job.shared_runs``.
        is_tested: False for a training that others start from, of which no test is needed.
        turn: cells of a turn start when those of lower turns are finished.
    """

    row: str
    seed: int
    fold: int | None
    title: str
    folder: Path
    config: str
    settings: list[str]
    job: Job
    test_folder: Path | None = None
    test_settings: list[str] = field(default_factory=list)
    dataset: str = ""
    annotations: Path | None = None
    record: Path | None = None
    shares: bool = True
    is_tested: bool = True
    turn: int = 0

    def metrics_file(self) -> Path | None:
        """metrics.json of the finished evaluation; None without."""
        if self.test_folder is None:
            return self.job.metrics_file(self.folder)
        results = self.job.result_evaluation(self.folder, self.test_folder, self.dataset).results
        path = inference_folder(results, self.dataset) / METRICS_FILE
        return path if path.is_file() else None

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.metrics_file() is not None if self.is_tested else self.job.is_finished(self.folder)

    def finished_metrics(self) -> Path:
        """As ``metrics_file``.

        Raises:
            ChildProcessError: the evaluation has not finished; the log is named.
        """
        if path := self.metrics_file():
            return path
        folder = self.test_folder or self.folder
        raise ChildProcessError(f"{folder} has no finished evaluation; see {folder / LOG_FILE}")

    def predictions(self, by_finding: bool = False) -> Predictions | None:
        """What the evaluation left, see ``read_predictions``; None if there is nothing to compare."""
        folder = self.finished_metrics().parent
        if not has_predictions(folder):
            return None
        annotations = self.annotations or annotations_of(self.job, folder.name)
        return read_predictions(folder, annotations, self.job.cfg, by_finding)


def run_cells(cells: Sequence[Cell], output: Path, jobs: int = 1) -> None:
    """Train and test the cells that are not finished, each in processes of its own.

    Args:
        cells: of the experiment. In an override, "{weights:ROW}" is the file of the weights that this row ends with
            (``Job.start_weights``).
        output: folder of the experiment.
        jobs: number of cells at the same time, see ``run_job``.

    Raises:
        RunConflictError: a folder holds a run of another config or other data; of its turn, nothing is started.
        ChildProcessError: a training or test failed; its log is named.
    """
    for turn in sorted({cell.turn for cell in cells}):
        # The files that a config names are part of its record: those of later turns exist only now.
        part = [_with_weights(cell, cells) for cell in cells if cell.turn == turn]
        claim_folders({cell.record or cell.folder: cell.job.cfg for cell in part})
        run_all(
            lambda cell: _finish(cell, jobs),
            _with_shared([cell for cell in part if not cell.is_done()], output, jobs),
            jobs,
        )


def predictions_by_row(cells: Sequence[Cell], by_finding: bool = False) -> dict[str, list[Predictions]]:
    """Predictions of each row: one entry per seed, its folds joined. Seeds without predictions are left out."""
    found: dict[str, list[Predictions]] = {cell.row: [] for cell in cells}
    for row in found:
        of_row = [cell for cell in cells if cell.row == row]
        for seed in dict.fromkeys(cell.seed for cell in of_row):
            of_seed = [cell for cell in of_row if cell.seed == seed]
            parts = [cell.predictions(by_finding) for cell in of_seed]
            known = [part for part in parts if part is not None]
            if len(known) == len(parts):
                found[row].append(known[0] if of_seed[0].fold is None else join_folds(known))
    return found


def recorded_job(folder: Path, test_folder: Path | None = None) -> Job:
    """The job of a run that has been started, by its own ``config.yaml``, or that of its test if it needs no training.

    Raises:
        FileNotFoundError: the folder is not a run's.
    """
    place = test_folder if test_folder is not None and not (folder / CONFIG_FILE).is_file() else folder
    return build_job(load_config(config_file(place)))


def annotations_of(job: Job, dataset: str) -> Path:
    """Annotation file of a registered data set."""
    register_datasets(job.cfg)
    check_names(job.cfg, [dataset])
    return Path(MetadataCatalog.get(dataset).json_file)


def rows_named(settings: Sequence[str]) -> list[str]:
    """Rows whose weights some overrides name."""
    return [name for item in settings for name in _WEIGHTS.findall(item)]


def turns_of(rows: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Turn of each row: 0, or one more than that of the latest row that it starts from.

    Args:
        rows: overrides by name.

    Raises:
        ValueError: a row starts from one that is not there, or in a circle.
    """
    needs = {row: rows_named(overrides) for row, overrides in rows.items()}
    for row, needed in needs.items():
        for name in needed:
            if name not in needs:
                raise ValueError(f"row {row!r} starts from {{weights:{name}}}; the rows are {', '.join(needs)}")
    turns: dict[str, int] = {}
    while len(turns) < len(needs):
        ready = [row for row in needs if row not in turns and all(name in turns for name in needs[row])]
        if not ready:
            left = ", ".join(row for row in needs if row not in turns)
            raise ValueError(f"rows start from each other in a circle: {left}")
        turns |= {row: max((turns[name] + 1 for name in needs[row]), default=0) for row in ready}
    return turns


def _with_weights(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The cell with the paths of the weights that it starts from."""
    if not rows_named([*cell.settings, *cell.test_settings]):
        return cell

    def path(match: re.Match) -> str:
        other = next(c for c in cells if (c.row, c.seed, c.fold) == (match[1], cell.seed, cell.fold))
        return str(other.job.start_weights(other.folder))

    settings = [_WEIGHTS.sub(path, item) for item in cell.settings]
    test_settings = [_WEIGHTS.sub(path, item) for item in cell.test_settings]
    job = build_job(load_config(cell.config, settings))
    return replace(cell, settings=settings, test_settings=test_settings, job=job)


def _with_shared(cells: Sequence[Cell], output: Path, jobs: int) -> list[Cell]:
    """The cells with the results that they share, which are made now."""
    done = [cell for cell in cells if not cell.shares]
    for config in dict.fromkeys(cell.config for cell in cells if cell.shares):
        group = [cell for cell in cells if cell.shares and cell.config == config]
        complete = make_shared(config, [cell.settings for cell in group], output, jobs)
        for cell, settings in zip(group, complete, strict=True):
            more = settings[len(cell.settings) :]
            done.append(replace(cell, settings=settings, test_settings=[*cell.test_settings, *more]))
    return sorted(done, key=lambda cell: [c.folder for c in cells].index(cell.folder))


def _finish(cell: Cell, jobs: int) -> None:
    """Train and test a cell, as far as that is missing."""
    job, folder = cell.job, cell.folder
    if cell.test_folder is None or not job.is_finished(folder):
        run_job(folder, cell.title, cell.config, cell.settings, jobs, "--resume")
    if cell.test_folder is None or cell.is_done():
        return
    test = job.result_evaluation(folder, cell.test_folder, cell.dataset)
    weights = ["MODEL.WEIGHTS", str(job.weights(folder))] if test.needs_weights else []
    settings = [*cell.test_settings, *weights]
    run_job(test.folder, f"the test of {cell.title}", cell.config, settings, jobs, "--eval-only")
