"""A training whose backbone other models start from."""

import pytest
import torch

from mammo_d2.jobs.backbone_job import BACKBONE_WEIGHTS, backbone_weights, write_backbone


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["backbone.bottom_up.stem.w", "backbone.fpn_output3.w", "roi_heads.w"], ["stem.w"]),
        (["backbone.stem.w", "proposal_generator.w"], ["stem.w"]),
    ],
    ids=["pyramid", "plain"],
)
def test_the_backbone_without_pyramid_and_heads(tmp_path, names, expected):
    weights = {name: torch.tensor([float(number)]) for number, name in enumerate(names)}
    torch.save({"model": weights, "iteration": 3}, tmp_path / "model_final.pth")
    found = backbone_weights(tmp_path / "model_final.pth")
    assert {name: value.item() for name, value in found.items()} == dict.fromkeys(expected, 0.0)
    write_backbone(found, tmp_path)
    stored = torch.load(tmp_path / BACKBONE_WEIGHTS, weights_only=True)
    assert list(stored["model"]) == expected
    assert stored["matching_heuristics"] is True


def test_a_model_without_backbone(tmp_path):
    torch.save({"model": {"head.w": torch.zeros(1)}}, tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match=r"model_final\.pth: the model has no backbone"):
        backbone_weights(tmp_path / "model_final.pth")
