"""Evaluators that a model is not for, and whether models give what they say."""

import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.evaluation.evaluators.registered import EVALUATOR_REGISTRY
from mammo_d2.framework import META_ARCH_REGISTRY, DatasetEvaluator, GeneralizedRCNN, build_model
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset
from tests.jobs.lesion.lesion_jobs import run as run_lesion_job
from tests.jobs.lesion.lesion_jobs import write_job

READ = {"instances", "image_scores", "saliency", "lesion_scores"}


def quickstart(name, **overrides):
    """Config of a quickstart without weights to start from."""
    settings = {"MODEL.WEIGHTS": "", "MODEL.DEVICE": "cpu", **overrides}
    pairs = [item for pair in settings.items() for item in pair]
    return load_config(str(ROOT / f"configs/quickstart/phantom_{name}.yaml"), pairs)


CLASSIFIER = quickstart("deep_mil", **{"MODEL.DEEP_MIL.HEAD": "classifier"})
RESNET = quickstart("gmic", **{"MODEL.META_ARCHITECTURE": "ResNet22Classifier"})
BIRADS = quickstart("gmic", **{"MODEL.META_ARCHITECTURE": "ResNet22Classifier", "MODEL.CLASSIFIER.TARGET": "birads"})


def picture(cfg):
    return {"image": torch.rand(1, 96, 64) * 255, "height": 96, "width": 64, "image_id": 1}


def lesion(cfg):
    side = cfg.MODEL.LESION.PATCH_SIZE
    windows = {"windows": torch.tensor([[0.0, 0.0, side, side]]), "window_lesion": torch.tensor([0])}
    return {"patches": torch.zeros(1, 1, side, side), **windows, "num_lesions": 1}


@pytest.mark.parametrize(
    ("cfg", "make", "expected"),
    [
        (quickstart("gmic"), picture, {"instances", "image_scores", "saliency"}),
        (RESNET, picture, READ - {"lesion_scores"}),
        (quickstart("deep_mil"), picture, {"instances", "image_scores", "saliency"}),
        (CLASSIFIER, picture, {"image_scores"}),
        (quickstart("dual_branch"), picture, {"instances", "image_scores"}),
        (
            quickstart("lesion_context", **{"MODEL.META_ARCHITECTURE": "LesionPatchClassifier"}),
            lesion,
            {"lesion_scores"},
        ),
    ],
    ids=lambda value: value.MODEL.META_ARCHITECTURE if hasattr(value, "MODEL") else "",
)
def test_models_give_what_they_say(cfg, make, expected):
    model = build_model(cfg).eval()
    assert type(model).gives(cfg) == expected
    with torch.inference_mode():
        output = model([make(cfg)])[0]
    said = READ & set(output)
    if "instances" in output and not len(output["instances"]):
        said.discard("instances")
    assert said <= expected
    assert expected <= set(output)


def checked(tmp_path, cfg, *names):
    write_dataset(tmp_path)
    cfg.DATASETS.ROOT, cfg.DATASETS.TEST, cfg.TEST.EVALUATORS = str(tmp_path), ("toy_train",), list(names)
    register_datasets(cfg)
    check_evaluators(cfg)


@pytest.mark.parametrize(
    ("cfg", "names", "expected"),
    [
        (quickstart("top_likelihood"), ["coco", "image", "froc"], ["'image'", "gives boxes", "['coco', 'froc']"]),
        (quickstart("top_likelihood"), ["lesion"], ["'lesion'", "scores of given lesions", "mammo_d2/config/keys.py"]),
        (CLASSIFIER, ["image", "froc"], ["'froc'", "boxes", "DeepMIL"]),
        (
            BIRADS,
            ["image"],
            ["'image'", "nothing that is evaluated"],
        ),
        (quickstart("lesion_context"), ["coco", "lesion"], ["'coco'", "LesionContextClassifier", "['lesion']"]),
    ],
)
def test_evaluators_that_the_model_is_not_for(tmp_path, cfg, names, expected):
    with pytest.raises(ValueError, match=r"TEST\.EVALUATORS names ") as error:
        checked(tmp_path, cfg, *names)
    for part in (*expected, "MODEL.META_ARCHITECTURE"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "overrides", [("TEST.EVALUATORS", "['coco']"), ("MODEL.LESION.CONTEXT_STAGE", "['TEST.EVALUATORS', ['coco']]")]
)
def test_a_lesion_job_is_looked_at_before_its_first_stage(tmp_path, overrides):
    folder = write_job(tmp_path)
    with pytest.raises(
        ValueError, match=r"names 'coco', which needs boxes; Lesion\w+Classifier .* gives scores of given"
    ):
        run_lesion_job(folder, *overrides)
    assert not list((folder / "out").rglob("*.npy"))  # no saliency


def test_fitting_evaluators_and_those_of_other_code_pass(tmp_path):
    checked(tmp_path, quickstart("top_likelihood"), "coco", "voc", "froc", "patient", "regions")
    checked(tmp_path, quickstart("dual_branch"), "image", "froc_classified")

    class Count(DatasetEvaluator):
        pass

    class Other(GeneralizedRCNN):
        """May give anything."""

    EVALUATOR_REGISTRY._do_register("count", lambda cfg, name, folder: Count())
    META_ARCH_REGISTRY._do_register("Other", Other)
    try:
        checked(tmp_path, quickstart("gmic"), "count")
        checked(tmp_path, quickstart("top_likelihood", **{"MODEL.META_ARCHITECTURE": "Other"}), "saliency", "image")
    finally:
        EVALUATOR_REGISTRY._obj_map.pop("count")
        META_ARCH_REGISTRY._obj_map.pop("Other")
