import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.engine.evaluator_check import check_preprocessing
from mammo_d2.engine.trainer import MammoTrainer


def window_config(model: str):
    cfg = load_config()
    cfg.INPUT.PREPROCESSING, cfg.MODEL.META_ARCHITECTURE = "breast_window", model
    return cfg


@pytest.mark.parametrize("model", ["GeneralizedRCNN", "DeepMIL", "WeaklySupervisedRCNN"])
def test_models_that_would_not_map_their_boxes_back(model):
    cfg = window_config(model)
    for check in (check_preprocessing, MammoTrainer.build_model):
        with pytest.raises(ValueError, match=f"INPUT.PREPROCESSING breast_window is for GMIC .*; {model} needs resize"):
            check(cfg)
    cfg.INPUT.PREPROCESSING = "resize"
    check_preprocessing(cfg)


@pytest.mark.parametrize("model", ["GMIC", "GMICEnsemble", "ResNet22Classifier"])
def test_models_that_do(model):
    check_preprocessing(window_config(model))
