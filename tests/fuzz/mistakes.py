"""The kinds of mistakes people make in a file: NaN, null, wrong type, duplicate, wrong unit, encoding, path, missing.

Each function lists the mistakes in one valid file. ``Mistake.bad`` says that it must be refused, or leave the result as
it is: a number that comes of it would be wrong. Other mistakes may give another, plausible result.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tests.fuzz.mutations import VALUES, changed_at, places

# Values that a column of a type never has.
WRONG = {
    "number": ("nan", "NaN", "inf", "-inf", "x", "1e400", "1,5", "0x10", "--", "9" * 400, "1 2", "None"),
    "label": ("nan", "2", "4", "-1", "0.5", "x", "0.0.", "None", "01"),
    "side": ("nan", "X", "LR", "1", "links", "None"),
    "view": ("nan", "XX", "1", "None"),
    "grade": ("nan", "inf", "-1", "0.5", "7", "9", "1e3", "x", "None"),
    "density": ("nan", "-1", "0", "5", "E", "0.5", "x"),
    "split": ("nan", "x", "1", "Training set"),
    "id": ("../x", "../../x", "/etc/x", "C:\\x", "..\\x", "a/../../x"),
    "category": ("nan", "x", "1", "None"),
}
# Values that may stand anywhere and are no mistake everywhere.
ANY = ("", " ", "0", "1", "2", "-1", "0.5", "100000", "Müller", "=1+1", "1.0", "NULL", "x" * 300)
#: How a COCO box of other units or another order looks.
BOX_UNITS = {
    "fractions": lambda box, size: [box[0] / size[1], box[1] / size[0], box[2] / size[1], box[3] / size[0]],
    "other pixels": lambda box, size: [value * 10 for value in box],
    "negative size": lambda box, size: [box[0], box[1], -box[2], box[3]],
    "no size": lambda box, size: [box[0], box[1], 0, box[3]],
}


@dataclass(frozen=True)
class Mistake:
    """A file's new content, or what makes it; None: the file is gone, "folder": a folder in its place."""

    kind: str
    where: str
    content: bytes | str | Callable[[], bytes] | None
    bad: bool = False


