import pytest
import torch

from mammo_d2.framework import SafeCheckpointer, build_model
from tests.modeling.gmic_models import gmic_cfg, gmic_input, gmic_model

ENSEMBLE = ("MODEL.META_ARCHITECTURE", "GMICEnsemble", "MODEL.GMIC.ENSEMBLE", [0.1, 0.5])


@pytest.fixture(scope="module")
def ensemble():
    torch.manual_seed(1)
    return build_model(gmic_cfg(*ENSEMBLE)).eval()


def test_mean_of_the_members(ensemble):
    record = gmic_input(seed=3)
    with torch.no_grad():
        output = ensemble([record])[0]
        alone = []
        for number, fraction in enumerate((0.1, 0.5)):
            member = gmic_model("MODEL.GMIC.TOP_FRACTION", fraction).eval()
            member.load_state_dict(ensemble.members[number].state_dict())
            alone.append(member([record])[0])
    for name, score in output["image_scores"].items():
        assert score == pytest.approx(sum(one["image_scores"][name] for one in alone) / 2, rel=1e-5)
    torch.testing.assert_close(output["saliency"], (alone[0]["saliency"] + alone[1]["saliency"]) / 2)
    assert output["patches"].tolist() == [*alone[0]["patches"].tolist(), *alone[1]["patches"].tolist()]
    assert output["attention"].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("overrides", [("MODEL.GMIC.FUSION", "average"), ("MODEL.GMIC.VARIANT", "loc")])
def test_one_file_serves_both_fusions_and_every_variant(overrides, tmp_path):
    whole = build_model(gmic_cfg(*ENSEMBLE, "MODEL.GMIC.FUSION", "concat"))
    torch.save({"model": whole.state_dict()}, tmp_path / "ensemble.pth")
    part = build_model(gmic_cfg(*ENSEMBLE, *overrides))
    SafeCheckpointer(part, strict_weights=True).load(str(tmp_path / "ensemble.pth"))
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in part.state_dict().items())


def test_a_third_members_weights_are_reported(ensemble, tmp_path):
    weights = {**ensemble.state_dict(), "members.2.saliency_head.weight": torch.zeros(1)}
    torch.save({"model": weights}, tmp_path / "ensemble.pth")
    with pytest.raises(ValueError, match=r"members\.2"):
        SafeCheckpointer(ensemble, strict_weights=True).load(str(tmp_path / "ensemble.pth"))


def test_is_not_trained(ensemble):
    with pytest.raises(ValueError, match="train GMIC models and join them"):
        ensemble.losses(torch.zeros(1, 1, 96, 64), [gmic_input()])


def test_needs_members():
    with pytest.raises(ValueError, match="ENSEMBLE is empty"):
        build_model(gmic_cfg("MODEL.META_ARCHITECTURE", "GMICEnsemble", "MODEL.GMIC.ENSEMBLE", []))
