"""Checks before a training that its evaluators can be built and that they fit the model."""

from mammo_d2.evaluation.evaluators.registered import named_evaluators
from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, GeneralizedRCNN

_WORDS = {
    "instances": "boxes",
    "image_scores": "image scores",
    "saliency": "saliency maps",
    "lesion_scores": "scores of given lesions",
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
    given = _given(cfg)
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


def _given(cfg: CfgNode) -> set[str] | None:
    """Keys of the model's outputs that an evaluator may need; None if it does not say so."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if model is GeneralizedRCNN:  # of either engine
        return {"instances"}
    return model.gives(cfg) if hasattr(model, "gives") else None


def _in_words(keys: set[str]) -> str:
    return " and ".join(_WORDS.get(key, key) for key in sorted(keys))