def file_mistakes(data: bytes, text: bool = True) -> Iterator[Mistake]:
    """Of any file: gone, empty, a folder, cut off; of a text in UTF-8 also other encodings, zero bytes, archives."""
    yield Mistake("missing", "no such file", None, bad=True)
    yield Mistake("missing", "empty file", b"", bad=True)
    yield Mistake("type", "a folder", "folder", bad=True)
    yield Mistake("type", "cut in half", data[: len(data) // 2])
    yield Mistake("type", "another file", b"\x89PNG\r\n\x1a\n" + bytes(200), bad=True)
    if not text:
        return
    plain = data.decode()
    yield Mistake("encoding", "byte order mark", b"\xef\xbb\xbf" + data)
    yield Mistake("encoding", "UTF-16", plain.encode("utf-16"), bad=True)
    yield Mistake("encoding", "UTF-16 without mark", plain.encode("utf-16-le"), bad=True)
    yield Mistake("encoding", "Latin-1", data + "\nM\u00fcller".encode("latin-1"), bad=True)
    yield Mistake("encoding", "gzip", gzip.compress(data), bad=True)
    yield Mistake("encoding", "xlsx", b"PK\x03\x04" + bytes(100), bad=True)
    yield Mistake("encoding", "zero bytes", data[: len(data) // 2] + b"\0\0" + data[len(data) // 2 :], bad=True)
    yield Mistake("encoding", "Windows line ends", data.replace(b"\n", b"\r\n"))
    yield Mistake("encoding", "old Mac line ends", data.replace(b"\n", b"\r"))


def table_mistakes(
    data: bytes, types: Mapping[str, str], key: Sequence[str] = (), delimiter: str = ","
) -> Iterator[Mistake]:
    """Of a CSV table: every cell of two rows with wrong values, columns and rows that are gone, twice or changed.

    Args:
        data: the valid table.
        types: of the columns that are read, see ``WRONG``; "text" for others that are.
        key: columns that name a row: two rows that differ in nothing of it contradict each other.
        delimiter: of the table.
    """
    yield from file_mistakes(data)
    header, *rows = [row for row in csv.reader(io.StringIO(data.decode()), delimiter=delimiter) if row]

    def table(*lines: Sequence[str], head: Sequence[str] = header, by: str = delimiter) -> bytes:
        stream = io.StringIO()
        csv.writer(stream, delimiter=by, lineterminator="\n").writerows([head, *lines])
        return stream.getvalue().encode()

    for column, name in enumerate(header):
        for number, row in enumerate(rows[:3]):
            wrong = WRONG.get(types.get(name, ""), ())
            for value in dict.fromkeys((*wrong, *ANY)):
                changed = [*row[:column], value, *row[column + 1 :]]
                kind = {"nan": "NaN", "": "null"}.get(value.lower().strip(), "path" if "x" in value[1:] else "type")
                where = f"row {number + 2}, {name}: {value!r:.40}"
                bad = value in wrong and row[column] != ""
                yield Mistake(kind, where, table(*rows[:number], changed, *rows[number + 1 :]), bad)
        without = [[*row[:column], *row[column + 1 :]] for row in rows]
        yield Mistake("missing", f"no column {name}", table(*without, head=[*header[:column], *header[column + 1 :]]))
        yield Mistake("duplicate", f"column {name} twice",
                      table(*[[*row, row[column]] for row in rows], head=[*header, name]), bad=True)  # fmt: skip
        other = (column + 1) % len(header)
        swapped = list(header)
        swapped[column], swapped[other] = swapped[other], swapped[column]
        yield Mistake("type", f"heading {name} for {header[other]}", table(*rows, head=swapped))
    for number, row in enumerate(rows[:4]):
        yield Mistake("duplicate", f"row {number + 2} twice", table(*rows, row), bad=True)
        for name in types if key else ():
            if name in key or name not in header or types[name] in ("id", "text"):
                continue
            for value in {other[header.index(name)] for other in rows} - {row[header.index(name)], ""}:
                contrary = list(row)
                contrary[header.index(name)] = value
                where = f"row {number + 2} again with {name} {value}"
                yield Mistake("duplicate", where, table(*rows, contrary), bad=True)
        for cut in range(1, len(row)):
            yield Mistake("type", f"row {number + 2} cut after {cut} fields",
                          table(*rows[:number], row[:cut], *rows[number + 1 :]),
                          bad=any(row[header.index(n)] for n in types if n in header[cut:]))  # fmt: skip
        yield Mistake("type", f"row {number + 2} with a field more", table(*rows, [*row, "x"]), bad=True)
        line = delimiter.join(row)
        yield Mistake("type", f"row {number + 2} with an open quotation mark",
                      data + f'"{line}\n'.encode(), bad=True)  # fmt: skip
    yield Mistake("missing", "header only", table(), bad=True)
    yield Mistake("missing", "no header", table(*rows[1:], head=rows[0]), bad=True)
    for by in {",", ";", "\t", "|"} - {delimiter}:
        yield Mistake("type", f"delimiter {by!r}", table(*rows, by=by), bad=True)


def json_mistakes(content: Any, most_per_list: int = 2) -> Iterator[Mistake]:
    """Of JSON: every value replaced by others, left out, there twice; and the mistakes of any file."""
    yield from file_mistakes(json.dumps(content).encode())
    for where, changed in _changes(content, most_per_list):
        text = json.dumps(changed).replace('"deep"', "[" * 100_000 + "]" * 100_000)
        yield Mistake(_kind(where), where, text.encode())
    yield Mistake("type", "an end that is too much", json.dumps(content).encode() + b"]")


def yaml_mistakes(content: Any) -> Iterator[Mistake]:
    """Of YAML: values replaced, left out, there twice, tags, anchors that grow; and the mistakes of any file."""
    text = yaml.safe_dump(content, sort_keys=False)
    yield from file_mistakes(text.encode())
    for where, changed in _changes(content, 2):
        try:
            mutated = yaml.safe_dump(changed, sort_keys=False)
        except yaml.YAMLError:
            continue
        yield Mistake(_kind(where), where, mutated.replace("deep", "[" * 20_000 + "]" * 20_000).encode())
    for token in ("!!python/name:os", "!!python/object/apply:os.getcwd []", "&a [*a]", "*a", "{", "}", "\t", "- x",
                  "? x", "--- x", "!!binary x", "2001-01-01", "@", "%", "'"):  # fmt: skip
        yield Mistake("type", f"line {token!r}", f"{text}{token}\n".encode())
        yield Mistake("type", f"value {token!r}", f"{text}NEW: {token}\n".encode())
    if isinstance(content, dict):
        for key in content:
            again = yaml.safe_dump({key: list(content.values())[-1]}, sort_keys=False)
            yield Mistake("duplicate", f"key {key} twice", (text + again).encode(), bad=True)


def _kind(where: str) -> str:
    for word, kind in (("nan", "NaN"), ("inf", "NaN"), ("None", "null"), ("twice", "duplicate"), ("/", "path"),
                       ("M\u00fc", "encoding"), ("left out", "missing")):  # fmt: skip
        if word in where:
            return kind
    return "type"


def _changes(content: Any, most: int) -> Iterator[tuple[str, Any]]:
    for place in places(content, most):
        where = "/".join(map(str, place)) or "all"
        for value in VALUES:
            yield f"{where}: {value!r:.40}", changed_at(content, place, value)
        if place:
            parent = copy.copy(_at(content, place[:-1]))
            value = parent.pop(place[-1])
            yield f"{where} left out", changed_at(content, place[:-1], parent)
            if isinstance(parent, list):
                twice = [*_at(content, place[:-1]), value]
                yield f"{where} twice", changed_at(content, place[:-1], twice)


def _at(value: Any, place: tuple) -> Any:
    for key in place:
        value = value[key]
    return value
