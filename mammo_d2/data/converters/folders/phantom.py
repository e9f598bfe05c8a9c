"""Phantom mammograms: generated as DICOM with truth, then prepared like any DICOM folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from mammo_d2.core.files import read_json
from mammo_d2.data.converters.converter import DryRun
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.folders.dicom_folder import DicomFolder
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.phantom import DICOM_FOLDER, TRUTH_FILE, PhantomConfig, write_phantom


@register_converter
class Phantom(DicomFolder):
    """Converter of a phantom set that is generated first, if it is not there yet.

    Identifiers are kept: they belong to no person.

    Args:
        config: of the generator.
        raw: folder for the DICOM files and the truth; a set of the same configuration found there is used as it is.
        workers: processes for generating.
        progress: show a progress bar.
        read_options: how files become pixels.
        name: of the data set.
    """

    name = "phantom"
    command = "phantom"
    summary = "generate and prepare synthetic mammograms"
    description = "Generate synthetic four-view screening exams as DICOM with truth, and prepare them."

    def __init__(
        self,
        config: PhantomConfig,
        raw: str | os.PathLike[str],
        workers: int = 1,
        progress: bool = True,
        read_options: ReadOptions | None = None,
        name: str = "phantom",
    ) -> None:
        truth = Path(raw) / TRUTH_FILE
        self.config = config
        made = _settings_of(truth)
        # A set made before a field was added has the field's default.
        if made is None or {**PhantomConfig().to_dict(), **made} != config.to_dict():
            truth = write_phantom(config, raw, workers, progress)
        super().__init__(Path(raw) / DICOM_FOLDER, truth, read_options, keep_ids=True, name=name)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        parser.add_argument("--patients", type=int, default=40, help="number of patients, four views each")
        parser.add_argument("--seed", type=int, default=0, help="of the generator")
        fields = "other fields of PhantomConfig, e.g. rows=416 cols=320 contrast_scale=0.8"
        parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help=fields)
        parser.add_argument("--raw", type=Path, help="folder for the DICOM files and truth.json [OUT/raw]")

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Phantom:
        """See the base class."""
        settings = {"n_patients": args.patients, "seed": args.seed}
        for text in args.set:
            name, _, value = text.partition("=")
            if not value:
                raise ValueError(f"--set {text!r} must be FIELD=VALUE, e.g. rows=416")
            try:
                settings[name] = yaml.safe_load(value)
            except (yaml.YAMLError, RecursionError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ValueError(f"--set {text[:80]!r}: the value is not plain YAML ({reason})") from error
        config = PhantomConfig.from_dict(settings)
        if args.dry_run:
            raise DryRun(f"would make {config.n_patients} patients: {config.to_dict()}")
        return cls(config, args.raw or args.out / "raw", max(args.workers, 1), not args.quiet, name=args.out.name)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "phantom": self.config.to_dict()}


def _settings_of(truth: Path) -> dict[str, Any] | None:
    """The configuration that an existing set was made with; the truth is written last, so the set is whole."""
    try:
        return read_json(truth)["info"]["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
