"""Large JSON files by orjson where it is installed (the extra ``fast``), with the result of Python's reader.

orjson takes the last of two equal keys, turns whole numbers beyond 64 bits into floats and refuses NaN. What it may
have read otherwise than ``json`` is left to ``json``: everything here answers "not sure" with ``None``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    import orjson
except ModuleNotFoundError:
    orjson = None  # type: ignore[assignment]

#: Files below that many bytes gain nothing.
LEAST_BYTES = 1 << 18


@contextmanager
def no_collection() -> Iterator[None]:
    """Let the garbage collector wait: over millions of parsed objects, none of them garbage, it takes longer than the
    parser."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def parse_strictly(data: bytes) -> Any | None:
    """Content of a JSON text in UTF-8, None where ``json`` must decide: no orjson, not valid, a key that may be there
    twice, a huge number."""
    if orjson is None or len(data) < LEAST_BYTES:
        return None
    content = parse_quickly(data)
    keys, is_plain = _keys_of(content)
    # Every key is followed by a colon. Texts with colons and blanks before colons only cost the second reading.
    return content if is_plain and keys == data.count(b'":') else None


def parse_quickly(data: bytes | str) -> Any | None:
    """Content of a JSON text; the last of equal keys counts, as for ``json``, and whole numbers beyond 64 bits are
    floats. None without orjson and for what is not valid to it."""
    if orjson is None:
        return None
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _keys_of(content: Any) -> tuple[int, bool]:
    """How many keys all objects have, and whether no float may have been a whole number beyond 64 bits."""
    keys, waiting = 0, [[content]]
    while waiting:
        value = waiting.pop()
        if type(value) is dict:
            keys += len(value)
            value = value.values()
        for item in value:
            kind = type(item)
            if kind is dict or kind is list:
                waiting.append(item)
            elif kind is float and not -9e18 < item < 9e18:
                return keys, False
    return keys, True
