"""The manifest of a prepared data set: with which versions and parameters it was made, and what came out."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mammo_d2 import __version__
from mammo_d2.data.converters.converter import Converter
from mammo_d2.data.prepare.image import FORMAT_VERSION

_PACKAGES = ("numpy", "opencv-python-headless", "pydicom", "imagecodecs", "scikit-learn", "pycocotools")


def describe_origin(converter: Converter) -> dict[str, Any]:
    """What the images came from, and the versions that prepare them: the manifest's part that no option says."""
    return {
        "dataset": converter.name,
        "format_version": FORMAT_VERSION,
        "versions": {"mammo_d2": __version__, "python": platform.python_version(), **_versions()},
        "converter": converter.parameters(),
        "read": asdict(converter.read_options),
    }


def make_manifest(origin: Mapping[str, Any], options: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """The manifest's content.

    Args:
        origin: of ``describe_origin``.
        options: the run's options as a dict.
        results: counts, hashes of the annotation files, duplicates.
    """
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"dataset": origin["dataset"], "created": created, **origin, "options": options, **results}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
