"""A record of config and data in a run's folder, so that a run is never continued with others.

The record has the resolved config, and the SHA-256 of the annotation files of its data sets and of the files that it
names (weights, for instance). ``config.yaml`` is not enough: every training in a folder overwrites it, and it does not
tell the content of those files. Images are covered as far as their annotation file describes them: that of a prepared
data set has their checksums.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mammo_d2.config.loading import load_config
from mammo_d2.core.files import read_json, sha256_file, write_json
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.engine.run_files.run_folder import RECORD_FILE, SCALARS_FILE
from mammo_d2.framework import CfgNode, MetadataCatalog

# Files that a resumed run would use, unless they are empty.
_TRACES = ("*.pth", SCALARS_FILE, "study.log")
# Number of differences that a message lists.
_TOLD = 3

#: Keys that say where and how fast, not what: they may change when a run is resumed. All others may not.
IGNORED = frozenset(
    {
        "OUTPUT_DIR",
        "VIS_PERIOD",
        "TEST.TENSORBOARD_IMAGES",
        "TRACKER.NAME",
        "TRACKER.PROJECT",
        "TRACKER.URI",
        "MODEL.DEVICE",
        # Data sets are compared by the content of their annotation files.
        "DATASETS.ROOT",
        "DATASETS.REGISTER",
        "DATASETS.RECORD_STORE",
        # Decides whether a run starts at all.
        "DATASETS.ALLOW_SHARED_PATIENTS",
        "DATALOADER.NUM_WORKERS",
        "DATALOADER.CACHE_MB",
        "SOLVER.CHECKPOINT_COPY",
        "SOLVER.CHECKPOINT_EPOCHS",
        "SOLVER.CHECKPOINT_PERIOD",
        # Memory and time for the same numbers.
        "MODEL.RESNET22.CHECKPOINTING",
        "MODEL.RESNET22.SKIP_BACKGROUND",
        "MODEL.LESION.WINDOWS_PER_FORWARD",
        "TEST.COCO.BACKEND",
        # Folders whose content is found by what it was made from.
        "MODEL.DUAL_BRANCH.CACHE_DIR",
        "MODEL.LESION.STORE",
        "MODEL.LESION.CACHE",
        # Of the prediction on files.
        "INPUT.PREPARATION",
        "TEST.FOLD_NORM",
        "TEST.COMPILE",
    }
)


class RunConflictError(ValueError):
    """A folder holds a run of another config or other data."""


def run_record(cfg: CfgNode) -> dict[str, Any]:
    """What decides the result of a run with this config; registers its data sets.

    Returns:
        Value by dotted key, without ``IGNORED``; a file counts with its name and SHA-256, wherever it lies. Then
        "annotations of <data set>" with the SHA-256 of its annotation file. Missing files are left out: the run itself
        complains about them.
    """
    record = {key: _by_content(value) for key, value in _flat(yaml.safe_load(cfg.dump())) if key not in IGNORED}
    register_datasets(cfg)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.MODEL.LESION.FINAL_TEST):
        path = MetadataCatalog.get(name).get("json_file") if name in MetadataCatalog.list() else None
        if path and os.path.isfile(path):
            record[f"annotations of {name}"] = _by_content(path)
    return record


def fingerprint(cfg: CfgNode) -> str:
    """Eight hexadecimal digits of the record of a config."""
    return hashlib.blake2b(json.dumps(run_record(cfg), sort_keys=True).encode(), digest_size=4).hexdigest()


def claim_folders(
    runs: Mapping[Path, CfgNode], option: str = "--output", resume: bool = True, write: bool = True
) -> None:
    """Record some runs in their folders, before the first of them starts.

    A folder with weights or results must have the same record already. If one has another, nothing is written.

    Args:
        runs: config by folder.
        option: what names another folder, for the message.
        resume: False if the runs start anew, whatever is there.
        write: False on the ranks of a distributed job that must not write.

    Raises:
        RunConflictError: a folder holds another run; its name, what differs, and the remedy.
    """
    records = {folder: run_record(cfg) for folder, cfg in runs.items()}
    taken = [folder for folder in records if resume and _holds_results(folder)]
    conflicts = {folder: words for folder in taken if (words := _differences(folder, records[folder]))}
    if conflicts:
        folder, words = next(iter(conflicts.items()))
        more = f"; and {len(words) - _TOLD} more" if len(words) > _TOLD else ""
        others = f" ({len(conflicts)} folders in all hold other runs.)" if len(conflicts) > 1 else ""
        raise RunConflictError(
            f"{folder} holds a run of another config or other data: {'; '.join(words[:_TOLD])}{more}. Name another "
            f"{option}, or delete {folder} to run it anew{others}"
        )
    for folder in records.keys() - taken if write else ():
        write_json(folder / RECORD_FILE, records[folder])


def _differences(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """What differs from the record in a folder, in words.

    A key that did not exist yet when the run was recorded counts with its default.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        return [f"there is no {RECORD_FILE} to tell what it was made with"]
    former = read_json(path)
    if young := record.keys() - former.keys():
        defaults = dict(_flat(yaml.safe_load(load_config().dump())))
        former |= {key: defaults[key] for key in young if key in defaults}
    pairs = {key: (former.get(key, "absent"), record.get(key, "absent")) for key in {**record, **former}}
    return [f"{key}: {old!r} then, {new!r} now" for key, (old, new) in pairs.items() if old != new]


def _holds_results(folder: Path) -> bool:
    return any(path.stat().st_size for pattern in _TRACES for path in folder.rglob(pattern))


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _by_content(value: Any) -> Any:
    """An existing file as its name and checksum; every other value, and names without ending, unchanged."""
    if isinstance(value, list):
        return [_by_content(item) for item in value]
    if isinstance(value, str) and Path(value).suffix and os.path.isfile(value):
        state = os.stat(value)
        return f"{Path(value).name} (SHA-256 {_checksum(value, state.st_mtime_ns, state.st_size)})"
    return value


@functools.lru_cache(maxsize=256)
def _checksum(path: str, modified: int, size: int) -> str:
    """Checksum of a file in a certain state: many runs with the same weights read them once."""
    return sha256_file(path)[:16]
