"""Changes to a valid file, drawn from a random number generator: of its bytes, its fields, or its values."""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

# Numbers at the borders of the types that headers use.
NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    9,
    15,
    16,
    17,
    32,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
# Values of JSON, with NaN and infinity, which Python reads; "deep" stands for nested lists.
VALUES = (
    None, "", "x", "1", "../x", "/etc/x", "C:\\x", "Müller", "\0", [], {}, [1], [None], [[]], True, False, -1, 0, 0.5,
    2, 1e300, 10**400, float("nan"), float("inf"), -float("inf"), "deep",
)  # fmt: skip
# Pieces of text that CSV, JSON and YAML readers may stumble over.
TOKENS = (
    b"", b"null", b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b'"', b"'", b",", b";", b"\n", b"\r", b"\t", b"\0",
    b"\xff", b"\xef\xbb\xbf", b"[", b"]", b"{", b"}", b":", b": ", b"- ", b"#", b"&a [*a]", b"*a", b"<<: *a",
    b"!!python/name:os", b"!!python/object/apply:os.getcwd []", b"!!binary x", b"!!timestamp 0",
    b"2001-01-01", b"? x", b"---\n", b"| ",
    b"0x1", b"1_0", b"0", b"1", b"2", b"0.5", b"1.0", b"a", b"p/1.png", b"L", b"MLO", b"malignant", b" ",
    b"../x", b"=1+1", b"x" * 140_000, b"[" * 20_000, b"\xe2\x80\xae",
)  # fmt: skip


def mutated_bytes(data: bytes, random_: random.Random, header: int = 600) -> bytes:
    """One to four changes of single bytes, words or stretches; half of them within the first ``header`` bytes."""
    changed = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        size = len(changed)
        if not size:
            break
        place = random_.randrange(min(size, header) if random_.random() < 0.5 else size)
        length = random_.choice((1, 2, 4, 16, 200))
        kind = random_.randrange(8)
        if kind == 0:
            changed[place] ^= 1 << random_.randrange(8)
        elif kind == 1:
            changed[place] = random_.choice((0, 1, 127, 128, 255, random_.randrange(256)))
        elif kind == 2:
            word = struct.pack(random_.choice("<>") + "I", random_.choice(NUMBERS))
            changed[place : place + 4] = word
        elif kind == 3:
            word = struct.pack(random_.choice("<>") + "H", random_.choice(NUMBERS) % 2**16)
            changed[place : place + 2] = word
        elif kind == 4:
            del changed[place : place + length]
        elif kind == 5:
            changed[place:place] = changed[place : place + length]
        elif kind == 6:
            changed[place:place] = random_.randbytes(length)
        else:
            del changed[place:]
    return bytes(changed)


def mutated_text(data: bytes, random_: random.Random) -> bytes:
    """Words of a text replaced or followed by ``TOKENS``, or changed bytes."""
    if random_.random() < 0.3:
        return mutated_bytes(data, random_, header=80)
    places = [place for place, byte in enumerate(data) if byte in b" ,:\n\"'[]{}"] or [0]
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        number = random_.randrange(len(places))
        start = min(places[number] + random_.randrange(2), len(data))
        end = places[min(number + random_.randrange(2), len(places) - 1)]
        data = data[:start] + random_.choice(TOKENS) + data[max(start, end) :]
    return data


def mutated_json(content: Any, random_: random.Random) -> bytes:
    """JSON of content in which one to three values are replaced, left out or there twice."""
    for _ in range(random_.randint(1, 3)):
        place = random_.choice(list(places(content)))
        content = _changed(content, place, random_)
    return json.dumps(content).replace('"deep"', "[" * 20_000 + "]" * 20_000).encode()


def places(value: Any, most: int | None = None, place: tuple = ()) -> Iterator[tuple]:
    """Keys that lead to every value in nested dicts and lists, of a list to its first ``most`` items."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:most]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, most, (*place, key))


def changed_at(value: Any, place: tuple, new: Any) -> Any:
    """A copy of nested dicts and lists with another value at a place."""
    if not place:
        return new
    value = copy.copy(value)
    value[place[0]] = changed_at(value[place[0]], place[1:], new)
    return value


def _changed(value: Any, place: tuple, random_: random.Random) -> Any:
    if not place:
        return random_.choice(VALUES)
    value = copy.copy(value)
    key, *rest = place
    kind = random_.randrange(5) if not rest else -1
    if kind == 0:
        del value[key]
    elif kind == 1 and isinstance(value, list):
        value.insert(key, value[key])
    elif kind == 1:
        value[random_.choice(["", "x", "labels", key + "s"])] = value[key]
    else:
        value[key] = _changed(value[key], tuple(rest), random_)
    return value


def mutated_png(data: bytes, random_: random.Random) -> bytes:
    """One chunk changed, and its checksum set right again, so that the decoder sees it."""
    chunks = []
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    number = random_.randrange(len(chunks))
    kind, body = chunks[number]
    action = random_.randrange(4)
    if action == 0:
        chunks.insert(number, (kind, body))
    elif action == 1:
        chunks.insert(1, (random_.choice((b"tRNS", b"PLTE", b"gAMA", b"sBIT", b"iCCP", b"zTXt", b"acTL")), body[:60]))
    else:
        chunks[number] = kind, mutated_bytes(body, random_)
    parts = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return data[:8] + b"".join(parts)
