"""Two output folders of the same command: equal bit for bit, but for files and fields that hold times or processes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna
import torch
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mammo_d2.engine.run_files.run_results import read_scalars

#: Files that are not compared, by a pattern of the whole path below the output folder, and why.
NOT_COMPARED = {
    r"(.*/)?log\.txt(\.rank\d+)?": "the log of all runs: times, process numbers, and a part for each start",
    r"(.*/)?stdout\.txt": "the log of a training that a search started: as log.txt",
    r"(.*/)?events\.out\.tfevents\..*": "TensorBoard: time, host and process number are in its name and in each record",
    r"(.*/)?(job|search)\.lock": "holds the number of a process",
    r"(.*/)?(training|prediction)_cost\.json": "seconds and memory",
}
#: Fields of metrics.json, the log of a training, that measure time. It is compared by what ``read_scalars`` finds:
#: a resumed training logs iterations after its checkpoint again.
TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")
#: The field of manifest.json that says when the data set was made.
CREATED = "created"
# study.log is compared by the trials that it holds (number, state, value, parameters, evaluations), not by the times at
# which they began and ended. Folders of pruned trials are left out (see ``commands.pruned_trials``).


def files_of(folder: Path) -> list[str]:
    """Paths of all files below a folder, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def is_compared(name: str) -> bool:
    return not any(re.fullmatch(pattern, name) for pattern in NOT_COMPARED)


def is_temporary(name: str) -> bool:
    """Whether a file is one that is to be renamed when it is whole."""
    return name.endswith((".tmp", ".kept"))


def differences(found: Path, expected: Path) -> Iterator[str]:
    """What differs in two output folders, a line for each file."""
    have, want = ({name for name in files_of(folder) if is_compared(name)} for folder in (found, expected))
    yield from (f"{name}: not there" for name in sorted(want - have))
    yield from (f"{name}: left over" for name in sorted(have - want))
    for name in sorted(have & want):
        a, b = found / name, expected / name
        if a.read_bytes() == b.read_bytes():
            continue
        value = _COMPARED_BY_VALUE.get(Path(name).name)
        # Evaluations have a metrics.json, too, which is compared by its bytes.
        if value is None or "inference" in Path(name).parts:
            yield f"{name}: other bytes{_first_difference(a, b)}"
        elif repr(value(a)) != repr(value(b)):  # NaN is NaN here
            yield f"{name}: other values{_difference_of_values(value(a), value(b))}"


def _scalars(path: Path) -> Any:
    return [{k: entry[k] for k in sorted(entry) if k not in TIMES} for entry in read_scalars(path.parent)]


def _manifest(path: Path) -> Any:
    return {key: value for key, value in json.loads(path.read_text()).items() if key != CREATED}


def _journal(path: Path) -> Any:
    """The trials of a study."""
    study = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(path))))
    trials = [
        [t.number, t.state.name, t.values, t.params, str(t.distributions), t.intermediate_values, t.user_attrs]
        for t in study.get_trials()
    ]
    return [study.direction.name, study.user_attrs, trials]


_COMPARED_BY_VALUE: dict[str, Callable[[Path], Any]] = {
    "metrics.json": _scalars, "manifest.json": _manifest, "study.log": _journal,
}  # fmt: skip


def _difference_of_values(a: Any, b: Any) -> str:
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return f" ({len(a)} entries, not {len(b)})"
        a, b = next((x, y) for x, y in zip(a, b, strict=True) if repr(x) != repr(y))
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [key for key in {**a, **b} if repr(a.get(key)) != repr(b.get(key))]
        return f" ({', '.join(f'{key}: {a.get(key)} not {b.get(key)}' for key in keys[:4])})"
    return f" ({a} not {b})"


def _first_difference(a: Path, b: Path) -> str:
    if a.suffix == ".pth":
        pairs = zip(_leaves(_load(a)), _leaves(_load(b)), strict=False)
        return next((f" ({k}: {x!r:.60} not {y!r:.60})" for (k, x), (_, y) in pairs if not _same(x, y)), " (order)")
    texts = (a.read_bytes(), b.read_bytes())
    place = next((n for n, (x, y) in enumerate(zip(*texts, strict=False)) if x != y), min(map(len, texts)))
    around = [text[max(0, place - 40) : place + 40] for text in texts]
    return f" ({around[0]!r} not {around[1]!r})" if a.suffix != ".png" else ""


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        yield name, value
    else:
        for key, item in items:
            yield from _leaves(item, f"{name}/{key}")


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu")


# --- whole at any moment ------------------------------------------------------------------------------------------
def unreadable(folder: Path) -> Iterator[str]:
    """Files below a folder that are there only in part; call it at any moment, also after a kill.

    Files that only grow (logs, the training log and the journal) may end in the middle of a line: their readers leave
    it out. Files to be renamed are not looked at.
    """
    for name in files_of(folder):
        path = folder / name
        if not is_compared(name) or is_temporary(name) or path.is_symlink():
            continue
        try:
            _read(path)
        except FileNotFoundError:
            continue
        except Exception as error:
            yield f"{name}: {type(error).__name__}: {error}"


def _read(path: Path) -> None:
    if path.name in _GROWING and "inference" not in path.parts:
        for line in path.read_bytes().split(b"\n")[:-1]:
            json.loads(line)
        return
    data = path.read_bytes()
    if path.suffix == ".jsonl":  # grows
        for line in data.split(b"\n")[:-1]:
            json.loads(line)
        return
    if not data:
        raise ValueError("empty")
    if path.suffix == ".json":
        json.loads(data)
    elif path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
        if not data.endswith(b"\n") or len({len(row) for row in rows}) != 1:
            raise ValueError(f"{len(rows)} rows, the last {rows[-1]}")
    elif path.suffix == ".png":
        if not data.endswith(b"IEND\xaeB`\x82") or cv2.imdecode(np.frombuffer(data, np.uint8), -1) is None:
            raise ValueError("not a whole PNG")
    elif path.suffix in (".yaml", ".yml"):
        if not isinstance(yaml.safe_load(data), dict):
            raise ValueError("not a mapping")
    elif path.suffix == ".pth":
        _load(path)
    elif not data.endswith(b"\n") and path.name != "last_checkpoint":
        raise ValueError("no end of line")


_GROWING = ("metrics.json", "study.log")
