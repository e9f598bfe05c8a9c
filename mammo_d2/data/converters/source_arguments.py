"""Arguments of ``mammo-d2 prepare`` that several converters share."""

from __future__ import annotations

import argparse
from pathlib import Path

from mammo_d2.data.reading.image_meta import ReadOptions


def add_source_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """The argument --source."""
    parser.add_argument("--source", type=Path, required=True, help=what)


def add_read_arguments(parser: argparse.ArgumentParser) -> None:
    """How DICOM files become pixels."""
    read = parser.add_argument_group("DICOM pixels")
    read.add_argument("--voi", choices=("auto", "none", "window", "lut"), default="auto",
                      help="VOI transformation; auto: the file's LUT, else its window, else none")  # fmt: skip
    read.add_argument("--voi-by-vendor", nargs="*", default=[], metavar="VENDOR=VOI",
                      help="other choices for manufacturers whose name contains VENDOR, e.g. fuji=none")  # fmt: skip
    read.add_argument(
        "--frame", type=int, default=None, help="frame of multi-frame files, from 0 (none: such files fail)"
    )
    read.add_argument("--for-processing", action="store_true", help="read FOR PROCESSING (raw) images too")


def read_options(args: argparse.Namespace) -> ReadOptions:
    """The options that ``add_read_arguments`` describes.

    Raises:
        ValueError: --voi-by-vendor is not VENDOR=VOI.
    """
    pairs = []
    for text in args.voi_by_vendor:
        vendor, _, voi = text.partition("=")
        if not vendor or not voi:
            raise ValueError(f"--voi-by-vendor {text!r} must be VENDOR=VOI, e.g. fuji=none")
        pairs.append((vendor, voi))
    return ReadOptions(args.voi, tuple(pairs), frame=args.frame, for_processing=args.for_processing)
