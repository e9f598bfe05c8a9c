"""What the aggregation network is trained on, kept on disk: saliency of images, embeddings of patches.

Both are found by the content of what they were made from: the image file, and the weights of the network.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from mammo_d2.core.array_files import load_array, load_arrays
from mammo_d2.core.files import atomic_write
from mammo_d2.data.breast.breast_window import view_in_name
from mammo_d2.data.lesions.patch_store import PatchStore
from mammo_d2.data.lesions.stored_epochs import StoredEpochs
from mammo_d2.data.loading.samplers import StreamSampler

# Patches in one file of embeddings; an interruption loses at most this many.
PART = 500
REMEDY = "delete it and run mammo-d2 train, which makes it again"

# Keeps the order of stored patches apart from the other streams of the seed.
_ORDER_STREAM = 2002


@contextmanager
def _own_write(path: Path, *, durable: bool = True) -> Iterator[IO]:
    """``atomic_write`` of a file that several processes may write: each writes its own and moves it into place."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with atomic_write(temporary, durable=durable) as file:
        yield file
    os.replace(temporary, path)


class SaliencyStore:
    """Saliency maps (C, h, w) of images, one small file each."""

    def __init__(self, folder: str | os.PathLike[str], network: str, images: PatchStore):
        """
        Args:
            folder: made when it is needed.
            network: fingerprint of the context network and of how it is used.
            images: identifies images by their content.
        """
        self.folder, self.images = Path(folder) / network, images

    def path(self, record: Mapping[str, Any]) -> Path:
        """File of a record's image with its laterality and view, which the context network takes, too."""
        named = view_in_name(str(record["file_name"]))
        facts = [str(record.get(key) or other or "") for key, other in zip(("laterality", "view"), named, strict=True)]
        parts = [self.images.key(record), *(re.sub(r"\W", "", fact) for fact in facts)]
        return self.folder / f"{'_'.join(parts).rstrip('_')}.npy"

    def put(self, record: Mapping[str, Any], saliency: np.ndarray) -> None:
        """Keep (C, h, w) float32 of a record's image."""
        # Two ranks may hold the same image under two names.
        with _own_write(self.path(record), durable=False) as file:
            np.save(file, saliency.astype(np.float32))

    def get(self, record: Mapping[str, Any]) -> torch.Tensor:
        """(C, h, w) float32 of a record's image.

        Raises:
            FileNotFoundError: it has not been made.
            ValueError: its file is damaged.
        """
        path = self.path(record)
        if not path.is_file():
            raise FileNotFoundError(
                f"image {record.get('image_id')!r}, {record['file_name']}: its saliency ({path}) is missing; run "
                "mammo-d2 train, which makes it first"
            )
        return torch.from_numpy(load_array(path, REMEDY))


class EmbeddingStore:
    """Embeddings of the N stored patches of a stream (``stored_epochs.py``): files of ``PART``, each whole or none."""

    def __init__(self, folder: str | os.PathLike[str], length: int):
        """
        Args:
            folder: of one stream and one patch network.
            length: N.
        """
        self.folder, self.length = Path(folder), length

    def missing(self) -> list[range]:
        """Rows of the parts that are not there yet."""
        return [part for part in self.parts() if not self._path(part).is_file()]

    def put(self, part: range, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a part: ``embedding`` (n, D), ``window`` (n, 4), ``patch_class`` (n,), ``source`` (n,)."""
        # Two jobs that share a folder and a patch network may make the same part at the same time.
        with _own_write(self._path(part)) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes them for allow_pickle

    def load(self) -> dict[str, np.ndarray]:
        """All parts joined.

        Raises:
            FileNotFoundError: a part has not been made.
            ValueError: the file of a part is damaged.
        """
        parts = [load_arrays(self._path(part), REMEDY) for part in self.parts()]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def parts(self) -> list[range]:
        """Rows of all parts."""
        return [range(begin, min(begin + PART, self.length)) for begin in range(0, self.length, PART)]

    def _path(self, part: range) -> Path:
        return self.folder / f"{part.start:07d}_{part.stop:07d}.npz"


class StoredPatchSampler(StreamSampler):
    """Epoch after epoch of the stored ones, each in a new order; after the last comes the first."""

    def __init__(self, stored: StoredEpochs, *, seed: int, **share: int):
        """
        Args:
            stored: the stored epochs.
            seed: of the order, ≥ 0.
            share: ``start``, ``rank``, ``world_size`` of ``StreamSampler``.
        """
        super().__init__(**share)
        self._stored, self._seed = stored, seed
        self._number, self._rows = -1, np.zeros(0, np.int64)

    def index_at(self, position: int) -> int:
        number, place = divmod(position, self._stored.length)
        if number != self._number:
            rng = np.random.default_rng([self._seed, _ORDER_STREAM, number])
            self._number, self._rows = number, rng.permutation(self._stored.rows_of(number))
        return int(self._rows[place])


class StoredPatchMapper:
    """Row of an ``EmbeddingStore`` -> training input of the aggregation network.

    The result has ``embedding`` (D,), ``window`` (4,), ``image_size`` (2,), ``patch_class``, ``image_id``,
    ``file_name`` and, if asked for, ``saliency`` (C, h, w).
    """

    def __init__(
        self, images: Sequence[Mapping[str, Any]], saliency: Callable[[Mapping[str, Any]], torch.Tensor] | None
    ):
        """
        Args:
            images: records, by the rows' ``image``.
            saliency: of a record; None: not asked for.
        """
        self.images, self.saliency = list(images), saliency

    def __call__(self, row: dict, rng: np.random.Generator | None = None) -> dict[str, Any]:
        record = self.images[row["image"]]
        sample = {
            "image_id": record["image_id"],
            "file_name": record["file_name"],
            "image_size": torch.tensor([record["height"], record["width"]]),
            "embedding": torch.from_numpy(row["embedding"]),
            "window": torch.from_numpy(row["window"]),
            "patch_class": int(row["patch_class"]),
        }
        if self.saliency is not None:
            sample["saliency"] = self.saliency(record)
        return sample
