"""Models that the package brings with it."""

import re

import pytest
import torch

from mammo_d2.framework import SafeCheckpointer
from mammo_d2.framework.weights import shipped_models
from mammo_d2.framework.weights.safetensors_files import read_safetensors, write_safetensors


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "small").mkdir()
    (tmp_path / "empty").mkdir()
    write_safetensors(tmp_path / "small" / shipped_models.WEIGHTS, {"weight": torch.full((1, 2), 0.5).half()})
    monkeypatch.setattr(shipped_models, "models_folder", lambda: tmp_path)
    return tmp_path


def test_a_model_by_name(models):
    assert shipped_models.model_names() == ["small"]
    assert shipped_models.find_model("small") == shipped_models.find_model("mammo_d2://small") == models / "small"


def test_its_weights_are_model_weights(models):
    network = torch.nn.Linear(2, 1, bias=False)
    SafeCheckpointer(network, strict_weights=True).load("mammo_d2://small")
    assert network.weight.tolist() == [[0.5, 0.5]]
    assert network.weight.dtype == torch.float32


def test_an_unknown_name(models):
    with pytest.raises(FileNotFoundError, match=r"no model mammo_d2://big; its models are: mammo_d2://small"):
        SafeCheckpointer(torch.nn.Linear(2, 1)).load("mammo_d2://big")


def test_the_packages_own_models():
    """Small, half precision, nothing of the machine that trained them, and a card that says what they are not for."""
    names = shipped_models.model_names()
    assert shipped_models.DEFAULT_MODEL.removeprefix(shipped_models.PREFIX) in names
    sizes = []
    for name in names:
        folder = shipped_models.find_model(name)
        sizes.append((folder / shipped_models.WEIGHTS).stat().st_size)
        kernels = [value for value in read_safetensors(folder / shipped_models.WEIGHTS).values() if value.ndim > 1]
        assert {value.dtype for value in kernels if value.is_floating_point()} == {torch.float16}
        config = (folder / shipped_models.CONFIG).read_text(encoding="utf-8")
        assert not re.search(r"(/home|/work|/root|/tmp)/", config)
        card = (folder / shipped_models.CARD).read_text(encoding="utf-8")
        for words in (f"mammo_d2://{name}", "no medical device", "## Data", "Licence", "## Results", "## Not for"):
            assert words in card
    assert max(sizes) <= 10e6
    assert sum(sizes) <= 25e6
