"""``import mammo_d2`` and ``mammo_d2.evaluation``: the stable names, and when the components are registered."""

import importlib
import os
import subprocess
import sys

import pytest

import mammo_d2
import mammo_d2.evaluation
from tests.conftest import ROOT

# Written down again on purpose: to take one out breaks somebody's program.
STABLE = {
    *("BACKBONE_REGISTRY", "EVALUATOR_REGISTRY", "JOB_REGISTRY", "META_ARCH_REGISTRY", "PROPOSAL_GENERATOR_REGISTRY"),
    *("ROI_HEADS_REGISTRY", "MammoTrainer", "Predictor", "__version__", "add_mammo_config", "find_config"),
    *("build_test_loader", "build_train_loader", "load_config", "register_datasets"),
}
STABLE_EVALUATION = {
    *("PRESETS", "BootstrapPlan", "DetectionTable", "EvaluationData", "FrocRule", "HitRule", "ImageTable"),
    *("LesionTable", "Preset", "StudyOptions", "System", "average_precision", "bootstrap", "coco_average_precision"),
    *("delong_interval", "delong_test", "detection_average_precision", "froc_curve", "froc_events", "get_preset"),
    *("level_cases", "load_detections", "load_ground_truth", "load_image_scores", "paired_comparison"),
    *("partial_auc_ratio", "percentile_interval", "roc_auc", "roc_curve", "run_study", "score_table"),
    *("sensitivity_at", "sensitivity_at_specificity", "specificity_at_sensitivity", "summarize_froc"),
    *("wilson_interval",),
}


def python(code: str, **environment: str) -> str:
    """Output of code in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("package", "names"), [("mammo_d2", STABLE), ("mammo_d2.evaluation", STABLE_EVALUATION)])
def test_the_stable_names(package, names):
    module = importlib.import_module(package)
    assert set(module.__all__) == names
    assert names <= set(dir(module))
    for name in names - {"__version__"}:
        value = getattr(module, name)
        assert getattr(value, "__module__", "mammo_d2").split(".")[0] in ("mammo_d2", "detectron2", "fvcore")


def test_metrics_without_torch():
    code = "import sys; sys.modules['torch'] = None\n"
    code += "from mammo_d2 import evaluation; print(len([getattr(evaluation, name) for name in evaluation.__all__]))"
    assert python(code, MAMMO_D2_ENGINE="embedded") == str(len(STABLE_EVALUATION))


def test_a_name_registers_the_components_of_the_embedded_engine():
    code = """
import sys, mammo_d2
assert "torch" not in sys.modules
registry = mammo_d2.META_ARCH_REGISTRY
print(all(name in registry for name in ("GMIC", "DeepMIL", "WeaklySupervisedRCNN")))
"""
    assert python(code, MAMMO_D2_ENGINE="embedded") == "True"


@pytest.mark.detectron2
@pytest.mark.parametrize("order", ["mammo_d2, detectron2.modeling", "detectron2.modeling, mammo_d2"])
def test_detectron2_knows_the_components_after_the_import(order):
    """Of a component that needs no config key of ours, nothing but the import can have registered it."""
    code = f"import {order}; from detectron2.modeling import BACKBONE_REGISTRY as backbones; "
    code += "print('build_vgg_m_backbone' in backbones)"
    assert python(code, MAMMO_D2_ENGINE="auto") == "True"


def test_names_for_type_checkers_are_those_at_run_time():
    """The imports under TYPE_CHECKING name the modules that ``__getattr__`` imports from."""
    import ast
    from pathlib import Path

    for package in (mammo_d2, mammo_d2.evaluation):
        tree = ast.parse(Path(package.__file__).read_text())
        block = next(node for node in tree.body if isinstance(node, ast.If))
        named = {alias.name: node.module for node in block.body for alias in node.names}
        assert set(named) == set(package.__all__) - {"__version__"}
        for name, module in named.items():
            assert getattr(importlib.import_module(module), name) is getattr(package, name)
