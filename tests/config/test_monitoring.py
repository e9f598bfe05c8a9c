"""Keys of TensorBoard pictures and trackers are checked where a config is loaded."""

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import ConfigError


def test_nothing_is_tracked_by_default():
    cfg = load_config()
    assert (cfg.TEST.TENSORBOARD_IMAGES, cfg.TRACKER.NAME) == (0, "")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["TEST.TENSORBOARD_IMAGES", "-1"], r"TEST\.TENSORBOARD_IMAGES is -1; it must not be negative"),
        (["TRACKER.NAME", "mlfow"], r"TRACKER\.NAME is 'mlfow'; use one of mlflow, wandb, or leave it empty"),
        (["TRACKER.NAME", "mlflow", "TRACKER.PROJECT", " "], r"TRACKER\.PROJECT is empty; name the project of mlflow"),
        (
            ["TRACKER.NAME", "wandb", "TRACKER.URI", "http://x"],
            r"TRACKER\.URI is 'http://x', which only the tracker ml",
        ),
        (["TRACKER.URI", "mlruns"], r"TRACKER\.NAME is ''"),
    ],
)
def test_bad_values(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config("", overrides)


def test_a_tracker_with_its_store():
    cfg = load_config("", ["TRACKER.NAME", "mlflow", "TRACKER.URI", "sqlite:///runs.db"])
    assert (cfg.TRACKER.PROJECT, cfg.TRACKER.URI) == ("mammo_d2", "sqlite:///runs.db")
