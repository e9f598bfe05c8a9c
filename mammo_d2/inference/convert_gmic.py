"""Convert released GMIC checkpoints to this package's weight files (``mammo-d2 convert-weights``)."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mammo_d2.config.loading import load_config
from mammo_d2.core.files import atomic_write
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.modeling.meta_arch.gmic_ensemble import member_prefix

GMIC_CONFIG = [
    *("MODEL.META_ARCHITECTURE", "GMIC", "MODEL.BACKBONE.NAME", "ResNet22", "MODEL.GMIC.FUSION", "concat"),
    *("MODEL.PIXEL_MEAN", "[0.0]", "MODEL.PIXEL_STD", "[1.0]", "MODEL.DEVICE", "cpu"),
    *("DATASETS.CATEGORIES", "['benign', 'malignant']"),
]

# Overrides of a trained model's or an ensemble's config: one model, with all weights from the file.
SINGLE = ["MODEL.META_ARCHITECTURE", "GMIC", "MODEL.DEVICE", "cpu", "MODEL.GMIC.PATCH_WEIGHTS", ""]


def convert_gmic(sources: Sequence[str | Path], target: str | Path, config_file: str = "") -> int:
    """Write released GMIC checkpoints under this package's parameter names, or join trained GMICs to an ensemble.

    Each file is loaded into a complete model, which checks every name and shape.

    Args:
        sources: released files or files of this package. One file gives the weights of a GMIC, several files those of a
            GMICEnsemble with the files as members, in this order.
        target: output file, ``{"model": weights}``, usable as MODEL.WEIGHTS of configs/gmic/.
        config_file: config of the models; empty: that of the released models.

    Returns:
        Number of tensors written.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: not a usable config.
        ValueError: a tensor is missing, unknown, or has another shape.
    """
    cfg = load_config(config_file, SINGLE) if config_file else load_config("", GMIC_CONFIG)
    model = build_model(cfg)
    weights = {}
    for number, source in enumerate(sources):
        SafeCheckpointer(model, strict_weights=True).load(str(source))
        prefix = member_prefix(number) if len(sources) > 1 else ""
        weights.update({prefix + name: value.clone() for name, value in model.state_dict().items()})
    with atomic_write(target) as file:
        torch.save({"model": weights}, file)
    return len(weights)
