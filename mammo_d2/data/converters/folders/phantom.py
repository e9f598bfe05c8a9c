"""Phantom mammograms: generated as DICOM with truth, then prepared like any DICOM folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mammo_d2.core.files import read_json
from mammo_d2.data.converters.folders.dicom_folder import DicomFolder
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.phantom import DICOM_FOLDER, TRUTH_FILE, PhantomConfig, write_phantom


class Phantom(DicomFolder):
    """Converter of a phantom set that is generated first, if it is not there yet.

    Identifiers are kept: they are nobody's.

    Args:
        config: of the generator.
        raw: folder for the DICOM files and the truth; a set of the same configuration found there is used as it is.
        workers: processes for generating.
        progress: show a progress bar.
        read_options: how files become pixels.
        name: of the data set.
    """

    name = "phantom"

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
        if _settings_of(truth) != config.to_dict():
            truth = write_phantom(config, raw, workers, progress)
        super().__init__(Path(raw) / DICOM_FOLDER, truth, read_options, keep_ids=True, name=name)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "phantom": self.config.to_dict()}


def _settings_of(truth: Path) -> dict[str, Any] | None:
    """The configuration that an existing set was made with; the truth is written last, so the set is whole."""
    try:
        return read_json(truth)["info"]["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
