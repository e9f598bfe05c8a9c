"""What fits the model, before a training: its evaluators, and what INPUT.PREPROCESSING makes of an image."""

from mammo_d2.evaluation.evaluators.registered import named_evaluators
from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, GeneralizedRCNN

_WORDS = {
    "instances": "boxes",
    "image_scores": "image scores",
    "saliency": "saliency maps",
    "lesion_scores": "scores of given lesions",
}

# Evaluators that keep an output, by its key; "regions" keeps the maps for the pictures.
_KEEPING = {
    "instances": ("coco", "froc"),
    "image_scores": ("image",),
    "saliency": ("saliency", "regions"),
    "lesion_scores": ("lesion",),
}


def check_evaluators(cfg: CfgNode) -> None:
    """Build the evaluators of every test set, and compare what they need with what the model gives.

    Evaluators without ``needs`` and models without ``gives`` (those of other code) are not compared.

    Args:
        cfg: the config; its test sets must be registered.

    Raises:
        ValueError: an unknown evaluator, an option that it does not take, or one that needs what the model of
            MODEL.META_ARCHITECTURE does not give.
    """
    given = model_gives(cfg)
    for dataset in cfg.DATASETS.TEST:
        needs = [(name, set(getattr(evaluator, "needs", ()))) for name, evaluator in named_evaluators(cfg, dataset)]
        for name, needed in needs:
            if given is None or needed <= given:
                continue
            fitting = [other for other, other_needs in needs if other_needs <= given]
            remedy = f'write TEST.EVALUATORS "{fitting}"' if fitting else "mammo_d2/config/keys.py lists the evaluators"
            raise ValueError(
                f"TEST.EVALUATORS names {name!r}, which needs {_in_words(needed - given)}; "
                f"{cfg.MODEL.META_ARCHITECTURE} (MODEL.META_ARCHITECTURE) as configured gives "
                f"{_in_words(given) or 'nothing that is evaluated'}: {remedy}"
            )


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


def evaluators_of_predictions(cfg: CfgNode) -> list[str]:
    """The evaluators that keep everything a model predicts (see ``evaluation/files/results.py``), for comparisons.

    Args:
        cfg: the config; of a model that does not say what it gives, its own TEST.EVALUATORS count.
    """
    given = model_gives(cfg)
    if given is None:
        return list(cfg.TEST.EVALUATORS)
    return [name for key, names in _KEEPING.items() if key in given for name in names]


def model_gives(cfg: CfgNode) -> set[str] | None:
    """Keys of the model's outputs that an evaluator may need; None if it does not say so."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if model is GeneralizedRCNN:  # of either engine
        return {"instances"}
    return model.gives(cfg) if hasattr(model, "gives") else None


def _in_words(keys: set[str]) -> str:
    return " and ".join(_WORDS.get(key, key) for key in sorted(keys))
