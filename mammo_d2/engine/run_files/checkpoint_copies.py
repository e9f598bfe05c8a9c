"""Copies of a training's checkpoints in object storage, from which it goes on where its own disk is lost."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from mammo_d2.core.files import atomic_write
from mammo_d2.engine.run_files.run_folder import LAST_CHECKPOINT

logger = logging.getLogger(__name__)


class CheckpointCopies:
    """The folder ``<address>/<name of the output folder>`` of any storage that fsspec knows."""

    def __init__(self, address: str, output_dir: Path):
        """
        Args:
            address: SOLVER.CHECKPOINT_COPY, e.g. "s3://bucket/run7".
            output_dir: OUTPUT_DIR of the training; stages of a job have folders of their own.

        Raises:
            ValueError: fsspec does not know the address's protocol.
            ImportError: the package of the protocol, such as s3fs, is missing; the message names it.
        """
        import fsspec.core  # comes with torch

        self._output_dir = output_dir
        self.address = f"{address.rstrip('/')}/{output_dir.resolve().name}"
        try:
            found: tuple[Any, str] = fsspec.core.url_to_fs(self.address)
        except ValueError as error:
            raise ValueError(f"SOLVER.CHECKPOINT_COPY is {address!r}: {error}") from error
        self._storage, self._root = found

    def put(self, path: str) -> None:
        """Copy a checkpoint, then name it the last one. What fails is logged: the training goes on."""
        name = Path(path).name
        try:
            self._storage.makedirs(self._root, exist_ok=True)
            self._storage.put_file(path, f"{self._root}/{name}")
            self._storage.pipe_file(f"{self._root}/{LAST_CHECKPOINT}", name.encode())
        except Exception as error:  # of any storage
            logger.error(
                "%s could not be copied to %s (%s: %s); the training goes on, and the next checkpoint is tried again",
                path, self.address, type(error).__name__, error,
            )  # fmt: skip

    def fetch(self) -> Path | None:
        """Get the last checkpoint for an output folder that has none.

        Returns:
            The file; None if the folder has a checkpoint, or the storage has none.

        Raises:
            ValueError: the storage names something else than a checkpoint.
            OSError: the storage cannot be read.
        """
        pointer = self._output_dir / LAST_CHECKPOINT
        if pointer.is_file():
            return None
        try:
            name = self._storage.cat_file(f"{self._root}/{LAST_CHECKPOINT}").decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return None
        if Path(name).name != name or not name.endswith(".pth") or "\\" in name:
            raise ValueError(f"{self.address}/{LAST_CHECKPOINT} names {name!r:.80}, which is no checkpoint; correct it")
        target = self._output_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{name}.part")
        self._storage.get_file(f"{self._root}/{name}", str(partial))
        os.replace(partial, target)
        with atomic_write(pointer, "w") as file:
            file.write(name)
        logger.info("%s is the last checkpoint of %s", target, self.address)
        return target
