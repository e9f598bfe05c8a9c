"""torch.compile leaves the outputs; which networks it takes. (Folding is tested with what else leaves the outputs.)"""

import shutil
import sysconfig
from pathlib import Path
from unittest import mock

import pytest
import torch

from mammo_d2.framework import build_model
from mammo_d2.modeling.fold_norm import compile_networks, fold_norms
from tests.modeling.gmic_models import gmic_cfg, gmic_input, gmic_model

HAS_COMPILER = (
    any(map(shutil.which, ("g++", "clang++", "c++"))) and Path(sysconfig.get_path("include"), "Python.h").is_file()
)


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def assert_same(found: dict, expected: dict) -> None:
    torch.testing.assert_close(found["saliency"], expected["saliency"], rtol=0, atol=1e-6)
    assert found["image_scores"] == pytest.approx(expected["image_scores"], abs=1e-6)


def test_the_graphs_give_the_outputs_of_the_modules():
    """What torch.compile traces, run without code generation: needs no compiler."""
    plain, compiled = gmic_model().eval(), gmic_model().eval()
    fold_norms(compiled)
    names = list(compiled.state_dict())
    counts = {}

    def backend(graph, inputs):
        counts["graphs"] = counts.get("graphs", 0) + 1
        return graph.forward

    assert compile_networks(compiled, backend) == ["backbone", "patch_net"]
    for seed in (1, 2):
        with torch.inference_mode():
            expected, found = plain([gmic_input(seed=seed)])[0], compiled([gmic_input(seed=seed)])[0]
        torch.testing.assert_close(found["saliency"], expected["saliency"], rtol=0, atol=1e-5)
        assert found["image_scores"] == pytest.approx(expected["image_scores"], abs=1e-5)
        assert found["patches"].tolist() == expected["patches"].tolist()
    assert counts["graphs"] == 2  # one whole graph each, the second image takes the first one's
    assert list(compiled.state_dict()) == names


@pytest.mark.slow
@pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler with the headers of Python")
def test_compiled_code_gives_the_outputs_of_the_modules(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    small = ("MODEL.RESNET22.STRIDES", [2], "MODEL.GMIC.VARIANT", "loc")
    plain, compiled = gmic_model(*small).eval(), gmic_model(*small).eval()
    with mock.patch("torch._inductor.config.compile_threads", 1):  # a pool of processes takes longer to start
        assert compile_networks(compiled) == ["backbone"]
        with torch.inference_mode():
            assert_same(compiled([gmic_input(seed=1)])[0], plain([gmic_input(seed=1)])[0])


def test_every_member_of_an_ensemble():
    ensemble = build_model(gmic_cfg("MODEL.META_ARCHITECTURE", "GMICEnsemble", "MODEL.GMIC.ENSEMBLE", [0.1, 0.5]))
    assert compile_networks(ensemble, "eager") == [
        "members.0.backbone", "members.0.patch_net", "members.1.backbone", "members.1.patch_net",
    ]  # fmt: skip


def test_a_backbone_that_leaves_out_background_stays_as_it_is():
    model = gmic_model("MODEL.RESNET22.SKIP_BACKGROUND", True).eval()
    with mock.patch("mammo_d2.modeling.fold_norm.logger") as logger:
        assert compile_networks(model, "eager") == ["patch_net"]
    assert logger.warning.call_args.args[1] == "backbone"
