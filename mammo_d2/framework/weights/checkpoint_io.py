"""Checkpoints on either engine: written as a whole, read safely, with a report of what was loaded."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlparse

import numpy as np
import torch
from fvcore.common.checkpoint import (
    Checkpointer,
    get_missing_parameters_message,
    get_unexpected_parameters_message,
)

from mammo_d2.core.files import atomic_write
from mammo_d2.framework.weights.shipped_models import local_weights
from mammo_d2.framework.weights.weight_files import read_weight_file
from mammo_d2.framework.weights.weight_names import (
    is_torchvision_resnet,
    match_by_ending,
    rename_caffe2,
    rename_torchvision_resnet,
    torchvision_mismatches,
)

logger = logging.getLogger(__name__)

_PLAIN_TYPES = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.dtype, torch.device, torch.Size)


class WeightsMismatchError(ValueError):
    """The weights of a file do not fit the model."""


@dataclass
class LoadReport:
    """Which weights of a file were loaded into the model.

    Attributes:
        path: the file.
        loaded: names of the model that got a value.
        missing: names of the model that the file lacks; they keep their initial values.
        unexpected: names of the file that the model lacks.
        mis_shaped: (name, shape in the file, shape in the model); they keep their initial values.
    """

    path: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mis_shaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether file and model have the same names and shapes."""
        return not (self.missing or self.unexpected or self.mis_shaped)

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {len(self.loaded)} loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mis_shaped)} of another shape"
        ]
        if self.missing:
            lines.append(get_missing_parameters_message(self.missing))
        if self.unexpected:
            lines.append(get_unexpected_parameters_message(self.unexpected))
        if self.mis_shaped:
            lines.append("Of another shape, not loaded:")
            lines += [
                f"  {name}: {in_file} in the file, {in_model} in the model"
                for name, in_file, in_model in self.mis_shaped
            ]
        return "\n".join(lines)


