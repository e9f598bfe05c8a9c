import json

import pytest

from benchmarks.train import Contender, _report
from mammo_d2.framework import ENGINE
from tests.conftest import ROOT

TINY = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP", "2", "MODEL.RESNETS.DEPTH", "50", "MODEL.FPN.OUT_CHANNELS", "8",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "8", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "INPUT.SIZE", "[64, 64]",
]  # fmt: skip


def test_ratios_are_medians_of_turns_against_the_first_contender(tmp_path, capsys):
    reference = Contender("a", "embedded", [], seconds=[1.0, 2.0, 4.0], losses=[2.0, 9.0], peak_mb=100.0)
    other = Contender("b", "embedded", [], seconds=[0.5, 2.0, 8.0], losses=[2.5, 9.0], peak_mb=50.0)
    figures = _report([reference, other], str(tmp_path / "figures.json"))
    assert figures["a"] == {
        "median_s": 2.0, "peak_mb": 100.0, "time_ratio": 1.0, "memory_ratio": 1.0, "first_loss_relative_difference": 0.0
    }  # fmt: skip
    # per turn 0.5, 1 and 2
    assert figures["b"]["time_ratio"] == 1.0
    assert figures["b"]["memory_ratio"] == 0.5
    assert figures["b"]["first_loss_relative_difference"] == pytest.approx(0.25)
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert "median s/step" in capsys.readouterr().out


@pytest.mark.slow
def test_contenders_with_shared_weights_have_the_same_first_loss(tmp_path):
    weights = str(tmp_path / "weights.pth")
    contenders = [Contender(name, ENGINE, []) for name in "ab"]
    answers = []
    try:
        for contender in contenders:
            contender.start(str(ROOT / "configs" / "top_likelihood" / "R101_FPN.yaml"), TINY, weights, threads=1)
            answers.append(contender.ask("step"))
    finally:
        for contender in contenders:
            if contender.process is not None:
                contender.process.kill()
    assert answers[0]["loss"] == pytest.approx(answers[1]["loss"], rel=1e-6)
    assert answers[0]["seconds"] > 0
    assert answers[0]["peak_mb"] > 100
