"""Scalars of a run, collected under names with their history."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fvcore.common.history_buffer import HistoryBuffer

_open_storages: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """The innermost storage opened by ``with EventStorage(...)``, e.g. the trainer's.

    Raises:
        AssertionError: none is open (the type is the one that callers of detectron2 expect).
    """
    if not _open_storages:
        raise AssertionError("get_event_storage() works only inside 'with EventStorage(...)', e.g. during training")
    return _open_storages[-1]


class EventStorage:
    """Collects scalars (and images for TensorBoard) under names, each with its iteration."""

    def __init__(self, start_iter: int = 0):
        """
        Args:
            start_iter: the iteration of what is put first.
        """
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._latest: dict[str, tuple[float, int]] = {}
        self._smooth: dict[str, bool] = {}
        self._prefix = ""
        self._iter = start_iter
        self._images: list[tuple[str, Any, int]] = []

    @property
    def iter(self) -> int:
        """The current iteration; inside a trainer always the trainer's."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """Same as ``iter``."""
        return self._iter

    def step(self) -> None:
        """Advance the iteration by one, where no trainer does it."""
        self._iter += 1

    def put_scalar(self, name: str, value: float, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Add a value to the history of a scalar.

        Args:
            name: the scalar's name, prefixed by the open name scope.
            value: anything float() takes.
            smoothing_hint: whether the scalar is noisy and writers should show a median; the same for a name always.
            cur_iter: the iteration it belongs to; the current one by default.

        Raises:
            AssertionError: the name was put with the other smoothing hint before.
        """
        name = self._prefix + name
        value = float(value)
        iteration = self._iter if cur_iter is None else cur_iter
        self._history[name].update(value, iteration)
        self._latest[name] = (value, iteration)
        if self._smooth.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(f"scalar {name!r} was put with smoothing_hint={not smoothing_hint} before")

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **scalars: Any) -> None:
        """Add several scalars by keyword."""
        for name, value in scalars.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep an image, (3, H, W) RGB uint8 or float in 0..1, for the next TensorBoard write."""
        self._images.append((img_name, img_tensor, self._iter))

    def take_images(self) -> list[tuple[str, Any, int]]:
        """(name, image, iteration) of what was put since the last call."""
        taken, self._images = self._images, []
        return taken

    def history(self, name: str) -> HistoryBuffer:
        """History of one scalar. KeyError if it was never put."""
        if name not in self._history:
            raise KeyError(f"no scalar {name!r} was put; there are {', '.join(self._history) or 'none'}")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """Histories of all scalars."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Last value and its iteration, of every scalar."""
        return self._latest

    def smoothing_hints(self) -> dict[str, bool]:
        """Whether a scalar is noisy, by name."""
        return self._smooth

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As ``latest``, with the median of the last ``window_size`` iterations for noisy scalars."""
        shown = {}
        for name, (value, iteration) in self._latest.items():
            if self._smooth[name]:
                value = float(self._history[name].median(self.count_samples(name, window_size)))
            shown[name] = (value, iteration)
        return shown

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values a scalar got in the ``window_size`` iterations up to its last value."""
        values = self.history(name).values()
        oldest = values[-1][1] - window_size
        count = 0
        for _, iteration in reversed(values):
            if iteration <= oldest:
                break
            count += 1
        return count

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Prefix the names put inside with ``name/``."""
        outer, self._prefix = self._prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._prefix = outer

    def __enter__(self) -> "EventStorage":
        _open_storages.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        closed = _open_storages.pop()
        assert closed is self, "event storages must be closed in the reverse order of opening"
