"""Trainings in separate processes, and tables of their results."""

import csv
import io
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tabulate import tabulate

from mammo_d2.core.files import atomic_write, read_json, write_bytes_atomic, write_json
from mammo_d2.core.processes.parent_process import STARTER_VARIABLE
from mammo_d2.core.processes.threads import THREADS, threads_each
from mammo_d2.engine.run_files.run_folder import LOG_FILE

Item = TypeVar("Item")

# GPU and process of the runs that were started in parallel.
_running: list[tuple[str, subprocess.Popen]] = []
_lock = threading.Lock()


def run_job(folder: Path, name: str, config_file: str, overrides: Sequence[str], jobs: int, *flags: str) -> None:
    """Run the config's training command with OUTPUT_DIR ``folder``; its output goes to ``stdout.txt`` there.

    Args:
        folder: created if missing.
        name: of the run, for the error message.
        config_file: the config.
        overrides: KEY VALUE pairs.
        jobs: number of parallel runs. They share the cores, unless OMP_NUM_THREADS is set. Each gets one GPU, the one
            with the fewest of these runs.
        flags: of the training command, e.g. ``--resume``.

    Raises:
        ChildProcessError: the run failed; the message has the error in its log, if any, and the path of the log.
    """
    if start_job(folder, config_file, overrides, jobs, *flags).wait() != 0:
        log = folder / LOG_FILE
        errors = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("error: ")]
        raise ChildProcessError(f"{name} failed{f' ({errors[-1]})' if errors else ''}; see {log}")


def start_job(
    folder: Path, config_file: str, overrides: Sequence[str], jobs: int, *flags: str, **options: Any
) -> subprocess.Popen:
    """As ``run_job``, without waiting for the end; ``options`` are those of ``subprocess.Popen``.

    The run stops when this process ends before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mammo_d2.cli.training.train", "--config-file", config_file, *flags]
    command += [*overrides, "OUTPUT_DIR", str(folder)]
    environment = {THREADS: str(threads_each(jobs)), **os.environ}
    environment[STARTER_VARIABLE] = str(os.getpid())
    gpus = _visible_gpus() if jobs > 1 else []
    with _lock, open(folder / LOG_FILE, "a") as log:
        if gpus:
            _running[:] = [(gpu, process) for gpu, process in _running if process.poll() is None]
            busy = Counter(gpu for gpu, _ in _running)
            environment["CUDA_VISIBLE_DEVICES"] = min(gpus, key=lambda gpu: busy[gpu])
        started = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, **options)
        if gpus:
            _running.append((environment["CUDA_VISIBLE_DEVICES"], started))
    return started


def _visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them; empty without any."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return (named or [str(number) for number in range(count)])[:count]


def run_all(run: Callable[[Item], None], items: Sequence[Item], jobs: int) -> None:
    """Call ``run`` for every item, ``jobs`` in parallel, and print the progress."""
    with ThreadPoolExecutor(jobs) as pool:
        for number, _ in enumerate(pool.map(run, items), 1):
            print(f"{number}/{len(items)} runs done", flush=True)


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """{task: {key: number}} with NaN where a metric is undefined."""
    content = read_json(path)
    return {
        task: {key: float("nan") if value is None else float(value) for key, value in numbers.items()}
        for task, numbers in content.items()
    }


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; the mean alone of one value."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def summary_table(
    rows: Sequence[dict],
    names: Sequence[str],
    metrics: Sequence[str],
    by: str,
    count: str,
    style: str = "github",
) -> str:
    """One line per name with mean ± standard deviation over its rows.

    Args:
        rows: one dict a run.
        names: values of the column ``by``, in order.
        metrics: the columns.
        by: column that names a line.
        count: heading of the number of rows.
        style: of tabulate.
    """
    lines = []
    for name in names:
        found = [row for row in rows if row[by] == name]
        numbers = [mean_and_spread([row[key] for row in found]) for key in metrics]
        lines.append([name, len(found), *numbers])
    return tabulate(lines, [by, count, *metrics], tablefmt=style)


def write_tables(rows: Sequence[dict], table: str, output: Path, stem: str) -> None:
    """Write ``<stem>.md`` (the table), ``.json`` and ``.csv`` (one row a run, empty where it lacks a column).

    Undefined numbers are null in the JSON file.
    """
    with atomic_write(output / f"{stem}.md", "w") as file:
        file.write(table + "\n")
    write_json(output / f"{stem}.json", list(rows), nan_as_null=True)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_bytes_atomic(output / f"{stem}.csv", text.getvalue().encode("utf-8"))
