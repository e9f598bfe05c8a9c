"""BI-RADS assessments as data sets write them, and the labels that follow where there is no pathology."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

from mammo_d2.data.converters.converter import Converter
from mammo_d2.data.converters.label_rules import UNKNOWN, LabelRule, rule
from mammo_d2.data.converters.source_arguments import read_options
from mammo_d2.data.reading.image_meta import ReadOptions

_GRADE = re.compile(r"^(?:BI-?RADS)?\s*([0-6])\s*([abc]?)$", re.IGNORECASE)

# From this assessment on a finding counts as malignant where a data set has no pathology: the papers on INbreast take
# 4, 5 and 6 as positive.
MALIGNANT_FROM = 4
#: As rules and ``parse_birads`` write them; those of grade 4 may have a letter.
GRADES = ("0", "1", "2", "3", "4", "5", "6")
#: For ``Converter.label_facts``.
GRADE_FACT = {"birads": ("", *GRADES, "4A", "4B", "4C")}


def parse_birads(text: str) -> tuple[int, str] | None:
    """The grade and how it is written in short, e.g. "BI-RADS 4" -> (4, "4"), "4a" -> (4, "4A"); None if blank.

    Raises:
        ValueError: text that is no assessment.
    """
    text = text.strip()
    if not text:
        return None
    match = _GRADE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no BI-RADS assessment; expected 0 to 6, with a, b or c after 4")
    return int(match[1]), match[1] + match[2].upper()


def birads_findings(malignant_from: int = MALIGNANT_FROM, incomplete: str = UNKNOWN) -> list[LabelRule]:
    """Rows for findings: malignant from that grade on, else benign; without a grade unknown.

    Args:
        malignant_from: least grade that counts as malignant.
        incomplete: what a finding of grade 0 is, which says neither.
    """
    return [
        rule("malignant", birads=GRADES[malignant_from:]),
        rule("benign", birads=GRADES[1:malignant_from]),
        rule(incomplete, birads=("0",)),
        rule(UNKNOWN, birads=("",)),
    ]


def birads_breasts(malignant_from: int = MALIGNANT_FROM) -> list[LabelRule]:
    """Rows for breasts and images: 1 is normal; below ``malignant_from`` benign; 0 and none are unknown."""
    return [
        rule("malignant", birads=GRADES[malignant_from:]),
        rule("benign", birads=GRADES[2:malignant_from]),
        rule("normal", birads=("1",)),
        rule(UNKNOWN, birads=("0", "")),
    ]


class AssessedConverter(Converter):
    """A converter whose labels follow from BI-RADS assessments, because the data set has no pathology."""

    def __init__(
        self,
        source: str | os.PathLike[str],
        malignant_from: int = MALIGNANT_FROM,
        read_options: ReadOptions | None = None,
    ) -> None:
        super().__init__(source, read_options)
        self.malignant_from = malignant_from

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        super().add_arguments(parser)
        parser.add_argument("--malignant-from", type=int, choices=(3, 4, 5, 6), default=MALIGNANT_FROM,
                            help="least BI-RADS that counts as malignant")  # fmt: skip

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> AssessedConverter:
        """See the base class."""
        return cls(args.source, args.malignant_from, read_options(args))

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "malignant_from": self.malignant_from}
