"""Exported files give the model's results without the package; they tell what they take and give."""

import json
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.inference.export import exported_model as exporting
from tests.conftest import ROOT
from tests.inference.export.small_models import c4_detector, deep_mil, detector, detector_cfg, gmic, image


class _Predictor:
    """What ``describe`` reads of a Predictor."""

    classes = ("benign", "malignant")
    preparation = Preparation()

    def __init__(self, cfg):
        self.cfg = cfg


@pytest.fixture(scope="module", params=[pytest.param(".onnx", marks=pytest.mark.slow), ".ts"])
def suffix(request):
    if request.param == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
    return request.param


MODELS = {
    "detector": (lambda: (detector(), detector_cfg()), (160, 136)),
    "c4_detector": (lambda: (c4_detector(), detector_cfg()), (64, 48)),
    "gmic": (lambda: gmic("MODEL.GMIC.FUSION", "concat"), (90, 50)),
    "deep_mil": (lambda: deep_mil("sparse"), (90, 51)),
}


@pytest.fixture(scope="module")
def captured():
    """``captured(name)``: the graph of a model and, but for detectors in TorchScript, its capture; made once."""
    graphs, programs = {}, {}

    def capture(name: str, traced: bool = False):
        make, size = MODELS[name]
        if name not in graphs:
            graphs[name] = exporting.graph_of(*make())
        if not traced and name not in programs:
            programs[name] = exporting.capture(graphs[name], size, any_size=name == "detector")
        return graphs[name], programs.get(name)

    return capture


@pytest.fixture(scope="module")
def exported(captured, suffix, tmp_path_factory):
    """``exported(name)``: the graph of a model, its file and the file's runner. The detector takes any size."""
    files = {}

    def export(name: str):
        if name not in files:
            graph, program = captured(name, traced=suffix == ".ts" and "detector" in name)
            path = tmp_path_factory.mktemp("exported") / f"{name}{suffix}"
            facts = {"outputs": dict.fromkeys(graph.output_names, "")}
            if suffix == ".onnx":
                exporting.write_onnx(program, graph, facts, path)
            else:
                source = graph if graph.takes_any_size else program.module()
                exporting.write_torchscript(source, MODELS[name][1], facts, path)
            files[name] = graph, path, exporting.load_exported(path)
        return files[name]

    return export


class TestDetector:
    @pytest.mark.parametrize("size", [(160, 136), (256, 208), (203, 181), (129, 300)])
    def test_of_any_size(self, exported, size):
        graph, _, runner = exported("detector")
        counts = [exporting.compare(runner, graph, image(*size, seed)).entries for seed in range(2)]
        assert min(counts) > 0

    def test_of_one_size_with_res5_heads(self, exported):
        graph, _, runner = exported("c4_detector")
        counts = [exporting.compare(runner, graph, image(64, 48, seed)).entries for seed in range(4)]
        assert min(counts) > 0

    @pytest.mark.parametrize("name", ["detector", "c4_detector"])
    def test_an_image_without_boxes(self, exported, name):
        _, _, runner = exported(name)
        pixels = torch.full((1, 1, *MODELS[name][1]), torch.nan)  # no score is above the threshold
        found = runner(pixels.numpy())
        assert {key: value.shape for key, value in found.items()} == {"boxes": (0, 4), "scores": (0,), "classes": (0,)}

    def test_onnx_tells_its_sizes_and_no_paths(self, exported, suffix):
        if suffix != ".onnx":
            pytest.skip("ONNX only")
        import onnx

        for name, shape in (("c4_detector", [1, 1, 64, 48]), ("detector", [1, 1, "height", "width"])):
            _, path, _ = exported(name)
            model = onnx.load(path)
            onnx.checker.check_model(model)
            sides = model.graph.input[0].type.tensor_type.shape.dim
            assert [side.dim_param or side.dim_value for side in sides] == shape
            assert [entry.key for entry in model.metadata_props] == ["mammo_d2"]
            content = path.read_bytes()
            assert str(ROOT).encode() not in content
            assert b"site-packages" not in content

    def test_torchscript_holds_its_facts(self, exported, suffix):
        if suffix != ".ts":
            pytest.skip("TorchScript only")
        _, path, _ = exported("detector")
        with zipfile.ZipFile(path) as archive:
            facts = next(archive.read(name) for name in archive.namelist() if name.endswith("extra/mammo_d2"))
        assert list(json.loads(facts)["outputs"]) == ["boxes", "scores", "classes"]


def test_gmic(exported):
    graph, _, runner = exported("gmic")
    for seed in range(3):  # other images have their patches in other places
        agreement = exporting.compare(runner, graph, image(90, 50, seed))
        assert list(agreement.difference) == ["image_scores", "saliency", "patches", "attention"]


def test_deep_mil(exported):
    graph, _, runner = exported("deep_mil")
    assert list(exporting.compare(runner, graph, image(90, 51)).difference) == ["image_scores", "saliency"]


def test_facts_of_a_file(captured):
    graph, _ = captured("detector", traced=True)
    facts = json.loads(json.dumps(exporting.describe(_Predictor(detector_cfg()), graph, (160, 136), any_size=True)))
    assert facts["classes"] == ["benign", "malignant"]
    assert facts["input"]["shape"] == [1, 1, "height", "width"]
    assert facts["input"]["intensity"] == "bit_depth"
    assert list(facts["outputs"]) == ["boxes", "scores", "classes"]
    assert exporting.describe(_Predictor(detector_cfg()), graph, (160, 136), False)["input"]["shape"] == [
        1,
        1,
        160,
        136,
    ]


class TestErrors:
    def test_a_file_that_gives_other_results(self, captured):
        graph, _ = captured("detector", traced=True)
        picture = image(160, 136)
        with torch.no_grad():
            right = {name: value.numpy() for name, value in graph.expected(picture).items()}
        exporting.compare(lambda pixels: right, graph, picture)
        with pytest.raises(ValueError, match=r"scores of the exported file differ .* by up to 0\.001"):
            exporting.compare(lambda pixels: {**right, "scores": right["scores"] + 1e-3}, graph, picture)
        with pytest.raises(ValueError, match="gives classes of shape"):
            exporting.compare(lambda pixels: {**right, "classes": np.zeros(0, np.int64)}, graph, picture)

    def test_sizes(self, captured):
        graph, _ = captured("detector", traced=True)
        with pytest.raises(ValueError, match="between 128 and 8192"):
            exporting.capture(graph, (100, 200), any_size=True)
        model, cfg = gmic()
        with pytest.raises(ValueError, match="only detectors"):
            exporting.capture(exporting.graph_of(model, cfg), (160, 160), any_size=True)

    def test_models_without_a_graph(self):
        cfg = detector_cfg("MODEL.META_ARCHITECTURE", "LesionPatchClassifier")
        with pytest.raises(ValueError, match="LesionPatchClassifier cannot be exported; GeneralizedRCNN, "):
            exporting.graph_of(nn.Identity(), cfg)

    def test_suffixes(self, tmp_path):
        with pytest.raises(ValueError, match=r"model\.pt: the suffix says the format"):
            exporting.export_format(tmp_path / "model.pt")

    def test_a_missing_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnx", None)
        with pytest.raises(ModuleNotFoundError, match="onnx"):
            exporting.check_extra()
