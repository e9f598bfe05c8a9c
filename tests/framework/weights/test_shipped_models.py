"""Models that the package brings with it."""

import pytest
import torch

from mammo_d2.framework import SafeCheckpointer
from mammo_d2.framework.weights import shipped_models
from mammo_d2.framework.weights.safetensors_files import write_safetensors


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
