"""Whether the model can take what ``INPUT.PREPROCESSING`` makes of an image."""

from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode


def check_preprocessing(cfg: CfgNode) -> None:
    """Compare INPUT.PREPROCESSING with the model: other ways than "resize" need one that maps its boxes back.

    Raises:
        ValueError: the model of MODEL.META_ARCHITECTURE does not (``takes_network_transform``); or TEST.WINDOWS is for
            a model that does not average (``averages_windows``).
    """
    name, model = cfg.INPUT.PREPROCESSING, cfg.MODEL.META_ARCHITECTURE
    if name != "resize" and not getattr(META_ARCH_REGISTRY.get(model), "takes_network_transform", False):
        raise ValueError(f"INPUT.PREPROCESSING {name} is for GMIC and the ResNet-22 classifier; {model} needs resize")
    if cfg.TEST.WINDOWS.COUNT > 1 and not getattr(META_ARCH_REGISTRY.get(model), "averages_windows", False):
        raise ValueError(
            f"TEST.WINDOWS.COUNT is {cfg.TEST.WINDOWS.COUNT}, but {model} does not average windows; set COUNT 1, SHIFT "
            "0 and NOISE 0.0"
        )
