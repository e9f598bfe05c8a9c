"""Ways from stored pixels to network pixels other than scaling and resizing (``INPUT.PREPROCESSING``)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mammo_d2.data.breast.breast_window import BreastWindow
from mammo_d2.data.breast.window_transform import WindowTransform
from mammo_d2.framework import CfgNode, Registry

PREPROCESSING_REGISTRY = Registry("PREPROCESSING")
PREPROCESSING_REGISTRY.__doc__ = """
Other ways from stored pixels to network pixels than scaling and resizing, by the name used in INPUT.PREPROCESSING.

An entry is called as ``builder(cfg)`` and returns ``f(pixels (h, w), facts) -> ((H, W) float32, WindowTransform)``,
where the facts are a record's or a file's ``laterality``, ``view`` and ``file_name``.
"""

Preprocessing = Callable[[np.ndarray, Mapping[str, Any]], tuple[np.ndarray, WindowTransform]]


@PREPROCESSING_REGISTRY.register()
def breast_window(cfg: CfgNode) -> Preprocessing:
    """The breast in full resolution on a canvas of INPUT.SIZE, standardised (GMIC)."""
    height, width = cfg.INPUT.SIZE
    return BreastWindow((height, width), cfg.INPUT.WINDOW.EROSION, cfg.INPUT.WINDOW.MARGIN)


def build_preprocessing(cfg: CfgNode) -> Preprocessing | None:
    """The preprocessing named by INPUT.PREPROCESSING; None for "resize".

    Whether the model can map its boxes back is checked where the model is built (``engine/evaluator_check.py``).

    Raises:
        ValueError: an unknown name, or an augmentation of grey levels.
    """
    name = cfg.INPUT.PREPROCESSING
    if name != "breast_window":
        for key, value in (
            ("INPUT.WINDOW.RANDOM_SHIFT", cfg.INPUT.WINDOW.RANDOM_SHIFT),
            ("TEST.WINDOWS.SHIFT", cfg.TEST.WINDOWS.SHIFT),
        ):
            if value:
                raise ValueError(
                    f"{key} is {value}, but INPUT.PREPROCESSING is {name}: only the breast_window is shifted: set it "
                    "to 0 (INPUT.AUG.SHIFT shifts every training image)"
                )
    if name == "resize":
        return None
    if name not in PREPROCESSING_REGISTRY:
        known = ", ".join(["resize", *sorted(key for key, _ in PREPROCESSING_REGISTRY)])
        raise ValueError(f"INPUT.PREPROCESSING {name!r} is unknown; choose one of {known}")
    changed = [key for key in ("BRIGHTNESS", "CONTRAST", "GAMMA") if cfg.INPUT.AUG[key]]
    if changed:
        raise ValueError(
            f"INPUT.AUG.{changed[0]} is {cfg.INPUT.AUG[changed[0]]}: it works on grey levels of 0 to 255, which "
            f"INPUT.PREPROCESSING {name} does not give; set it to 0"
        )
    return PREPROCESSING_REGISTRY.get(name)(cfg)
