"""Iterations that follow from epochs."""

import pytest

from mammo_d2.config.epochs import evaluates_on_the_way, num_evaluations, resolve_epochs
from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import ConfigError
from tests.conftest import ROOT

EPOCHS = ["SOLVER.EPOCHS", "40", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.STEPS", "[]"]


def resolved(*overrides: str, images: float = 1000.0):
    cfg = load_config("", [*EPOCHS, *overrides])
    cfg.freeze()
    text = resolve_epochs(cfg, lambda: images)
    assert cfg.is_frozen()
    return cfg, text


def test_everything_follows_from_epochs():
    cfg, text = resolved(
        "SOLVER.STEP_EPOCHS", "[20, 30.5]", "SOLVER.WARMUP_EPOCHS", "0.5", "SOLVER.CHECKPOINT_EPOCHS", "2",
        "TEST.EVAL_EPOCHS", "1", "TEST.LOSS_EPOCHS", "4",
    )  # fmt: skip
    assert cfg.SOLVER.MAX_ITER == 40 * 250
    assert list(cfg.SOLVER.STEPS) == [5000, 7625]
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.CHECKPOINT_PERIOD) == (125, 500)
    assert (cfg.TEST.EVAL_PERIOD, cfg.TEST.LOSS_PERIOD) == (250, 1000)
    assert text.startswith(
        "SOLVER.EPOCHS 40: an epoch has 1000 images, 250 iterations of 4 images; SOLVER.MAX_ITER 10000,"
    )
    again = cfg.clone()
    resolve_epochs(again, lambda: 1000.0)  # that of a run stays as it is
    assert again == cfg
    assert num_evaluations(cfg) == 40 == num_evaluations(load_config("", [*EPOCHS, "TEST.EVAL_EPOCHS", "1"]))


def test_an_epoch_is_rounded_up_and_accumulated_batches_are_one_iteration():
    assert resolved(images=1001.0)[0].SOLVER.MAX_ITER == 40 * 251
    assert resolved("SOLVER.ACCUMULATE", "5")[0].SOLVER.MAX_ITER == 40 * 50
    assert resolved(images=1.0)[0].SOLVER.MAX_ITER == 40


def test_without_epochs_nothing_changes():
    cfg = load_config("", ["TEST.EVAL_EPOCHS", "2"])
    before = cfg.clone()
    assert resolve_epochs(cfg, lambda: pytest.fail("not needed")) == ""
    assert cfg == before
    assert not evaluates_on_the_way(cfg)
    assert num_evaluations(cfg) == 1
    assert num_evaluations(load_config("", ["SOLVER.MAX_ITER", "10", "TEST.EVAL_PERIOD", "4"])) == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["SOLVER.MAX_ITER", "100"],
            r"SOLVER.MAX_ITER is 100, but SOLVER.EPOCHS 40 at 250 iterations an epoch are 10000: they contradict each "
            r"other. Set SOLVER.MAX_ITER 0 to count epochs, or SOLVER.EPOCHS 0 to count iterations",
        ),
        (
            ["TEST.EVAL_EPOCHS", "2", "TEST.EVAL_PERIOD", "7"],
            r"TEST.EVAL_PERIOD is 7, .* are 500: .* or TEST.EVAL_EPOCHS 0 to count iterations",
        ),
        (
            ["SOLVER.STEP_EPOCHS", "[3]", "SOLVER.STEPS", "[9]"],
            r"SOLVER.STEPS is [\[(]9.*are \(750,\): .* Set SOLVER.STEPS \(\) .* SOLVER.STEP_EPOCHS \"\[\]\" to count",
        ),
    ],
)
def test_contradictions(overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolved(*overrides)
    assert resolved("SOLVER.MAX_ITER", "0")[0].SOLVER.MAX_ITER == 10000


def test_negative_epochs_are_refused_at_loading():
    with pytest.raises(ConfigError, match=r"SOLVER.EPOCHS is -1; epochs must not be negative"):
        load_config("", ["SOLVER.EPOCHS", "-1"])
    with pytest.raises(ConfigError, match=r"SOLVER.STEP_EPOCHS is \[2, -3\]"):
        load_config("", ["SOLVER.STEP_EPOCHS", "[2, -3]"])


def test_gmics_paper_counts_epochs():
    """40 epochs of 20,000 exams of four images in batches of four are 800,000 iterations, not 100,000."""
    cfg = load_config(str(ROOT / "configs/gmic/GMIC.yaml"))
    resolve_epochs(cfg, lambda: 80000.0)
    assert (cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD) == (800000, 20000, 20000)