class SafeCheckpointing(Checkpointer):
    """Mixed into an engine's DetectionCheckpointer.

    * Files appear under their names only when they are whole; ``last_checkpoint`` is written after the file it names.
    * Only tensors and plain Python values are written, and only such files are read (see ``read_weight_file``).
    * Model zoo .pkl, torchvision ResNets and files that hold only a part of the model are matched to its names. A query
      "?matching_heuristics=True" after the file name asks for matching by the endings of names.
    * ``load_report`` tells what the last ``load`` did. With ``strict_weights``, and always when resuming, anything but
      an exact fit is an error.
    * ``on_saved`` is called with the path of every checkpoint that was written.
    """

    def __init__(self, model: torch.nn.Module, save_dir: str = "", *, strict_weights: bool = False, **kwargs: Any):
        """
        Args:
            model: the model.
            save_dir: folder of the checkpoints.
            strict_weights: loading raises WeightsMismatchError unless names and shapes are the model's.
            kwargs: ``save_to_disk`` and objects with a state, as for the engine's checkpointer.
        """
        super().__init__(model, save_dir, **kwargs)
        self.strict_weights = strict_weights
        self.load_report: LoadReport | None = None
        self.on_saved: Callable[[str], None] | None = None
        self._resuming = False
        self._match_endings = False

    # --- writing ------------------------------------------------------------------------------------------------
    def save(self, name: str, **kwargs: Any) -> None:
        """Write model, checkpointables and ``kwargs`` to save_dir/NAME.pth, then make it the last checkpoint.

        Raises:
            TypeError: something to save is neither a tensor nor a plain value.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **_plain({**states, **kwargs}, "checkpoint")}
        path = os.path.join(self.save_dir, f"{name}.pth")
        if os.path.basename(path) != f"{name}.pth":
            raise ValueError(f"checkpoint name {name!r} must not contain a folder")
        os.makedirs(self.save_dir, exist_ok=True)
        self.logger.info("Saving checkpoint to %s", path)
        with atomic_write(path) as file:
            torch.save(data, file)
        self.tag_last_checkpoint(f"{name}.pth")
        if self.on_saved is not None:
            self.on_saved(path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint that a resumed run continues from."""
        with atomic_write(os.path.join(self.save_dir, "last_checkpoint"), "w") as file:
            file.write(last_filename_basename)

    # --- reading ------------------------------------------------------------------------------------------------
    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Continue from the last checkpoint if ``resume`` and there is one, otherwise load weights from ``path``."""
        self._resuming = resume and self.has_checkpoint()
        try:
            return super().resume_or_load(path, resume=resume)
        finally:
            self._resuming = False

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load the model, and the checkpointables that are in the file.

        Args:
            path: local path, URL or registered prefix; empty: nothing is loaded.
            checkpointables: names of those to load; None: all.

        Returns:
            What else is in the file.

        Raises:
            FileNotFoundError, UnsafePickleError, ValueError: see ``read_weight_file``.
            OSError: weights that cannot be downloaded.
            WeightsMismatchError: no weight at all fits; or not all do and ``strict_weights`` is on or this is a resume.
            AmbiguousWeightError: names can be matched in more than one way.
        """
        if path:
            path, self._match_endings = _split_query(path)
            self.load_report = LoadReport(path)
            path = self._local(path)
            if not os.path.isfile(path):
                raise FileNotFoundError(f"{path} does not exist; check MODEL.WEIGHTS, or last_checkpoint when resuming")
        try:
            return super().load(path, checkpointables)
        finally:
            self._match_endings = False
            if hasattr(self, "_parsed_url_during_load"):
                self._parsed_url_during_load = None  # detectron2 asserts it at the next load

    def _local(self, path: str) -> str:
        """The file itself: a model of the package, or downloaded once where the path is an address."""
        path = local_weights(path)
        try:
            return self.path_manager.get_local_path(path)
        except OSError as error:
            if "://" not in path:
                raise
            raise OSError(
                f"{path} cannot be downloaded ({error}); fetch the file on another machine and name it with "
                'MODEL.WEIGHTS, or train from random weights with MODEL.WEIGHTS ""'
            ) from error

    def _load_file(self, f: str) -> dict[str, Any]:
        return read_weight_file(f)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        weights = checkpoint["model"]
        self._convert_ndarray_to_tensor(weights)
        shapes = {name: value.shape for name, value in self.model.state_dict().items()}
        checkpoint["model"] = self._to_model_names(
            weights,
            shapes,
            is_caffe2=checkpoint.pop("__author__", "") == "Caffe2",
            match_endings=bool(checkpoint.pop("matching_heuristics", False)) or self._match_endings,
        )
        names = set(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)

        report = self.load_report if self.load_report is not None else LoadReport("")
        report.mis_shaped = list(incompatible.incorrect_shapes)
        other_shape = {name for name, _, _ in report.mis_shaped}
        report.missing = [k for k in incompatible.missing_keys if k not in other_shape | {"pixel_mean", "pixel_std"}]
        report.unexpected = [k for k in incompatible.unexpected_keys if "anchor_generator.cell_anchors" not in k]
        report.loaded = sorted(names & set(shapes) - other_shape)
        return incompatible

    def _to_model_names(
        self, weights: Mapping[str, Any], shapes: Mapping[str, torch.Size], is_caffe2: bool, match_endings: bool
    ) -> dict[str, Any]:
        """The file's weights under the model's names, as far as these are known."""
        if all(name.startswith("module.") for name in weights):  # saved from a distributed wrapper
            weights = {name.removeprefix("module."): value for name, value in weights.items()}
        rename = getattr(self.model, "rename_weights", None)  # a model may read files of other programs
        if rename is not None:
            weights = rename(weights)
        if is_caffe2:
            weights = rename_caffe2(weights)
        elif is_torchvision_resnet(weights) and any(name.endswith("stem.conv1.weight") for name in shapes):
            weights, match_endings = rename_torchvision_resnet(weights), True
            for mismatch in torchvision_mismatches(self.model):
                logger.warning("These are weights of torchvision: %s", mismatch)
        if not match_endings and not any(name in shapes for name in weights):
            logger.info("No name of the file is a name of the model; matching by the endings of names")
            match_endings = True
        return match_by_ending(shapes, weights) if match_endings else dict(weights)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        report = self.load_report
        assert report is not None
        if not report.loaded:
            raise WeightsMismatchError(
                f"{report.path} holds the weights of another architecture: none of its {len(report.unexpected)} "
                f"tensors fits the model. Check MODEL.WEIGHTS and the config file it was trained with.\n{report}"
            )
        if report.is_exact:
            logger.info("%s: all %d weights fit", report.path, len(report.loaded))
        elif self._resuming:
            raise WeightsMismatchError(
                f"cannot resume: the checkpoint was written with another model configuration. Resume with the "
                f"config.yaml beside it, or start anew in another OUTPUT_DIR.\n{report}"
            )
        elif self.strict_weights:
            raise WeightsMismatchError(f"strict weights: not an exact fit.\n{report}")
        else:
            logger.warning("%s", report)


def _split_query(path: str) -> tuple[str, bool]:
    """A path and whether "?matching_heuristics=True" followed it."""
    url = urlparse(path)
    queries = parse_qs(url.query)
    match_endings = queries.pop("matching_heuristics", ["False"]) == ["True"]
    if queries:
        raise ValueError(f"{path}: unknown query {', '.join(queries)}; only ?matching_heuristics=True is known")
    return url._replace(query="").geturl(), match_endings


def _plain(value: Any, where: str) -> Any:
    """The value with numpy scalars as Python numbers; TypeError for what could not be read safely later."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, _PLAIN_TYPES):
        return value
    if isinstance(value, dict):
        plain = {key: _plain(item, f"{where}/{key}") for key, item in value.items()}
        unchanged = type(value).__module__ in ("builtins", "collections") and all(plain[k] is value[k] for k in value)
        return value if unchanged else plain
    if isinstance(value, list | tuple | set):
        return type(value)(_plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    raise TypeError(
        f"{where} is a {type(value).__name__}: a checkpoint holds tensors and plain Python values only, "
        f"so that it can be read without running code. Convert it in state_dict() and back in load_state_dict()"
    )
