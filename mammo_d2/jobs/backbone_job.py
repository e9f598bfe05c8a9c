"""A training whose backbone is the start of other models.

Models of whole images that see one label an image, or few boxes, seldom find small lesions from random weights. This
job trains any model, such as a detector of all masses of the training images, and leaves its backbone by itself.
TwoStageJob with FIRST_STAGE.CONFIG, or "{weights:ROW}" in a comparison, takes that alone; heads start anew.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mammo_d2.core.files import atomic_write
from mammo_d2.framework import comm
from mammo_d2.framework.weights.weight_files import read_weight_file
from mammo_d2.jobs.job import JOB_REGISTRY, JobOptions
from mammo_d2.jobs.single_stage import SingleStageJob

#: In OUTPUT_DIR: the trained backbone, for MODEL.WEIGHTS of other models.
BACKBONE_WEIGHTS = "backbone.pth"

# Of a model's weights: the network below a feature pyramid, or the whole backbone.
_PREFIXES = ("backbone.bottom_up.", "backbone.")


@JOB_REGISTRY.register()
class BackboneJob(SingleStageJob):
    """Train MODEL.META_ARCHITECTURE as ever; what others start from is its backbone, without a feature pyramid."""

    def train(self, options: JobOptions) -> dict[str, Any] | None:
        """See ``Job``; also writes ``BACKBONE_WEIGHTS``.

        Raises:
            ValueError: the model has no backbone.
        """
        results = super().train(options)
        comm.synchronize()
        if comm.is_main_process():
            folder = Path(self.cfg.OUTPUT_DIR)
            write_backbone(backbone_weights(self.weights(folder)), folder)
        comm.synchronize()
        return results

    def is_finished(self, folder: Path) -> bool:
        """With the backbone's file, which is written last."""
        return super().is_finished(folder) and self.start_weights(folder).is_file()

    def start_weights(self, folder: Path) -> Path:
        """The backbone alone."""
        return folder / BACKBONE_WEIGHTS


def backbone_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a trained model's backbone by their names in it.

    Args:
        path: a checkpoint.

    Raises:
        ValueError: the model has no backbone.
    """
    weights = read_weight_file(str(path))["model"]
    for prefix in _PREFIXES:
        found = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if found:
            return found
    raise ValueError(f"{path}: the model has no backbone, so JOB BackboneJob has nothing to pass on")


def write_backbone(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write ``BACKBONE_WEIGHTS``: names that end those of any model with this backbone."""
    with atomic_write(os.fspath(folder / BACKBONE_WEIGHTS)) as file:
        torch.save({"model": dict(weights), "matching_heuristics": True}, file)
