"""``predictions.jsonl``: the result record of each file, written as soon as there is one; a kill loses no line.

The first line says how the predictions were made; every other line is a record (see ``result_files``) with ``stat``,
size and time of the file. Of several lines with one ``id`` the last one holds. A line that was cut off is left out.
Each further process of a job writes a part of its own, ``predictions.rank1.jsonl``, which is merged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mammo_d2.core.files import FileFormatError, atomic_write

JOURNAL_FILE = "predictions.jsonl"
# Marks the first line.
_HEAD = "mammo_d2_predictions"


class SettingsDifferError(ValueError):
    """The results in the folder were made in another way."""


def journal_file(folder: str | os.PathLike[str], rank: int = 0) -> Path:
    """The journal of a process of the job."""
    return Path(folder) / (JOURNAL_FILE if rank == 0 else f"predictions.rank{rank}.jsonl")


def parts(folder: str | os.PathLike[str]) -> list[Path]:
    """The journal and the parts of further processes, as far as they are there."""
    main = journal_file(folder)
    others = sorted(Path(folder).glob("predictions.rank*.jsonl"))
    return [path for path in (main, *others) if path.is_file()]


def remove_journal(folder: str | os.PathLike[str]) -> None:
    """Remove the journal and its parts."""
    for path in reversed(parts(folder)):
        path.unlink()


def read_journal(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings of a journal, and the record of each file by id.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: not a journal.
    """
    settings: dict[str, Any] = {}
    records: dict[int, dict[str, Any]] = {}
    for _, _, content in _lines(Path(path)):
        if _HEAD in content:
            settings = content["settings"] if isinstance(content.get("settings"), dict) else {}
        else:
            records[content["id"]] = content
    return settings, [records[number] for number in sorted(records)]


def stat_of(file: str | os.PathLike[str]) -> list[int] | None:
    """Size in bytes and time of change in nanoseconds; None if the file cannot be looked at."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


class JournalWriter:
    """Appends records to a journal; each is handed to the system whole before ``append`` returns."""

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]):
        """
        Args:
            path: the journal; continued if it is there.
            settings: how the predictions are made; the first line of a new journal.
        """
        self._path = Path(path)
        self._file: BinaryIO = open(self._path, "ab", buffering=0)  # noqa: SIM115 (closed by ``close``)
        if self._file.tell() == 0:
            self._write({_HEAD: 1, "settings": dict(settings)})

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record.

        Raises:
            OSError: with the name of the journal; e.g. the disk is full. The journal is as it was before.
        """
        self._write(record)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        data = memoryview((json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8"))
        start = self._file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.truncate(start)
            raise OSError(error.errno, error.strerror, str(self._path)) from error


class Journal:
    """The records of a folder, merged into one journal in the order of their ids.

    Attributes:
        ids: id by file name, of all files that have a record.
        failed: ids of files without prediction.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]):
        """Merge what is there; a folder without results is as good.

        Args:
            folder: of the results.
            settings: how predictions are made now.

        Raises:
            SettingsDifferError: the results there were made in another way.
            FileFormatError: a journal that is none.
        """
        self._path = journal_file(folder)
        self.ids: dict[str, int] = {}
        self.failed: set[int] = set()
        self._stats: dict[int, Any] = {}
        places: dict[int, tuple[Path, int, int]] = {}
        files = parts(folder)
        in_order, last = len(files) == 1 and files[0] == self._path, 0
        for path in files:
            end = 0
            for start, length, content in _lines(path):
                in_order &= start == end  # nothing damaged before
                end = start + length
                if _HEAD in content:
                    _check_settings(self._path, content.get("settings"), settings)
                    continue
                number = content["id"]
                in_order &= number > last
                last = number
                places[number] = (path, start, length)
                self.ids[content["file_name"]] = number
                self._stats[number] = content.get("stat")
                (self.failed.add if "problem" in content else self.failed.discard)(number)
            in_order &= end == path.stat().st_size
        if files and not in_order:
            self._rewrite(places, settings)
            for path in files:
                if path != self._path:
                    path.unlink()

    def is_current(self, file_name: str, stat: Sequence[int] | None) -> bool:
        """Whether a file has a prediction, and was not changed since."""
        number = self.ids.get(file_name)
        return number is not None and number not in self.failed and self._stats[number] == stat

    def records(self) -> Iterator[dict[str, Any]]:
        """All records by id, one at a time; ``Journal`` of the same folder must not be made in between."""
        if not self._path.is_file():
            return
        for _, _, content in _lines(self._path):
            if _HEAD not in content:
                yield content

    def _rewrite(self, places: Mapping[int, tuple[Path, int, int]], settings: Mapping[str, Any]) -> None:
        opened: dict[Path, BinaryIO] = {}
        try:
            with atomic_write(self._path) as stream:
                head = json.dumps({_HEAD: 1, "settings": dict(settings)}, ensure_ascii=False)
                stream.write(f"{head}\n".encode())
                for _, (path, start, length) in sorted(places.items()):
                    if path not in opened:
                        opened[path] = open(path, "rb")  # noqa: SIM115 (closed below)
                    opened[path].seek(start)
                    stream.write(opened[path].read(length))
        finally:
            for file in opened.values():
                file.close()


def _lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(start, length, content) of every whole line of a journal; damaged ones are left out.

    Raises:
        FileFormatError: the first line does not begin a journal.
    """
    start = 0
    with open(path, "rb") as stream:
        for line in stream:
            here, start = start, start + len(line)
            try:
                content = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                content = None
            if here == 0 and line.endswith(b"\n") and not (isinstance(content, dict) and _HEAD in content):
                raise FileFormatError(
                    f"{path}: is no list of predictions of mammo-d2 predict; name another folder for the results, or "
                    "leave out --resume"
                )
            if isinstance(content, dict) and (_HEAD in content or _is_record(content)):
                yield here, len(line), content


def _is_record(content: Mapping[str, Any]) -> bool:
    number = content.get("id")
    whole = "problem" in content or ("boxes" in content and "image_scores" in content)
    return isinstance(number, int) and number > 0 and isinstance(content.get("file_name"), str) and whole


def _check_settings(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    found = found if isinstance(found, dict) else {}
    now = json.loads(json.dumps(dict(wanted)))
    names = [name for name in {**now, **found} if now.get(name) != found.get(name)]
    if names:
        texts = [f"{name} {_short(found.get(name))}, now {_short(now.get(name))}" for name in names]
        raise SettingsDifferError(
            f"{path}: predicted with {'; '.join(texts)}: results of both in one file would mislead; repeat the former "
            "command, name another --output, or leave out --resume to start anew"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
