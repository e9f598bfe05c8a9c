"""Keys of mixed supervision are checked where a config is loaded."""

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import ConfigError


def test_defaults_change_nothing():
    cfg = load_config()
    assert (cfg.DATASETS.BOXES_FOR, cfg.DATALOADER.LABEL_ONLY_POSITIVES) == (1.0, "leave_out")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.BOXES_FOR", "25.0"], r"DATASETS\.BOXES_FOR is 25\.0; it must be a share from 0 to 1"),
        (["DATASETS.BOXES_SEED", "-1"], r"DATASETS\.BOXES_SEED is -1; it must not be negative"),
        (["DATALOADER.LABEL_ONLY_POSITIVES", "yes"], r"LABEL_ONLY_POSITIVES is 'yes'; use one of leave_out, use"),
        (["DATALOADER.LABEL_ONLY_SHARE", "1.0"], r"DATALOADER\.LABEL_ONLY_SHARE is 1\.0; .* less than 1"),
        (["MODEL.MIXED.LOSS", "mils"], r"MODEL\.MIXED\.LOSS is 'mils'; use one of mil, self, both, none"),
        (["MODEL.MIXED.POOLING", "mean2"], r"MODEL\.MIXED\.POOLING is 'mean2'; use one of max, mean, noisy_or"),
        (["MODEL.MIXED.SELF_OTHERS", "none"], r"MODEL\.MIXED\.SELF_OTHERS is 'none'; use one of background, ignore"),
        (["MODEL.MIXED.TOP_K", "0"], r"MODEL\.MIXED\.TOP_K is 0; it must be at least 1"),
        (["MODEL.MIXED.START_ITER", "-1"], r"MODEL\.MIXED\.START_ITER is -1; it must be at least 0"),
        (["MODEL.MIXED.MIL_WEIGHT", "-0.5"], r"MODEL\.MIXED\.MIL_WEIGHT is -0\.5; it must be at least 0"),
        (["MODEL.MIXED.SELF_IOU", "0.0"], r"MODEL\.MIXED\.SELF_IOU is 0\.0; it must be more than 0 and at most 1"),
        (
            ["DATALOADER.LABEL_ONLY_POSITIVES", "use"],
            r"GeneralizedRCNN \(MODEL\.META_ARCHITECTURE\) would learn positive images without boxes as negative ones; "
            r"set MODEL\.META_ARCHITECTURE to MixedSupervisionRCNN",
        ),
        (
            ["DATASETS.BOXES_FOR", "0.5", "JOB", "LesionContextJob"],
            r"DATASETS\.BOXES_FOR is 0\.5, but LesionContextJob needs the boxes of all lesions",
        ),
    ],
)
def test_bad_values(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config("", overrides)


def test_a_model_that_learns_from_labels_may_use_them():
    cfg = load_config("", ["DATALOADER.LABEL_ONLY_POSITIVES", "use", "MODEL.META_ARCHITECTURE", "MixedSupervisionRCNN"])
    assert cfg.DATALOADER.LABEL_ONLY_SHARE == 0.5
