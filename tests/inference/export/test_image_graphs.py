"""The graphs of GMIC and DeepMIL give what the models give."""

import pytest
import torch

from mammo_d2.framework import build_model
from mammo_d2.inference.export.image_graphs import DeepMILGraph, GMICGraph
from tests.inference.export.small_models import deep_mil, gmic, image
from tests.modeling.gmic_models import gmic_cfg


def assert_same(graph, picture) -> dict:
    with torch.no_grad():
        found = dict(zip(graph.output_names, graph(picture), strict=True))
        expected = graph.expected(picture)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    return found


@pytest.mark.parametrize("fusion", ["average", "concat"])
@pytest.mark.parametrize("size", [(96, 64), (90, 50), (40, 28)], ids=["whole cells", "parts of cells", "below a patch"])
def test_gmic(size, fusion):
    found = assert_same(GMICGraph(gmic("MODEL.GMIC.FUSION", fusion)[0]), image(*size))
    assert {name: tuple(value.shape) for name, value in found.items() if name != "saliency"} == {
        "image_scores": (2,), "patches": (3, 4), "attention": (3,)
    }  # fmt: skip


def test_gmic_without_patches():
    assert list(assert_same(GMICGraph(gmic("MODEL.GMIC.VARIANT", "loc")[0]), image(96, 64))) == [
        "image_scores", "saliency"
    ]  # fmt: skip


def test_an_ensemble_has_the_patches_of_all_members():
    torch.manual_seed(1)
    model = build_model(gmic_cfg("MODEL.META_ARCHITECTURE", "GMICEnsemble", "MODEL.GMIC.ENSEMBLE", [0.1, 0.3])).eval()
    assert assert_same(GMICGraph(model), image(96, 64))["patches"].shape == (6, 4)


def test_background_is_not_skipped_in_the_graph():
    model, _ = gmic("MODEL.RESNET22.SKIP_BACKGROUND", True)
    graph, picture = GMICGraph(model), image(96, 64)
    picture[..., 20:] = 0
    assert_same(graph, picture)
    assert (model.backbone.skip_background, graph.model.backbone.skip_background) == (True, False)


def test_random_patches_are_refused():
    with pytest.raises(ValueError, match=r"MODEL\.GMIC\.VARIANT draws patches at random"):
        GMICGraph(gmic("MODEL.GMIC.VARIANT", "loc_random")[0])


@pytest.mark.parametrize("size", [(96, 64), (90, 51)])
@pytest.mark.parametrize(
    ("head", "names"), [("sparse", ["image_scores", "saliency"]), ("classifier", ["image_scores"])]
)
def test_deep_mil(head, names, size):
    model, _ = deep_mil(head)
    assert list(assert_same(DeepMILGraph(model, has_map=len(names) > 1), image(*size))) == names
