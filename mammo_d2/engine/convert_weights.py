"""Other programs' checkpoints as this package's weight files: the body of tools/convert_weights.py."""

from pathlib import Path

import torch

from mammo_d2.atomic import atomic_write
from mammo_d2.engine.setup import load_config
from mammo_d2.framework import SafeCheckpointer, build_model

GMIC_CONFIG = [
    *("MODEL.META_ARCHITECTURE", "GMIC", "MODEL.BACKBONE.NAME", "ResNet22", "MODEL.GMIC.FUSION", "concat"),
    *("MODEL.PIXEL_MEAN", "[0.0]", "MODEL.PIXEL_STD", "[1.0]", "MODEL.DEVICE", "cpu"),
    *("DATASETS.CATEGORIES", "['benign', 'malignant']"),
]


def convert_gmic(source: str | Path, target: str | Path) -> int:
    """Write a released GMIC checkpoint under this package's parameter names.

    The whole model is made and the file loaded into it, so that every name and shape is checked.

    Args:
        source: the released file.
        target: ``{"model": weights}``, readable as MODEL.WEIGHTS of configs/gmic/.

    Returns:
        Number of tensors written.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a tensor is missing, has another shape, or is not known.
    """
    model = build_model(load_config("", GMIC_CONFIG))
    SafeCheckpointer(model, strict_weights=True).load(str(source))
    weights = model.state_dict()
    with atomic_write(target) as file:
        torch.save({"model": weights}, file)
    return len(weights)
