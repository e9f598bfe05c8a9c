"""Write a whole phantom set: DICOM files and one COCO file with the truth.

```
<out_dir>/dicom/<patient>/<patient>_<L|R>_<CC|MLO>.dcm
<out_dir>/truth.json          file_name is relative to <out_dir>/dicom
```
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mammo_d2.core.files import sha256_bytes, write_bytes_atomic, write_json
from mammo_d2.core.processes.parent_process import end_with_parent
from mammo_d2.core.processes.threads import use_one_thread
from mammo_d2.phantom.dicom_writer import dicom_bytes
from mammo_d2.phantom.patient import generate_patient
from mammo_d2.phantom.settings import PhantomConfig
from mammo_d2.phantom.truth import collect_truth, view_record

DICOM_FOLDER = "dicom"
TRUTH_FILE = "truth.json"


def write_phantom(config: PhantomConfig, out_dir: str | os.PathLike[str], workers: int = 1,
                  progress: bool = True) -> Path:  # fmt: skip
    """Generate all patients and write them.

    Every file appears complete or not at all; the truth comes last. The same settings give the same bytes, with any
    number of workers.

    Args:
        config: settings.
        out_dir: made if missing; existing files of the same name are replaced.
        workers: processes; 1 works in this one.
        progress: show a bar on the terminal.

    Returns:
        Path of the truth file.

    Raises:
        ValueError: ``workers`` is less than 1.
    """
    if workers < 1:
        raise ValueError(f"write_phantom: workers is {workers}; use 1 (this process) or more")
    out = Path(out_dir)
    job = partial(_write_patient, config, out / DICOM_FOLDER)
    records = [
        record
        for records in tqdm(_run(job, config.n_patients, workers), total=config.n_patients, disable=not progress,
                            desc="phantom patients", unit="patient")
        for record in records
    ]  # fmt: skip
    truth = out / TRUTH_FILE
    write_json(truth, collect_truth(config, records))
    return truth


def _run(job: partial, count: int, workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers == 1:
        yield from map(job, range(count))
        return
    # A fresh interpreter each: forking a process whose libraries have started threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, count), mp_context=context, initializer=_start_worker) as pool:
        yield from pool.map(job, range(count), chunksize=max(1, min(4, count // (4 * workers))))


def _start_worker() -> None:
    end_with_parent()
    use_one_thread()


def _write_patient(config: PhantomConfig, folder: Path, index: int) -> list[dict[str, Any]]:
    """Write one patient's four files; returns their truth records."""
    records = []
    for view in generate_patient(config, index):
        name = f"{view.patient_id}/{view.patient_id}_{view.laterality}_{view.view}.dcm"
        data = dicom_bytes(config, view)
        write_bytes_atomic(folder / name, data)
        records.append(view_record(view, name, sha256_bytes(data)))
    return records
