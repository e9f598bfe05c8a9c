"""DDSM's text files: ``.ics`` (a case and its four films) and ``.OVERLAY`` (the abnormalities of a film).

Directions of a chain code: 0 is up, then clockwise (1 up and right, 2 right, ... 7 up and left).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from mammo_d2.core.files import text_problem
from mammo_d2.data.converters.converter import ConverterError

VIEW_NAMES = {"LEFT_CC": ("L", "CC"), "LEFT_MLO": ("L", "MLO"), "RIGHT_CC": ("R", "CC"), "RIGHT_MLO": ("R", "MLO")}
PATHOLOGIES = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK", "UNPROVEN")
_STEPS = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
# More steps than a film's border has pixels, many times over.
_MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Film:
    """One film of a case as the .ics describes it; ``resolution`` is the size of a pixel in micrometres."""

    view: str
    height: int
    width: int
    bits: int
    resolution: float | None
    has_overlay: bool


@dataclass(frozen=True)
class DdsmCase:
    """A case; ``digitizer`` and ``density`` are "" where the file does not give them."""

    digitizer: str
    density: str
    films: dict[str, Film]


@dataclass(frozen=True)
class Abnormality:
    """One abnormality: kinds and facts as written, and outlines as (x, y) pixels; the first one holds the others."""

    kinds: tuple[str, ...]
    assessment: str
    subtlety: str
    pathology: str
    outlines: tuple[tuple[tuple[int, int], ...], ...] = field(default=())


def read_case(path: str | os.PathLike[str]) -> DdsmCase:
    """Read an .ics file.

    Raises:
        ConverterError: no film, or a line of one that cannot be understood.
    """
    digitizer = density = ""
    films = {}
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if not words:
            continue
        if words[0] in VIEW_NAMES:
            films[words[0]] = _film(words, f"{path}, line {number} ({line.strip()[:80]!r})")
        elif words[0] == "DIGITIZER":
            digitizer = " ".join(words[1:]).upper()
        elif words[0] == "DENSITY" and len(words) > 1:
            density = words[1]
    if not films:
        raise ConverterError(f"{path}: no line begins with {', '.join(VIEW_NAMES)}; is it an .ics file of DDSM?")
    return DdsmCase(digitizer, density, films)


def _film(words: list[str], where: str) -> Film:
    facts = dict(zip(words[1:-1:2], words[2::2], strict=False))
    try:
        height, width, bits = (int(facts[key]) for key in ("LINES", "PIXELS_PER_LINE", "BITS_PER_PIXEL"))
        resolution = float(facts["RESOLUTION"]) if "RESOLUTION" in facts else None
    except (KeyError, ValueError):
        raise ConverterError(
            f"{where}: expected LINES, PIXELS_PER_LINE and BITS_PER_PIXEL, each with a number; correct it"
        ) from None
    if min(height, width) <= 0 or not 8 <= bits <= 16 or (resolution is not None and not 0 < resolution < 1000):
        raise ConverterError(f"{where}: a size of 0, bits outside 8..16, or a resolution that is none; correct it")
    if words[-1] not in ("OVERLAY", "NON_OVERLAY"):
        raise ConverterError(f"{where}: the line must end with OVERLAY or NON_OVERLAY; correct it")
    return Film(words[0], height, width, bits, resolution, words[-1] == "OVERLAY")


def read_overlay(path: str | os.PathLike[str]) -> list[Abnormality]:
    """Read an .OVERLAY file.

    ``TOTAL_OUTLINES`` is not trusted: some files of DDSM have fewer outlines.

    Raises:
        ConverterError: fewer abnormalities than ``TOTAL_ABNORMALITIES``, an unknown pathology, no outline, or a chain
            code that does not end with # or is none.
    """
    found: list[Abnormality] = []
    promised = None
    facts: dict[str, str] = {}
    kinds: list[str] = []
    outlines: list[tuple[tuple[int, int], ...]] = []

    def finish(where: str) -> None:
        if not facts:
            return
        if facts.get("PATHOLOGY") not in PATHOLOGIES:
            raise ConverterError(
                f"{where}: PATHOLOGY {facts.get('PATHOLOGY')!r:.80} must be one of {', '.join(PATHOLOGIES)}"
            )
        if not outlines:
            raise ConverterError(f"{where}: no outline; copy the file again, or leave the film out")
        assessment, subtlety = facts.get("ASSESSMENT", ""), facts.get("SUBTLETY", "")
        found.append(Abnormality(tuple(kinds), assessment, subtlety, facts["PATHOLOGY"], tuple(outlines)))

    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        words = line.split()
        if not words or words[0] in ("BOUNDARY", "CORE", "TOTAL_OUTLINES"):
            continue
        if words[0] == "TOTAL_ABNORMALITIES":
            promised = words[1] if len(words) > 1 else ""
        elif words[0] == "ABNORMALITY":
            finish(where)
            facts, kinds, outlines = {"ABNORMALITY": " ".join(words[1:])}, [], []
        elif words[0] == "LESION_TYPE" and len(words) > 1:
            kinds.append(" ".join(words[1:]))
        elif words[0] in ("ASSESSMENT", "SUBTLETY", "PATHOLOGY"):
            facts[words[0]] = words[1] if len(words) > 1 else ""
        elif re.match(r"-?\d", words[0]):
            outlines.append(chain_points(words, where))
    finish(f"{path}, last abnormality")
    if promised is None or not promised.isdigit() or len(found) < int(promised):
        raise ConverterError(
            f"{path}: TOTAL_ABNORMALITIES {promised!r}, but {len(found)} are there; copy the file again"
        )
    return found


def chain_points(words: list[str], where: str = "") -> tuple[tuple[int, int], ...]:
    """The pixels (x, y) of a chain code: column and row of the first one, a direction for each further one, then #.

    Raises:
        ConverterError: it does not end with #, or is not made of such numbers.
    """
    if words[-1] != "#" and not words[-1].endswith("#"):
        raise ConverterError(f"{where}: the outline's chain code does not end with #: copy the file again")
    numbers = [word.rstrip("#") for word in words if word != "#"]
    try:
        x, y, *steps = (int(number) for number in numbers)
    except ValueError:
        raise ConverterError(f"{where}: a chain code holds whole numbers only; copy the file again") from None
    if len(steps) > _MOST_STEPS or any(not 0 <= step < len(_STEPS) for step in steps):
        raise ConverterError(f"{where}: the directions of a chain code are 0 to 7; copy the file again")
    points = [(x, y)]
    for step in steps:
        x, y = x + _STEPS[step][0], y + _STEPS[step][1]
        points.append((x, y))
    return tuple(points)


def _lines(path: str | os.PathLike[str]) -> list[str]:
    data = Path(path).read_bytes()
    if problem := text_problem(data[:100]):
        raise ConverterError(f"{path}: {problem}")
    return data.decode("latin-1").splitlines()
