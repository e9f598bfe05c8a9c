"""The prepared parts of a data set to the data set: the files that one run without parts would have written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammo_d2.data.prepare.image import IMAGE_FOLDER, Outcome
from mammo_d2.data.prepare.options import PrepareError
from mammo_d2.data.prepare.shards.shard_files import SHARD_FOLDER, Shard
from mammo_d2.data.prepare.written.dataset_files import PrepareResult, write_dataset

_NAME = re.compile(r"(\d+)-of-(\d+)\.json")


def merge_shards(out: str | os.PathLike[str]) -> PrepareResult:
    """Write annotations, error table and manifest of a data set whose parts were prepared by themselves.

    Splits by patient, equal images of two patients and leaks between splits are decided over all parts. The files are,
    byte for byte, those of one run; but for the manifest's time.

    Args:
        out: folder of the prepared data set, with the images and shard files of all parts.

    Raises:
        FileNotFoundError: no such folder.
        PrepareError: a part is missing, parts were prepared with other options, versions or lists of images, an image
            file is missing, or no image could be prepared.
    """
    out = Path(out)
    shards = _read_shards(out)
    first = shards[0]
    for shard in shards:
        _check_same(first, shard)
        _check_images(shard, out)
    outcomes: list[Outcome] = []
    result = PrepareResult(out, skipped=list(first.skipped))
    for index in range(first.images):
        shard, position = shards[index % first.total], index // first.total
        outcome = shard.outcomes[position]
        outcomes.append(outcome)
        result.issues += outcome.issues
        result.skipped += shard.left_out[position]
    write_dataset(outcomes, replace(first.options, shard=None), first.origin, result)
    return result


def _read_shards(out: Path) -> list[Shard]:
    """All parts in their order."""
    if not out.is_dir():
        raise FileNotFoundError(f"{out}: no such folder; name the folder that was --out of the shards")
    names = [_NAME.fullmatch(path.name) for path in sorted((out / SHARD_FOLDER).glob("*"))]
    found = {(int(name[2]), int(name[1])): name.string for name in names if name}
    if not found:
        raise PrepareError(f"{out}: no {SHARD_FOLDER}/k-of-n.json in it; run prepare with --shard k/n for each k first")
    totals = sorted({total for total, _ in found})
    if len(totals) > 1:
        numbers = " and ".join(map(str, totals))
        raise PrepareError(
            f"{out / SHARD_FOLDER}: shards of runs in {numbers} parts; delete the files of the run that does not count"
        )
    total = totals[0]
    missing = [number for number in range(1, total + 1) if (total, number) not in found]
    if missing:
        listed = ", ".join(f"{number}/{total}" for number in missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise PrepareError(
            f"{out / SHARD_FOLDER}: {len(missing)} of {total} shards are missing ({listed}); run prepare with "
            f"--shard {missing[0]}/{total}"
        )
    shards = []
    for number in range(1, total + 1):
        path = out / SHARD_FOLDER / found[total, number]
        shard = Shard.read(path)
        images = len(range(number - 1, shard.images, total))
        if (shard.number, shard.total) != (number, total) or not (len(shard.outcomes) == len(shard.left_out) == images):
            raise PrepareError(
                f"{path}: holds {len(shard.outcomes)} images of shard {shard.number}/{shard.total}; {images} of "
                f"{number}/{total} belong there: prepare it again"
            )
        shards.append(shard)
    return shards


def _check_same(first: Shard, other: Shard) -> None:
    expected, found = _flat(first.common), _flat(other.common)
    different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if not different:
        return
    name, where = different[0], f"shards {first.number}/{first.total} and {other.number}/{other.total}"
    if name in ("number of images", "list of images"):
        raise PrepareError(
            f"{where} were made from other lists of images: files or tables of the source changed in between, or "
            "identifiers were hashed with other salts (give one --id-salt); prepare one of them again"
        )
    values = f"{expected.get(name)!r:.200} and {found.get(name)!r:.200}"
    raise PrepareError(f"{where} differ in {name}: {values}; prepare one of them again")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """A dict whose values that are dicts are replaced by theirs, under names such as "versions.numpy"."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _check_images(shard: Shard, out: Path) -> None:
    """Every image file of the part must be there, of its size; parts may have been copied from other machines."""
    for outcome in shard.outcomes:
        if outcome.image is None:
            continue
        path = out / IMAGE_FOLDER / outcome.image["file_name"]
        expected = outcome.image["source"]["prepared_bytes"]
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            problem = "no such file" if size is None else f"{size} bytes, not {expected}"
            raise PrepareError(
                f"{path}: {problem}; copy the images of shard {shard.number}/{shard.total}, or prepare it again"
            )
